# make test: everything that a change has to pass, with all of its own set-up. The other targets are parts of it.

.PHONY: test setup format lint licences unit schemathesis fuzz demo

test: setup format lint licences unit

setup:
	./tests/setup.sh

format:
	cargo fmt --all --check

lint:
	cargo clippy --all-targets -- -D warnings

licences:
	cargo deny --log-level error check licenses bans sources

unit:
	./tests/run.sh

# The running program against its own OpenAPI document; outside make test, since it fetches a Python tool.
EXAMPLES ?= 50

schemathesis:
	./tests/schemathesis/run.sh $(EXAMPLES)

# Every fuzz target for so many seconds, one after the other; FUZZ names some of them.
FUZZ_SECONDS ?= 3600
FUZZ ?= payload query cursor walk config phone

fuzz:
	./fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ)

demo:
	cargo run --release -- demo

# make test: everything that a change has to pass, with all of its own set-up. The other targets are parts of it.

.PHONY: test setup format lint licences unit demo

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

demo:
	cargo run --release -- demo

# make test: everything that a change has to pass, with all of its own set-up. The other targets are parts of it.

.PHONY: test setup format lint licences deploy unit nodes soak schemathesis fuzz bench demo

test: setup format lint licences deploy unit

setup:
	./tests/setup.sh

format:
	cargo fmt --all --check

# Also as plain `cargo test` has it.
lint:
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --features failpoints -- -D warnings

licences:
	cargo deny --log-level error check licenses bans sources

# Everything in deploy/ that a tool can check; NAME of one check to run it alone: make deploy CHECKS=systemd
CHECKS =

deploy:
	./deploy/check.sh $(CHECKS)

unit:
	./tests/run.sh

# The server killed again and again under load, and every operation of database, store and spool broken in turn. A failure
# tells the SEED with which it can be run again. OPERATIONS may be a number.
SEED =
ROUNDS = 200
OPERATIONS = all
AT_ONCE = 4

soak:
	SOAK_SEED=$(SEED) SOAK_ROUNDS=$(ROUNDS) SOAK_OPERATIONS=$(OPERATIONS) SOAK_AT_ONCE=$(AT_ONCE) \
		cargo test --features failpoints --test it -- --nocapture --test-threads 1 soak:: operations::

# Three nodes on one PostgreSQL and one bucket, while nodes, gateway and database die and come back at random.
CALLS ?= 5000

nodes:
	NODES_CALLS=$(CALLS) NODES_SEED=$(SEED) ./tests/run.sh nodes::

# The running program against its own OpenAPI document; outside make test, since it fetches a Python tool.
EXAMPLES ?= 50

schemathesis:
	./tests/schemathesis/run.sh $(EXAMPLES)

# Every fuzz target for so many seconds, one after the other; FUZZ names some of them.
FUZZ_SECONDS ?= 3600
FUZZ ?= payload query cursor walk config phone

fuzz:
	./fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ)

# Every bench beside what it is compared with; writes the table of docs/PERFORMANCE.md. Wants a machine of its own.
bench:
	./benches/run.sh

demo:
	cargo run --release -- demo

# Two commands matter: `make demo` shows what Turnback does, `make test` proves it. The rest serves those who change it.
# Every target looks for what it needs and installs what is missing (Debian or Ubuntu, as root); see deploy/setup/.

.DEFAULT_GOAL := help
.PHONY: fuzz help demo build test test-crash test-intake test-kafka-tls check image measure-idle bench-detection bench-detect-path bench-speed bench-ingest setup-build setup-test setup-check
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Outside the clone, so that a fresh clone builds in seconds once another one has been built.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/turnback/target
# Two jobs: linking more at once costs memory and gains little where two cores are all there is.
export CARGO_BUILD_JOBS ?= 2
# Tests mostly wait for servers and for time to pass: six at once on two cores, not two.
export RUST_TEST_THREADS ?= 6
# A rustup that was installed a minute ago is not yet on the shell's path.
export PATH := $(HOME)/.cargo/bin:$(PATH)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="..." is handed on, for example: make demo ARGS="--scenario healthy"'

demo: build ## a bad deployment on this computer, found and rolled back before your eyes
	"$$CARGO_TARGET_DIR/debug/turnback" demo $(ARGS)

build: setup-build ## the program, for this computer
	cargo build --locked -p agent --bin turnback

test: setup-build setup-test ## every test, against real servers that the tests start themselves
	cargo test --workspace --locked --no-fail-fast $(ARGS) 2>&1 | deploy/check/count-tests.awk

test-crash: setup-build setup-test ## every crash at every boundary of every action, some 10 minutes, a line for each
	cargo test -p tests --locked --test it crash:: -- --ignored --nocapture --test-threads=1 $(ARGS)

check: setup-build setup-check ## format, lints, documentation, dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	deploy/check/dependencies.sh

image: ## the container image, built and tried (ARGS="--host PROGRAM" takes a program of this computer, without a registry)
	deploy/docker/image.sh $(ARGS)

measure-idle: setup-build ## start-up time and memory of the idle daemon, against their limits
	cargo build --release --locked -p agent --bin turnback
	deploy/measure/idle.sh "$$CARGO_TARGET_DIR/release/turnback"

bench-detection: setup-build ## how often judges roll back what is healthy, and how soon what is not, peers beside
	cargo build --release --locked -p simulations
	time "$$CARGO_TARGET_DIR/release/simulations" bench $(ARGS)

bench-detect-path: setup-build setup-test ## who knows first of a bad release: Alertmanager or Turnback, on the same scrapes
	cargo test -p tests --locked --test quiet detect_path:: -- --ignored --nocapture --test-threads=1 $(ARGS)

bench-speed: setup-build ## what a look costs on one core and how much a signal remembers, against their limits
	cargo bench --locked -p simulations --bench speed -- $(ARGS)

bench-ingest: setup-build setup-test ## events a second that are kept for good, over HTTP, Kafka and NATS, and the memory that takes
	cargo build --release --locked -p agent --bin turnback
	cargo run --locked -p tests --bin bench-ingest -- "$$CARGO_TARGET_DIR/release/turnback" $(ARGS)

test-intake: setup-build setup-test ## 100,000 events over Kafka and over NATS while the agent is killed 20 times and the broker restarts
	cargo test -p tests --locked --test it intake::chaos -- --ignored --nocapture --test-threads=1 $(ARGS)

test-kafka-tls: setup-build setup-test ## Kafka behind TLS with SCRAM: a build with the system's OpenSSL, against a real broker
	@deploy/setup/packages.sh kafka-tls
	cargo test -p tests --locked --features kafka-tls --test it intake::kafka_tls -- --nocapture $(ARGS)

fuzz: setup-build ## everything that outsiders reach, 60 s for each entry (ARGS="600 hooks" for longer, and for one)
	deploy/setup/fuzz.sh
	deploy/check/fuzz.sh $(ARGS)

setup-build: ## what building needs
	@deploy/setup/packages.sh build
	@deploy/setup/rust.sh

setup-test: ## what the tests need
	@deploy/setup/packages.sh test
	@deploy/setup/tools.sh
	@deploy/setup/pm2.sh
	@deploy/setup/kafka.sh
	@deploy/setup/kubernetes.sh

setup-check: ## what the checks need
	@deploy/setup/packages.sh check
	@deploy/setup/rust.sh rustfmt clippy

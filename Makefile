# Everything that is done with this repository. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX  ?= /usr/local
DESTDIR ?=

# A host triple only of the machines that .cargo/config.toml builds statically for.
TRIPLE  := $(shell uname -m)-unknown-linux-gnu
CARGO   ?= cargo
RELEASE := target/$(TRIPLE)/release

# What the tests must not pass over. Set to 0 to let tests skip on a machine that lacks something.
export BERTH_TEST_STRICT ?= 1

##@ Build

build: ## the release binary, static and stripped, as target/berth
	$(CARGO) build --locked --release --bin berth --target $(TRIPLE)
	@install -m 755 $(RELEASE)/berth target/berth.new && mv target/berth.new target/berth

install: build ## target/berth into DESTDIR/PREFIX/bin
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 target/berth "$(DESTDIR)$(PREFIX)/bin/berth"

clean: ## remove all that was built, with the test machine's image and the peers
	$(CARGO) clean

##@ See it

demo: build ## run a container made of this repository and show from inside what is isolated (root)
	@$(CARGO) build --locked --quiet --release --example inside --target $(TRIPLE)
	@integration/demo/run target/berth $(RELEASE)/examples/inside

##@ Check

lint: ## formatting, and clippy with warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# In the order in which a failure is found soonest.
TEST_STEPS := test-dependencies test-unit test-libseccomp test-integration test-engines vm-test-v2 vm-test-v1

test: $(TEST_STEPS) ## everything; installs what it needs (root)

test-steps:
	@echo $(TEST_STEPS)

test-dependencies: ## Debian packages that the tests need and that are missing (root)
	@integration/dependencies

test-unit: ## what is pure, without root
	$(CARGO) test --locked --lib --bins

# Not --locked: its lock file names berth's own dependencies too, and would be wrong after each change of them.
test-libseccomp: ## our seccomp filters decide as libseccomp's do
	cd libseccomp-tests && CARGO_TARGET_DIR="$(CURDIR)/target/libseccomp" $(CARGO) test

# The time limits of the suite are those of a machine that does nothing else; several tests run at once here.
test-integration: ## real containers on this machine's cgroups, and on cgroup2 alone (root)
	BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-3} $(CARGO) test --locked --test integration

test-engines: build ## berth under containerd, and README's example as it is written (root)
	integration/engines/ctr target/berth
	integration/readme target/berth

# The binary that ships is tested there; the one with overflow checks was tested on the host. Emulation is
# slower by BERTH_TEST_SLOW than the real processor, which is what every time limit is multiplied by. There is
# systemd, and every right: the machine's only excuse is that a test is about the other cgroup version.
vm-test: vm-test-v2 vm-test-v1 ## the integration suite in a booted Debian with systemd, on cgroup v2 and on v1 (root)

# Words of names; all tests without.
TESTS ?=

# Not phony: make would not match a pattern for a phony name; no file has these names.
vm-test-%: build
	$(CARGO) test --locked --test integration --no-run 2>target/tests.log || { cat target/tests.log; exit 1; }
	@suite=$$(sed -n 's|.*Executable integration/main.rs (\(.*\))|\1|p' target/tests.log); \
	payload=target/$(TRIPLE)/debug/payload; \
	BERTH_TEST_EXPECTED_SKIPS="only on cgroup" BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-8} BERTH="$(CURDIR)/target/berth" BERTH_TEST_PAYLOAD="$(CURDIR)/$$payload" \
	integration/vm/run $* --file "$$suite" --file target/berth --file "$$payload" -- "$(CURDIR)/$$suite --layout host $(TESTS)"

# Containers of each run: by the file system on this machine's cgroups and on cgroup2 alone; and in the
# test's machine by systemd too.
SOAK ?= 2000

soak: build ## 2,000 containers, four at a time, each through its whole life: nothing may be left (root)
	BERTH="$(CURDIR)/target/berth" BERTH_SOAK=$(SOAK) BERTH_TEST_SLOW=60 $(CARGO) test --locked --test integration -- soak::

vm-soak: export BERTH_SOAK := $(SOAK)
vm-soak: export BERTH_TEST_SLOW := 240
vm-soak: export VM_TIMEOUT := 30000
vm-soak: ## the same by systemd, in the machine of vm-test on cgroup v2; takes hours (root)
	$(MAKE) vm-test-v2 TESTS=soak::

##@ Measure

# 50 rounds and more give the figures that are quoted; fewer show whether all still runs.
BENCH_ROUNDS ?= 50

bench: build target/bench/floor target/bench/launch target/bench/true ## berth beside runc, crun, youki and the floor; target/bench.json (root)
	@integration/dependencies
	@bench/peers.sh
	BENCH_ROUNDS=$(BENCH_ROUNDS) $(CARGO) bench --locked --quiet --profile dev --bench runtimes

bench-short: BENCH_ROUNDS = 10
bench-short: bench ## the same with 10 rounds

.PHONY: build install clean demo lint test test-steps test-dependencies test-unit test-libseccomp test-integration test-engines vm-test fuzz bench bench-short vm-bench soak vm-soak link-order help

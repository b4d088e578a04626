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

documents: ## man pages and completions anew, from the command line itself
	BERTH_WRITE_DOCUMENTS=1 $(CARGO) test --locked --quiet --lib committed_documents

clean: ## remove all that was built, with the test machine's image and the peers
	$(CARGO) clean

##@ Install

SHARE := $(DESTDIR)$(PREFIX)/share
# What is for users, and not for those who change berth. The Debian package lists them too (Cargo.toml).
GUIDES := docs/annotations.md docs/check.md docs/engines.md docs/seccomp.md

# `make -o build install` takes the target/berth that is there.
install: build ## target/berth into DESTDIR/PREFIX/bin; man pages, completions and documents into PREFIX/share
	install -D -m 755 target/berth "$(DESTDIR)$(PREFIX)/bin/berth"
	install -D -m 644 -t "$(SHARE)/man/man8" docs/man/*.8
	install -D -m 644 completions/berth.bash "$(SHARE)/bash-completion/completions/berth"
	install -D -m 644 -t "$(SHARE)/zsh/site-functions" completions/_berth
	install -D -m 644 -t "$(SHARE)/fish/vendor_completions.d" completions/berth.fish
	install -D -m 644 -t "$(SHARE)/doc/berth" LICENSE CHANGELOG.md $(GUIDES)

# For tools that look for the name runc in PATH, where /usr/local/bin comes before /usr/sbin. A runc that is there stays.
install-runc-alias: ## PREFIX/bin/runc as a link to the berth that `make install` put beside it
	@[ -x "$(DESTDIR)$(PREFIX)/bin/berth" ] || { echo "$(DESTDIR)$(PREFIX)/bin/berth is not there: make install first" >&2; exit 1; }
	[ "$$(readlink "$(DESTDIR)$(PREFIX)/bin/runc")" = berth ] || ln -s berth "$(DESTDIR)$(PREFIX)/bin/runc"

uninstall: ## all that `make install` and `make install-runc-alias` put there
	[ "$$(readlink "$(DESTDIR)$(PREFIX)/bin/runc")" != berth ] || rm "$(DESTDIR)$(PREFIX)/bin/runc"
	rm -f "$(DESTDIR)$(PREFIX)/bin/berth" $(patsubst docs/man/%,"$(SHARE)/man/man8/%",$(wildcard docs/man/*.8))
	rm -f "$(SHARE)/bash-completion/completions/berth" "$(SHARE)/zsh/site-functions/_berth"
	rm -f "$(SHARE)/fish/vendor_completions.d/berth.fish"
	rm -rf "$(SHARE)/doc/berth"

# The time of what is packed: that of the last commit, so that the same sources give the same bytes.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
DIST    := berth-$(VERSION)-$(shell uname -m)-linux

dist: build ## what is installed as target/dist/berth-VERSION-MACHINE-linux.tar.gz, with its checksum
	rm -rf target/dist
	$(MAKE) --silent -o build install DESTDIR="$(CURDIR)/target/dist/$(DIST)" PREFIX= >/dev/null
	tar -C target/dist --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner \
		--mode=u=rwX,go=rX --format=gnu -cf - $(DIST) | gzip -9n >target/dist/$(DIST).tar.gz
	rm -r target/dist/$(DIST)
	cd target/dist && sha256sum $(DIST).tar.gz >$(DIST).tar.gz.sha256

CARGO_DEB := target/tools/bin/cargo-deb
CARGO_DEB_VERSION := 3.8.0

$(CARGO_DEB):
	@echo "installing cargo-deb $(CARGO_DEB_VERSION)"
	@mkdir -p target/tools
	@$(CARGO) install --quiet --locked --root target/tools --target-dir target/tools/build --version $(CARGO_DEB_VERSION) cargo-deb
	@rm -rf target/tools/build

deb: build $(CARGO_DEB) ## a Debian package, target/debian/berth_VERSION_MACHINE.deb
	@mkdir -p target/debian
	@printf 'berth (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' $(VERSION) \
		"$$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" \
		"$$(date --utc --rfc-email --date=@$(SOURCE_DATE_EPOCH))" >target/debian/changelog
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(CARGO_DEB) --locked --no-build --no-strip --target $(TRIPLE) --output target/debian/

##@ See it

demo: build ## run a container made of this repository and show from inside what is isolated (root)
	@$(CARGO) build --locked --quiet --release --example inside --target $(TRIPLE)
	@integration/demo/run target/berth $(RELEASE)/examples/inside

##@ Check

lint: ## formatting, and clippy with warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# In the order in which a failure is found soonest.
TEST_STEPS := test-dependencies test-unit test-libseccomp test-integration test-installation test-engines runtime-tools vm-test-v2 vm-test-v1 vm-test-selinux

test: $(TEST_STEPS) ## everything; installs what it needs (root)

test-steps:
	@echo $(TEST_STEPS)

test-dependencies: ## Debian packages that the tests need and that are missing (root)
	@integration/dependencies

test-unit: ## what is pure, without root
	$(CARGO) test --locked --lib

# Not --locked: its lock file names berth's own dependencies too, and would be wrong after each change of them.
test-libseccomp: ## our seccomp filters decide as libseccomp's do
	cd libseccomp-tests && CARGO_TARGET_DIR="$(CURDIR)/target/libseccomp" $(CARGO) test

# The time limits of the suite are those of a machine that does nothing else; several tests run at once here.
test-integration: ## real containers on this machine's cgroups, and on cgroup2 alone (root)
	BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-3} $(CARGO) test --locked --test integration

test-installation: build $(CARGO_DEB) ## all ways to install it, below directories of their own (root)
	integration/installation

# Facts of a machine, or of Debian's engines, that excuse a scenario.
ENGINES_SKIP := no AppArmor;gives pods no user namespaces;criu does not work;on cgroup v2 only;driver is not systemd

# What fits into CI: berth alone, with fewer probes. `make engines` is the whole of it, beside runc.
test-engines: build ## berth under containerd and its Kubernetes plugin, and README's example as it is written (root)
	BERTH_TEST_EXPECTED_SKIPS="$(ENGINES_SKIP)" BERTH_PROBE_SECONDS=10 BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-3} \
	$(CARGO) test --locked --test engines -- --runtime berth=target/berth containerd:: cri::
	integration/readme target/berth

ENGINES ?=

engines: build ## containerd, CRI, Docker, Podman and Buildah run containers with berth and with runc: a table (root)
	@integration/dependencies
	BERTH_TEST_EXPECTED_SKIPS="$(ENGINES_SKIP)" $(CARGO) test --locked --test engines -- $(ENGINES)

# There all rights and systemd's cgroups are: what excuses a scenario is Debian's containerd.
VM_ENGINES_SKIP := gives pods no user namespaces
CRI_CLIENT := target/cri-client/$(TRIPLE)/debug/cri-client

# As operators run them: by systemd's cgroup driver, on cgroup v2. ENGINES is the suite's command line; runc can be
# named beside berth: ENGINES="--runtime berth=target/berth --runtime runc=/usr/sbin/runc docker::".
# VM_ENGINES_IN=integration/vm/contain is ten times faster, and lacks the controllers that this machine has on cgroup v1.
VM_ENGINES_IN ?= integration/vm/run v2
vm-engines: build target/bench/pause ## the engines with berth in the emulated Debian, by systemd's cgroup driver; takes an hour (root)
	@integration/dependencies
	$(CARGO) test --locked --test engines --no-run 2>target/tests.log || { cat target/tests.log; exit 1; }
	cd integration/engines/cri-client && $(CARGO) build --locked --quiet --target $(TRIPLE) --target-dir "$(CURDIR)/target/cri-client"
	@suite=$$(sed -n 's|.*Executable integration/engines/main.rs (\(.*\))|\1|p' target/tests.log); \
	export VM_IMAGE=engines VM_MEMORY=4096 VM_TIMEOUT=$${VM_TIMEOUT:-7200}; \
	BERTH_TEST_EXPECTED_SKIPS="$(VM_ENGINES_SKIP)" BERTH_PROBE_SECONDS=$${BERTH_PROBE_SECONDS:-10} BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-8} \
	BERTH_TEST_CRI_CLIENT="$(CURDIR)/$(CRI_CLIENT)" BERTH_TEST_PAUSE="$(CURDIR)/target/bench/pause" \
	$(VM_ENGINES_IN) --file "$$suite" --file target/berth --file $(CRI_CLIENT) --file target/bench/pause --file docs/engines.md \
		-- "cd $(CURDIR) && $(CURDIR)/$$suite $(or $(ENGINES),--runtime berth=target/berth)"

recording: build ## write docs/docker.svg anew: a session of docker with berth (root)
	@integration/dependencies
	BERTH_WRITE_RECORDING="$(CURDIR)/docs/docker.svg" $(CARGO) test --locked --test engines -- --runtime berth=target/berth "docker::what README shows"

runtime-tools: build ## opencontainers/runtime-tools with berth and its peers, on both cgroup layouts (root)
	@integration/dependencies
	@runtime-tools-tests/dependencies
	@runtime-tools-tests/build target/runtime-tools
	@bench/peers.sh
	$(CARGO) test --locked --quiet --example runtime-tools
	$(CARGO) build --locked --quiet --example runtime-tools
	@peers=(); for peer in runc crun youki; do [ -x target/peers/$$peer ] && peers+=("$$peer=target/peers/$$peer"); done; \
	target/$(TRIPLE)/debug/examples/runtime-tools target/runtime-tools runtime-tools-tests/expected.toml berth=target/berth "$${peers[@]}"

PEER_TESTS ?=

peer-tests: build ## the suites of runc and crun themselves with berth, on both cgroup layouts; takes an hour (root)
	@integration/dependencies
	@peer-tests/dependencies
	@peer-tests/build target/peer-tests
	peer-tests/run target/berth target/peer-tests $(PEER_TESTS)

# The binary that ships is tested there; the one with overflow checks was tested on the host. Emulation is
# slower by BERTH_TEST_SLOW than the real processor, which is what every time limit is multiplied by.
vm-test: vm-test-v2 vm-test-v1 vm-test-selinux ## the integration suite in a booted Debian with systemd, on cgroup v2 and on v1, and with SELinux (root)

# There is systemd, and every right: the only excuses are a test about the other cgroup version or security module,
# Debian's kernel without RT_GROUP_SCHED, that there is no engine, and that CRIU works.
VM_SKIPS := only on cgroup;procfs has no option pidns in this kernel;CRIU works here;no controller of realtime time in this kernel;conmon is not installed
vm-test-v2 vm-test-v1: VM_SKIPS := $(VM_SKIPS);AppArmor is in this kernel;no SELinux in this kernel
vm-test-selinux: VM_SKIPS := $(VM_SKIPS);SELinux is in this kernel;no AppArmor in this kernel

# Words of names; all tests without. What is held against runc line by line is not about the kernel, and takes
# half an hour in emulation.
TESTS ?= --without transcript::
vm-test-selinux: TESTS = selinux:: mounts:: engines_bundles::
# On cgroup v1 what has nothing to do with cgroups is not run a second time.
vm-test-v1: TESTS += --without checkpoint --without rootless:: --without soak:: --without flags:: --without console

# Not phony: make would not match a pattern for a phony name; no file has these names.
vm-test-%: build
	$(CARGO) test --locked --test integration --no-run 2>target/tests.log || { cat target/tests.log; exit 1; }
	@suite=$$(sed -n 's|.*Executable integration/main.rs (\(.*\))|\1|p' target/tests.log); \
	payload=target/$(TRIPLE)/debug/payload; \
	BERTH_TEST_EXPECTED_SKIPS="$(VM_SKIPS)" BERTH_TEST_SLOW=$${BERTH_TEST_SLOW:-8} BERTH="$(CURDIR)/target/berth" BERTH_TEST_PAYLOAD="$(CURDIR)/$$payload" \
	integration/vm/run $* --file "$$suite" --file target/berth --file "$$payload" -- "$(CURDIR)/$$suite --layout host $(TESTS)"

# Containers of each run: by the file system on this machine's cgroups and on cgroup2 alone; and in the
# test's machine by systemd too.
SOAK ?= 2000

soak: build ## 2,000 containers, four at a time, each through its whole life: nothing may be left (root)
	BERTH="$(CURDIR)/target/berth" BERTH_SOAK=$(SOAK) BERTH_TEST_SLOW=60 $(CARGO) test --locked --test integration -- soak::

soak-systemd: export BERTH_SOAK := $(SOAK)
soak-systemd: export BERTH_TEST_SLOW := 60
soak-systemd: export BERTH := $(CURDIR)/target/berth
soak-systemd: export BERTH_TEST_PAYLOAD := $(CURDIR)/target/$(TRIPLE)/debug/payload
soak-systemd: build ## the same by systemd, which runs in a container of ours (root)
	@integration/dependencies
	@$(CARGO) test --locked --test integration --no-run 2>target/tests.log || { cat target/tests.log; exit 1; }
	@suite=$$(sed -n 's|.*Executable integration/main.rs (\(.*\))|\1|p' target/tests.log); \
	integration/vm/contain --file "$$suite" --file "$(BERTH)" --file "$(BERTH_TEST_PAYLOAD)" -- "$(CURDIR)/$$suite --layout host soak::by_systemd"

##@ Measure

# 50 rounds and more give the figures that are quoted; fewer show whether all still runs.
BENCH_ROUNDS ?= 50

bench: build target/bench/floor target/bench/launch target/bench/true target/bench/pause ## berth beside runc, crun, youki and the floor; target/bench.json (root)
	@integration/dependencies
	@bench/peers.sh
	BENCH_ROUNDS=$(BENCH_ROUNDS) $(CARGO) bench --locked --quiet --profile dev --bench runtimes

bench-short: BENCH_ROUNDS = 10
bench-short: bench ## the same with 10 rounds

bench-systemd: IN := integration/vm/contain
bench-systemd: build ## `run` through systemd, which runs in a container of ours, beside crun and runc (root)
vm-bench: IN := integration/vm/run v2
vm-bench: build ## the same in the emulated machine, where systemd has all controllers (root)
vm-bench: export BENCH_TIMEOUT := 60
bench-systemd vm-bench: export BENCH_CASES := systemd
bench-systemd vm-bench: export BENCH_ROUNDS := $(BENCH_ROUNDS)
bench-systemd vm-bench: target/bench/floor target/bench/launch target/bench/true target/bench/pause
	@integration/dependencies
	@bench/peers.sh
	@$(CARGO) bench --locked --profile dev --bench runtimes --no-run 2>target/tests.log || { cat target/tests.log; exit 1; }
	@bench=$$(sed -n 's|.*Executable bench/main.rs (\(.*\))|\1|p' target/tests.log); \
	$(IN) --file "$$bench" --file target/berth --file target/bench --file target/peers $$(command -v runc | sed 's/^/--file /') \
		--file integration/bundles -- "cd $(CURDIR) && $$bench --bench"

# The order is that of the program as it was linked with its map; what it does not name stays behind.
link-order: target/bench/true ## write link/order.ld anew: which code a start runs through (root; takes minutes)
	@integration/dependencies
	$(CARGO) rustc --locked --release --bin berth --target $(TRIPLE) -- -C link-arg=-Wl,-Map="$(CURDIR)/target/berth.map"
	$(CARGO) build --locked --quiet --example code-order --target $(TRIPLE)
	link/trace target/$(TRIPLE)/debug/examples/code-order target/berth.map $(RELEASE)/berth >target/order.ld
	mv target/order.ld link/order.ld

bench-seccomp: ## our seccomp filters beside libseccomp's: to compile, to load, and for each call
	@integration/dependencies
	cd libseccomp-tests && CARGO_TARGET_DIR="$(CURDIR)/target/libseccomp" $(CARGO) run --quiet --release --example filters

# Seconds for each target.
FUZZ_SECONDS ?= 60

fuzz: ## every fuzz target for FUZZ_SECONDS (a nightly compiler)
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "fuzzing needs a nightly compiler: rustup toolchain install nightly" >&2; exit 1; }
	for target in fuzz/fuzz_targets/*.rs; do fuzz/run "$$(basename "$$target" .rs)" $(FUZZ_SECONDS); done

target/bench/%: bench/%.c
	@mkdir -p target/bench
	$(CC) -std=gnu11 -Wall -Wextra -Werror -O2 -static -o $@ $<

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z0-9-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build install install-runc-alias uninstall dist deb documents clean demo lint test test-steps test-dependencies test-unit test-libseccomp test-integration test-installation test-engines engines vm-engines vm-test fuzz bench bench-short bench-seccomp bench-systemd vm-bench soak soak-systemd link-order help recording runtime-tools peer-tests

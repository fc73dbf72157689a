# Everything a developer or a build machine does, by name. Tools that are missing are
# installed by "make test" itself (Debian, root); see tests/environment/install.
# CARGO_TARGET_DIR and PHONEFLEET_CACHE (downloads; default .cache/) are honoured.

CARGO ?= cargo
# The tests of single crates run faster and report better with nextest; it is not required.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
DENY := $(shell $(CARGO) deny --version >/dev/null 2>&1 && echo yes)
SYSTEMD := $(shell systemd-analyze --version >/dev/null 2>&1 && echo yes)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build lint test test-crates test-simulation test-system test-engines test-systemd install phonesim-image bench demo docs simulate fuzz

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-16s %s\n' "$$name" "$$what"; done

build: ## compile every program, quickly, without optimisation
	$(CARGO) build --locked

lint: ## formatting, clippy without a warning, units, licences and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
ifeq ($(SYSTEMD),yes)
	systemd/verify
else
	@echo "lint: systemd-analyze is not installed; the units are NOT checked"
endif
ifeq ($(DENY),yes)
	$(CARGO) deny --workspace --locked check bans licenses sources
else
	@echo "lint: cargo-deny is not installed; licences and sources of dependencies are NOT checked"
endif

test: install test-crates test-simulation test-system ## all tests: of the crates, of simulated fleets, then of the whole system
	@echo "make test: all tests passed"

install: ## install the tools that the tests need and this machine lacks
	tests/environment/install

# Every test is compiled for the same set of crates: another set would mean other features,
# and everything compiled once more.
EVERYTHING := --locked --workspace --exclude phonefleet-benches
REAL := --test engine --test process --test adb --test 'system_*'

test-crates: build ## only the tests that need nothing but a compiler
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --no-fail-fast $(EVERYTHING) -E 'not binary(/^(engine|process|adb|system_.*)$$/)'
	$(CARGO) test $(EVERYTHING) --doc
else
	$(CARGO) test $(EVERYTHING) --no-fail-fast
endif

# Compiled outside: there is no network in the environment. The programs under test are
# those of "make build". Tests of the real system see PHONEFLEET_TEST_ENVIRONMENT and run,
# one file after the other.
test-system: build ## only the tests of the real system: engine, broker and adb, as root
	$(CARGO) test $(EVERYTHING) $(REAL) --no-run
	tests/environment/run sh -c "tests/environment/selftest && \
		$(CARGO) test --offline $(EVERYTHING) $(REAL) --no-fail-fast"

# Another Debian release's engine, fetched once into the cache (80 MB), then five seconds away.
SUITE ?= trixie
test-engines: build ## the tests of engines with another release's engine (SUITE=trixie)
	tests/environment/install
	tests/environment/engine fetch $(SUITE)
	$(CARGO) test $(EVERYTHING) --test engine --test system_engines --no-run
	PHONEFLEET_TEST_ENGINE_SUITE=$(SUITE) tests/environment/run \
		$(CARGO) test --offline $(EVERYTHING) --test engine --test system_engines --no-fail-fast

docs: ## write the pages that are made from the code anew (docs/configuration.md)
	PHONEFLEET_WRITE_DOCS=1 $(CARGO) test $(EVERYTHING) --test documentation reference

# Four minutes, and some more for the first run's root file system (400 MB in the cache).
test-systemd: build ## the units under a real systemd: start, crash, hang, upgrade, reboot
	tests/environment/install systemd
	$(CARGO) test $(EVERYTHING) --test system_systemd --no-run
	PHONEFLEET_TEST_SYSTEMD_HOST=$$(tests/environment/systemd-host) && export PHONEFLEET_TEST_SYSTEMD_HOST && \
		tests/environment/run $(CARGO) test --offline $(EVERYTHING) --test system_systemd

phonesim-image: ## build the image of the simulated phone, and load it into the engine at DOCKER_HOST
	tests/environment/install
	phonesim/image/build

bench: ## measure, each figure beside its ceiling
	$(CARGO) bench --locked --profile release-dev -p phonefleet-benches

demo: ## the whole product on one machine, shown and taken down (ARGS="--once --phones 3")
	@CARGO='$(CARGO)' ./demo $(ARGS)

SEEDS ?= 1000
simulate: ## simulated fleets from SEEDS=1000 seeds, or the story of SEED=n made smaller
	$(SIMULATION)
	$(SIMULATE) $(if $(SEED),--seed $(SEED) $(if $(PLAIN),--plain) --shrink,--seeds $(SEEDS))

# With faults that can be planted in the product, and that are off until asked for.
SIMULATION := $(CARGO) build --locked --profile simulation -p phonefleet-simulation --features mutants
SIMULATE := $(or $(CARGO_TARGET_DIR),target)/simulation/simulate

test-simulation: ## only the simulated fleets: old failures, three minutes of seeds, every planted fault
	$(SIMULATION)
	$(SIMULATE) --regressions
	$(SIMULATE) --seeds 2000 --within 180
	$(SIMULATE) --mutants

TIME ?= 60
fuzz: ## fuzz what reads bytes of others, TIME seconds for each target (default 60)
	fuzz/run $(TIME)

# `make demo` and `make test` are all that a newcomer needs; each installs what is missing, or names it.
CARGO ?= cargo

.PHONY: help demo demo-full build test test-unit test-full fuzz fuzz-keep check-macos check-aarch64 bench dist lint clean

help:            ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 15

demo: build      ## boot the appliance, build and push one image for three platforms, run each
	@demo/run

demo-full: build ## the same on a Debian base with apt-get install: an hour or more without KVM
	@demo/full

build:           ## target/release/mvm
	@scripts/install-deps build demo
	$(CARGO) build --release --locked

test:            ## the tests; starts real machines (40 to 70 minutes on two cores without KVM)
	@scripts/install-deps build test
	@CARGO="$(CARGO)" scripts/run-tests

test-unit:       ## the tests that start no machine
	$(CARGO) test --workspace --locked --lib --bins

test-full: test  ## and those that take long, one more kernel among them
	@CARGO="$(CARGO)" scripts/run-tests --ignored

check-macos:     ## the types and lints for macOS on Apple silicon, which takes neither a Mac nor its SDK
	@scripts/install-deps build test
	@CARGO="$(CARGO)" scripts/check-target aarch64-apple-darwin

check-aarch64:   ## the same for Linux on aarch64
	@scripts/install-deps build test
	@CARGO="$(CARGO)" scripts/check-target aarch64-unknown-linux-gnu

fuzz:            ## look for inputs that break something: TIME=60 seconds a target, TARGET=NAME for one
	@scripts/install-deps build fuzz
	@CARGO="$(CARGO)" TIME="$(TIME)" scripts/fuzz $(TARGET)

fuzz-keep:       ## add what it has found to the kept inputs, as far as it leads anywhere new
	@scripts/install-deps build fuzz
	@CARGO="$(CARGO)" scripts/fuzz --keep $(TARGET)

bench:           ## measure; prints and writes target/bench.json
	@scripts/install-deps build test
	$(CARGO) bench --bench product --locked

lint:            ## what reviews check by machine
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; else echo "cargo-deny is not installed: skipped"; fi

dist: build      ## the appliance as a signed archive for other hosts, in target/dist: KEY=FILE (`mvm image key FILE`)
	@KEY="$(KEY)" scripts/dist target/dist

clean:           ## what the build made in this clone; appliances and instances stay (README: "Removing everything")
	$(CARGO) clean

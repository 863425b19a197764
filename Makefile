# `make run` and `make test` are all that is needed on a fresh machine; the other targets are their parts.

# cargo by its full path even where the shell's profile has not been read.
CARGO ?= $(firstword $(wildcard $(HOME)/.cargo/bin/cargo) cargo)
WASM := wasm32-unknown-unknown
MODULE := target/psexec_filter.wasm
BINARY := target/release/psexec-filter
WINDOWS := x86_64-pc-windows-gnu
WINDOWS_BINARY := target/$(WINDOWS)/release/psexec-filter.exe
BASELINE := target/baseline/$(WASM)/wasm/psexec_filter_baseline.wasm
INPUT ?=
SEEDS ?= 1000
SEED ?=
SECONDS ?= 60
RECORDS ?= 10000000

.PHONY: run test build windows lint bench soak simulate fuzz dist dist-test licences setup setup-wamr setup-windows setup-dist clean

## Find PsExec in a log: make run INPUT=FILE. Without INPUT, in a small story that is built in.
run: build
	$(BINARY) replay $(if $(INPUT),"$(INPUT)")

## Everything that proves it works, on wasmtime and on the interpreter that Fluent Bit uses.
test: setup setup-wamr
	$(CARGO) test --release --workspace --exclude psexec-filter-baseline --features psexec-filter-tests/wamr

## The module and the host program.
build: setup
	$(CARGO) build --release --package psexec-filter
	$(BINARY) pack --out $(MODULE)

## The program for Windows, and tests of it under Wine, if there is one (Debian: apt-get install wine).
windows: setup setup-wamr setup-windows
	$(CARGO) build --release --package psexec-filter --target $(WINDOWS)
	WINDOWS_PROGRAM="$(CURDIR)/$(WINDOWS_BINARY)" \
	  $(CARGO) test --release --package psexec-filter-tests --features wamr --test e2e windows::

## Formatting, and clippy with warnings denied, on all targets.
lint: setup setup-wamr setup-windows
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --features psexec-filter-tests/wamr -- -D warnings
	$(CARGO) clippy --release --package psexec-filter-plugin --package psexec-filter-baseline --target $(WASM) -- -D warnings
	$(CARGO) clippy --release --package psexec-filter --target $(WINDOWS) -- -D warnings

## What a record costs and how fast `run` is, as ratios in one run, written to BENCHMARKS.md; the last line counts the goals that are met.
## About ten minutes. ROUNDS=N measures each figure so many times (9). AGAINST=MODULE.wasm compares with another build of the filter and
## leaves BENCHMARKS.md as it is; ROUNDS=25 is enough to tell 2 % apart. QUICK=1 measures only what has goals on Fluent Bit's
## interpreter, and leaves BENCHMARKS.md as it is, too. CORPUS=FOLDER has the recorded logs if ../shared/corpus does not.
## The modules beside ours are compiled as host-harness/build.rs compiles it.
PAGE := target/BENCHMARKS.md
ROUNDS ?=
AGAINST ?=
QUICK ?=
CORPUS ?=
bench: setup setup-wamr
	$(CARGO) rustc --quiet --package psexec-filter-baseline --lib --crate-type cdylib --profile wasm --target $(WASM) --target-dir target/baseline -- -Cllvm-args=-disable-lsr
	$(CARGO) build --quiet --release --package psexec-filter
	BASELINE_MODULE="$(CURDIR)/$(BASELINE)" PROGRAM="$(CURDIR)/$(BINARY)" ROUNDS="$(ROUNDS)" QUICK="$(QUICK)" AGAINST="$(if $(AGAINST),$(abspath $(AGAINST)))" CORPUS="$(if $(CORPUS),$(abspath $(CORPUS)))" \
	  $(CARGO) bench --quiet --package psexec-filter-tests --features wamr --bench engines > $(PAGE)
	$(if $(AGAINST)$(QUICK),,cp $(PAGE) BENCHMARKS.md)
	@cat $(PAGE)

## The recorded logs again and again through `run` over TCP: nothing lost, memory flat, every alert. RECORDS=N, ten million by default.
soak: setup setup-wamr
	$(CARGO) build --quiet --release --package psexec-filter
	RECORDS=$(RECORDS) PROGRAM="$(CURDIR)/$(BINARY)" CORPUS="$(if $(CORPUS),$(abspath $(CORPUS)))" \
	  $(CARGO) bench --quiet --package psexec-filter-tests --features wamr --bench soak

## Networks under attack and every fault of a shipper, by seed: make simulate SEEDS=1000, or one run record by record, SEED=17.
simulate: setup
	$(CARGO) run --quiet --release --package psexec-filter-simulator -- $(if $(SEED),seed $(SEED),seeds $(SEEDS))

## Any bytes, led by coverage, for so many seconds in all: make fuzz SECONDS=60. Needs a C++ compiler. No nightly: what cargo-fuzz
## asks of the compiler is stable. What crashes is kept below target/fuzz.
FUZZ := target/fuzz
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks
fuzz: setup
	@host=$$($(CARGO) -vV | sed -n 's/^host: //p'); \
	RUSTFLAGS="$(COVERAGE)" $(CARGO) build --quiet --release --package psexec-filter-fuzz --features libfuzzer --target $$host --target-dir $(FUZZ) || exit; \
	for target in record events policy decoders; do \
	  mkdir -p $(FUZZ)/corpus/$$target; seeds=tests/fixtures/shapes; test $$target != policy || seeds=tests/fuzz/seeds/policy; \
	  echo "== $$target"; FUZZ_TARGET=$$target $(FUZZ)/$$host/release/fuzz -max_total_time=$$(($(SECONDS) / 4)) -max_len=4096 -len_control=0 -timeout=10 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=$(FUZZ)/$$target- $(FUZZ)/corpus/$$target $$seeds tests/fixtures/crashes/$$target || exit; done

## What is released, in target/dist: the module, archives for Linux and Windows, a Debian package, configurations, SBOMs, checksums.
## PARTS="linux deb" makes only these; host-harness/packaging/dist lists the parts. MAINTAINER="Name <address>" goes into the package.
PARTS ?=
dist: setup setup-dist licences
	host-harness/packaging/dist $(PARTS)

## Uses what `make dist` left as people would; as root on Debian it installs the package over an older version, runs it and removes it.
dist-test:
	host-harness/packaging/test

## Whether deny.toml allows the licence of every crate that is linked. Advisories are not checked: `cargo deny check` does that.
licences: setup
	@CARGO=$(CARGO) python3 host-harness/packaging/licences.py check

# $(call add-target,TARGET,PACKAGE): Rust's standard library for a target; PACKAGE has it on Debian, for a Rust without rustup.
add-target = if command -v rustup >/dev/null; then rustup target add $(1) >/dev/null 2>&1 \
	  || { echo "error: the target $(1) could not be installed. Install it with: rustup target add $(1)" >&2; exit 1; }; \
	elif ! test -d "$$(rustc --print sysroot)/lib/rustlib/$(1)"; then \
	  echo "error: this Rust lacks the target $(1) and there is no rustup to add it. On Debian: apt-get install $(2)" >&2; exit 1; fi

## The Rust toolchain of rust-toolchain.toml with its wasm target.
setup:
	@command -v $(CARGO) >/dev/null || { echo "error: cargo is missing. Install Rust's rustup with: curl https://sh.rustup.rs -sSf | sh" >&2; exit 1; }
	@$(call add-target,$(WASM),libstd-rust-dev-wasm32)

## Rust's target for Windows, and the C compiler that links for it.
setup-windows: setup
	@$(call add-target,$(WINDOWS),libstd-rust-dev-windows)
	@command -v x86_64-w64-mingw32-gcc >/dev/null && exit 0; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then echo "installing gcc-mingw-w64-x86-64"; apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc-mingw-w64-x86-64 >/dev/null && exit 0; fi; \
	echo "error: x86_64-w64-mingw32-gcc is missing, which links the program for Windows." >&2; \
	echo "Install with: sudo apt-get install -y gcc-mingw-w64-x86-64   (Fedora: sudo dnf install mingw64-gcc)" >&2; exit 1

## cmake, a C compiler and libclang, which the interpreter is built with. Installed where that can be done without asking.
setup-wamr:
	@missing=""; command -v cmake >/dev/null || missing="cmake"; command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	{ ls /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib 2>/dev/null | grep -Eq '^libclang(-[0-9.]+)?\.so'; } \
	  || test -n "$$LIBCLANG_PATH" || command -v brew >/dev/null || missing="$$missing libclang-dev"; \
	test -z "$$missing" && exit 0; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  echo "installing$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null && exit 0; fi; \
	echo "error: missing: $$missing. The tests run the module on Fluent Bit's interpreter too, which is built from C." >&2; \
	echo "Install with: sudo apt-get install -y cmake gcc libc6-dev libclang-dev   (Fedora: sudo dnf install cmake gcc clang-devel)" >&2; exit 1

## What `make dist` needs beside Rust: the linkers of the targets, and tools that pack. Installed where that can be done without asking.
DIST_TARGETS := x86_64-unknown-linux-musl x86_64-pc-windows-gnu
setup-dist: setup
	@missing=""; command -v musl-gcc >/dev/null || missing="musl-tools"; \
	command -v x86_64-w64-mingw32-gcc >/dev/null || missing="$$missing gcc-mingw-w64-x86-64"; \
	for tool in zip python3 dpkg-deb:dpkg strip:binutils xz:xz-utils; do \
	  command -v "$${tool%:*}" >/dev/null || missing="$$missing $${tool#*:}"; done; \
	if test -n "$$missing"; then \
	  if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	    echo "installing $$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null || exit; \
	  else echo "error: missing: $$missing. On Debian: sudo apt-get install -y --no-install-recommends $$missing" >&2; exit 1; fi; fi
	@if command -v rustup >/dev/null; then rustup target add $(DIST_TARGETS) >/dev/null 2>&1 \
	  || { echo "error: a target could not be installed. Install them with: rustup target add $(DIST_TARGETS)" >&2; exit 1; }; fi

clean:
	$(CARGO) clean

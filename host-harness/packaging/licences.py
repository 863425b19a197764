#!/usr/bin/env python3
"""Checks the licences of all crates that are linked into what is released, and writes their texts.

    licences.py check                       every licence is allowed by deny.toml, every crate is from crates.io
    licences.py texts TARGET...             THIRD-PARTY-LICENSES for these targets, on standard output
    licences.py sbom FILE TARGET            fails if the CycloneDX document FILE lacks a crate that is linked for TARGET

Which crates are linked comes from `cargo tree`: normal dependencies of what is built for a target, without procedural macros.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = os.environ.get("CARGO", "cargo")
# The package that is built for each target of a release.
BUILT = {
    "x86_64-unknown-linux-musl": "psexec-filter",
    "x86_64-pc-windows-gnu": "psexec-filter",
    "wasm32-unknown-unknown": "psexec-filter-plugin",
}
NAMES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)
# Crates that are published without the text of their licence: it is in another crate of the same repository.
SIBLING = {
    "cranelift-assembler-x64": "wasmtime",
    "cranelift-bitset": "wasmtime",
    "pulley-interpreter": "wasmtime",
    "utf16-simd": "evtx",
    "wasmtime-internal-component-util": "wasmtime",
    "wasmtime-internal-core": "wasmtime",
    "wasmtime-internal-jit-icache-coherence": "wasmtime",
}
# What a target's programs contain beside Rust code, as the Debian package that it comes from describes it.
SYSTEM = {
    "x86_64-unknown-linux-musl": {"musl": "/usr/share/doc/musl/copyright"},
    "x86_64-pc-windows-gnu": {
        "mingw-w64": "/usr/share/doc/mingw-w64-x86-64-dev/copyright",
        "libgcc (GPL-3.0-or-later WITH GCC-exception-3.1)": "/usr/share/doc/gcc-mingw-w64-x86-64-win32/copyright",
    },
}


def cargo(*arguments):
    ran = subprocess.run([CARGO, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        sys.exit(f"error: cargo {arguments[0]} failed")
    return ran.stdout


def linked(target):
    """Names and versions of the crates that are linked for a target."""
    listed = cargo("tree", "--locked", "--package", BUILT[target], "--target", target, "--edges", "normal,no-proc-macro",
                   "--prefix", "none", "--format", "{p}")
    found = set()
    for line in filter(None, listed.splitlines()):
        name, version = line.split()[:2]
        found.add((name, version.removeprefix("v")))
    return found


def packages(targets):
    """The packages that are linked for any of the targets, as `cargo metadata` describes them, by name and version."""
    wanted = set().union(*map(linked, targets))
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1"))
    found = [package for package in metadata["packages"] if (package["name"], package["version"]) in wanted]
    if len(found) != len(wanted):
        sys.exit("error: cargo tree and cargo metadata do not agree about the crates")
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def allowed(expression, allow):
    """Whether an SPDX expression can be met with the licences in `allow`. A `/` is an old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        met = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0)
        if token == "(":
            met = either()
            tokens.pop(0)
            return met
        if tokens[:1] == ["WITH"]:
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allow

    return either()


def check():
    allow = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    faults = []
    all_packages = packages(BUILT)
    for package in all_packages:
        named = f"{package['name']} {package['version']}"
        licence = package["license"] or "none"
        if not allowed(licence, allow):
            faults.append(f"{named}: the licence {licence} is not allowed by deny.toml")
        if package["source"] not in (None, "registry+https://github.com/rust-lang/crates.io-index"):
            faults.append(f"{named}: is from {package['source']}, expected crates.io")
    if faults:
        sys.exit("\n".join(f"error: {fault}" for fault in faults))
    print(f"licences: {len(all_packages)} crates, all of them allowed by deny.toml")


def texts_of(folder):
    """The licence files of a crate, in the order of their names."""
    files = [path for path in folder.iterdir() if NAMES.match(path.name) and path.is_file()]
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in sorted(files)]


class Plain(HTMLParser):
    """The text of an HTML page, without its style."""

    def __init__(self):
        super().__init__()
        self.lines, self.skip = [], False

    def handle_starttag(self, tag, attrs):
        self.skip = tag == "style"

    def handle_endtag(self, tag):
        self.skip = False

    def handle_data(self, data):
        if not self.skip and data.strip():
            self.lines.append(data.strip())


def runtime(targets):
    """Names and licences of what the toolchain links into every program: Rust's standard library and the system's C library."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    page = Plain()
    page.feed((Path(sysroot.stdout.strip()) / "share/doc/rust/COPYRIGHT-library.html").read_text())
    yield "the Rust standard library", "\n".join(page.lines)
    for target in targets:
        for name, file in SYSTEM.get(target, {}).items():
            yield name, Path(file).read_text().strip()


def texts(targets):
    third = [package for package in packages(targets) if package["source"]]
    own = {package["name"]: Path(package["manifest_path"]).parent for package in third}
    users = {}
    print("This contains code of the crates below, under the licence that each names. Their texts follow, and after them those of\nwhat the toolchain links into every program.\n")
    for package in third:
        name = f"{package['name']} {package['version']}"
        print(f"{name:<44} {package['license']}")
        found = texts_of(own[package["name"]])
        if not found and package["name"] in SIBLING:
            found = texts_of(own[SIBLING[package["name"]]])
        if not found:
            sys.exit(f"error: {name} is published without the text of its licence; add where it is to SIBLING in {__file__}")
        for text in found:
            users.setdefault(text, []).append(name)
    for name, text in runtime(targets):
        users.setdefault(text, []).append(name)
    for text, names in users.items():
        print(f"\n{'=' * 100}\n{', '.join(names)}\n{'-' * 100}\n{text}")


def sbom(file, target):
    document = json.loads(Path(file).read_text())
    if document.get("bomFormat") != "CycloneDX" or not document.get("specVersion"):
        sys.exit(f"error: {file}: is not CycloneDX")
    listed = {(component["name"], component["version"]) for component in document["components"]}
    root = document["metadata"]["component"]
    listed.add((root["name"], root["version"]))
    lacking = linked(target) - listed
    if lacking:
        sys.exit(f"error: {file}: lacks {sorted(lacking)}")
    print(f"{Path(file).name}: {len(listed)} components")


match sys.argv[1:]:
    case ["check"]:
        check()
    case ["texts", *targets] if targets:
        texts(targets)
    case ["sbom", file, target]:
        sbom(file, target)
    case _:
        sys.exit(__doc__)

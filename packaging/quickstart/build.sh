# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Compiling: one build directory a purpose, so that none has to be configured twice.

# What is installed; the unit tests only where they are to be run.
build_product() { build_in build g++ -Dbuildtype=debugoptimized -Dtests=false; }
build_main() {
    configure_in build g++ -Dbuildtype=debugoptimized || return 1
    /usr/bin/meson configure build -Dtests=true && ninja -j "$(nproc)" -C build
}
# Without precompiled headers: each file must include what it uses.
build_clang() { build_in build-clang clang++ -Dbuildtype=plain -Doptimization=0 -Db_pch=false; }
# As the packages are, and without the libraries' assertions: what is measured is what is used.
build_bench() {
    configure_in build-bench g++ -Dbuildtype=debugoptimized -Db_ndebug=true || return 1
    local -a installed
    mapfile -t installed < <(/usr/bin/meson introspect --installed build-bench |
        /usr/bin/python3 -c '
import json, os, sys
build = os.path.join(os.getcwd(), "build-bench")
for path in json.load(sys.stdin):
    # Those of packaging are made when it is configured, and ninja knows nothing of them.
    if path.startswith(build + "/") and "/packaging/" not in path:
        print(os.path.relpath(path, build))')
    ninja -j "$(nproc)" -C build-bench "${installed[@]}" tests/bench/nbd_load \
        tests/bench/mirrord_ungrouped
}
# Optimised just enough: these are compiled more often than they run. No -Werror: with sanitizers
# gcc 12 sees uninitialised values that are none; the two plain builds are the judges of warnings.
build_asan() {
    build_in build-asan g++ -Dbuildtype=plain -Doptimization=1 -Dcpp_args=-g1 -Dwerror=false \
        -Db_sanitize=address,undefined -Db_lundef=false
}
build_tsan() {
    build_in build-tsan g++ -Dbuildtype=plain -Doptimization=1 -Dcpp_args=-g1 -Dwerror=false \
        -Db_sanitize=thread -Db_lundef=false
}

configure_in() { # DIR COMPILER OPTION…
    local dir=$1 compiler=$2
    shift 2
    [ -f "$dir/build.ninja" ] ||
        CXX="$(with_ccache "$compiler")" /usr/bin/meson setup "$dir" "$@" >"$dir.log" 2>&1 ||
        { cat "$dir.log" >&2 && rm -rf "$dir" && return 1; }
    rm -f "$dir.log"
}

build_in() { # DIR COMPILER OPTION…
    configure_in "$@" || return 1
    ninja -j "$(nproc)" -C "$1"
}

with_ccache() { # COMPILER
    if command -v ccache >/dev/null; then echo "ccache $1"; else echo "$1"; fi
}

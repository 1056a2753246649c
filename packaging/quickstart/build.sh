# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Compiling: one build directory a purpose, so that none has to be configured twice.

# Optimised just enough and with line numbers alone: compiled more often than run, in half the time.
# What is measured (build-bench) and what is installed (the packages) have -O2.
quick_options=(-Dbuildtype=plain -Doptimization=1 -Dcpp_args=-g1)

# What is installed, and no tests: their libraries need not be there.
configure_main() { configure_in build g++ "${quick_options[@]}" -Dtests=false; }
build_product() { configure_main && ninja -j "$(nproc)" -C build product; }
build_main() {
    configure_main || return 1
    /usr/bin/meson configure build -Dtests=true && ninja -j "$(nproc)" -C build
}

# Without precompiled headers: each file must include what it uses.
configure_clang() {
    configure_in build-clang clang++ -Dbuildtype=plain -Doptimization=0 -Db_pch=false || return 1
    # The list of files is read from there, and is that of the last configuration otherwise.
    ninja -C build-clang build.ninja >/dev/null
}
build_clang() { configure_clang && ninja -j "$(nproc)" -C build-clang; }

# As the packages are, and without the libraries' assertions: what is measured is what is used.
build_bench() {
    configure_in build-bench g++ -Dbuildtype=debugoptimized -Db_ndebug=true || return 1
    ninja -j "$(nproc)" -C build-bench product tests/bench/nbd_load tests/bench/mirrord_ungrouped
}

# No -Werror: with sanitizers gcc 12 sees uninitialised values that are none; the two plain builds are
# the judges of warnings.
build_asan() {
    build_in build-asan g++ "${quick_options[@]}" -Dwerror=false -Db_sanitize=address,undefined \
        -Db_lundef=false
}
build_tsan() {
    build_in build-tsan g++ "${quick_options[@]}" -Dwerror=false -Db_sanitize=thread -Db_lundef=false
}

configure_in() { # DIR COMPILER OPTION…
    local dir=$1 compiler=$2
    shift 2
    [ -f "$dir/build.ninja" ] ||
        CXX="$(with_ccache "$compiler")" CXX_LD=$(quick_linker) \
            /usr/bin/meson setup "$dir" "$@" >"$dir.log" 2>&1 ||
        { cat "$dir.log" >&2 && rm -rf "$dir" && return 1; }
    rm -f "$dir.log"
}

build_in() { # DIR COMPILER OPTION…
    configure_in "$@" || return 1
    ninja -j "$(nproc)" -C "$1"
}

# Where somebody has set ccache up. To keep what is compiled once only costs a fifth of the time.
with_ccache() { # COMPILER
    local config=${XDG_CONFIG_HOME:-${HOME:-}/.config}/ccache/ccache.conf
    if command -v ccache >/dev/null && { [ -n "${CCACHE_DIR:-}" ] || [ -e "$config" ]; }; then
        echo "ccache $1"
    else
        echo "$1"
    fi
}

# Else nothing with a precompiled header is kept.
export CCACHE_SLOPPINESS=pch_defines,time_macros

# An empty name is the compiler's own linker.
quick_linker() { if command -v mold >/dev/null; then echo mold; fi; }

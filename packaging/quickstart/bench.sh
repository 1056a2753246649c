# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart bench`: a build of its own, then tests/bench.

run_bench() { # OPTION…
    local log
    local -a purposes=(build bench)
    [[ " $* " != *" --guests"* ]] || purposes+=(kernel)
    install_packages "${purposes[@]}"
    note "building into build-bench"
    log=$(mktemp)
    if ! build_bench >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "build-bench could not be built"
    fi
    rm -f "$log"
    MIRRORDISK_BUILD=$PWD/build-bench exec /usr/bin/python3 -B tests/bench/bench "$@"
}

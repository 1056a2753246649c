# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart bench`: a build of its own, then tests/bench.

run_bench() { # OPTION…
    local log
    local -a purposes=(build bench)
    # Options are tests/bench's to judge; it needs no build for that, and none for a list.
    if /usr/bin/python3 -c "import nbd" 2>/dev/null; then
        /usr/bin/python3 -B tests/bench/bench --check-options "$@" || exit $?
        [[ " $* " != *" --list "* ]] || exec /usr/bin/python3 -B tests/bench/bench "$@"
    fi
    [[ " $* " != *" --guests"* ]] || purposes+=(kernel)
    install_packages "${purposes[@]}"
    log=$(mktemp)
    if ! with_progress "compiling into build-bench" "$log" build_bench; then
        cat "$log" >&2
        rm -f "$log"
        die "build-bench could not be built"
    fi
    rm -f "$log"
    MIRRORDISK_BUILD=$PWD/build-bench exec /usr/bin/python3 -B tests/bench/bench "$@"
}

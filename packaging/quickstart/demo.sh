# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart build` and `./quickstart demo`: the product compiled, and shown at work.

run_build() { # OPTION…
    [ $# -eq 0 ] || die_usage "build has no option '$1'" "help build"
    install_packages build
    build_or_die
    note "the programs are in build/: mirrord in daemon, mirrorctl in tools, the plugin in plugin"
}

run_demo() { # OPTION…
    local word
    for word in "$@"; do
        case $word in
            --fuse | --keep-logs) ;;
            *) die_usage "demo has no option '$word'" "help demo" ;;
        esac
    done
    local -a as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    install_packages build demo
    build_or_die
    exec "${as_root[@]}" /usr/bin/python3 -B packaging/quickstart/demo --build "$PWD/build" "$@"
}

build_or_die() {
    local log
    log=$(mktemp)
    if ! with_progress "compiling" "$log" build_product; then
        sed -n '/^FAILED/,$p' "$log" | head -n 100 >&2
        tail -n 5 "$log" >&2
        rm -f "$log"
        die "the product could not be built"
    fi
    rm -f "$log"
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The stage `fuzz`: every target of tests/fuzz from its corpus, two minutes each, as many at once
# as there are processors. What ends a target is kept in build-fuzz/findings; it belongs into the
# corpus once it is mended.

build_fuzz() {
    configure_in build-fuzz clang++ -Dfuzz=true -Dbuildtype=plain -Doptimization=1 \
        -Dcpp_args=-g1 -Db_sanitize=address,undefined -Db_lundef=false &&
        ninja -j "$(nproc)" -C build-fuzz tests/fuzz/fuzz
}

stage_fuzz() (
    local seconds=${QUICKSTART_FUZZ_SECONDS:-120} corpus
    install_packages fuzz
    check_build "$1" build_fuzz || return 0
    sanitizer_environment
    mkdir -p build-fuzz/findings
    for corpus in tests/fuzz/corpus/*; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
            wait -n || true  # 127: they have all ended meanwhile
        done
        check "$1" "${corpus##*/}: $seconds s" fuzz_target "${corpus##*/}" "$seconds" &
    done
    wait
)

fuzz_target() { # NAME SECONDS
    local fresh log
    fresh=$(mktemp -d)
    log=$fresh.log
    if build-fuzz/tests/fuzz/fuzz --target="$1" -max_total_time="$2" -timeout=20 \
        -rss_limit_mb=2048 -malloc_limit_mb=128 \
        -artifact_prefix="build-fuzz/findings/$1-" -print_final_stats=1 "$fresh" \
        "tests/fuzz/corpus/$1" >"$log" 2>&1; then
        rm -rf "$fresh" "$log"
        return 0
    fi
    tail -n 60 "$log"
    rm -rf "$fresh" "$log"
    return 1
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results is set in stage
# The unit tests, plain and under the sanitizers.

stage_unit() { unit_tests "$1" build build_main; }
stage_asan() { unit_tests "$1" build-asan build_asan; }
stage_tsan() { unit_tests "$1" build-tsan build_tsan; }

# Two faults after each other wherever somebody waits: one pair of eight, where stage_unit has one of a thousand.
stage_unit_pairs() {
    check_build "$1" build_main || return 0
    MIRROR_PAIRS_ONE_OF=8 /usr/bin/meson test -C build --no-rebuild mirror_pairs --print-errorlogs \
        --timeout-multiplier 8 -q || true
    /usr/bin/python3 packaging/quickstart/results.py meson "$results" "$1" build/meson-logs/testlog.json
}

unit_tests() ( # STAGE DIR BUILD-FUNCTION
    check_build "$1" "$3" || return 0
    sanitizer_environment
    /usr/bin/meson test -C "$2" --no-rebuild --suite unit --print-errorlogs \
        --timeout-multiplier 4 -q || true
    /usr/bin/python3 packaging/quickstart/results.py meson "$results" "$1" "$2/meson-logs/testlog.json"
)

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results is set in stage
# The unit tests, plain and under the sanitizers.

stage_unit() { unit_tests "$1" build build_main; }
stage_asan() { unit_tests "$1" build-asan build_asan; }
stage_tsan() { unit_tests "$1" build-tsan build_tsan; }

unit_tests() ( # STAGE DIR BUILD-FUNCTION
    check_build "$1" "$3" || return 0
    sanitizer_environment
    /usr/bin/meson test -C "$2" --no-rebuild --suite unit --print-errorlogs \
        --timeout-multiplier 4 -q || true
    /usr/bin/python3 packaging/quickstart/results.py meson "$results" "$1" "$2/meson-logs/testlog.json"
)

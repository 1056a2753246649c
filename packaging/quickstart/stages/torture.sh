# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results is set in stage
# The torture run: a minute through each door, or half an hour. The seed is new each time; the line of
# the result has it, so that the moves can be repeated.

stage_torture() { torture_both "$1" "${QUICKSTART_TORTURE_SECONDS:-60}"; }
stage_torture_hour() { torture_both "$1" 1800; }

torture_both() { # STAGE SECONDS
    check_build "$1" build_main || return 0
    torture_through nbdkit "$@"
    torture_through express "$@"
}

torture_through() { # DOOR STAGE SECONDS
    local seed figures outcome=passed
    seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    figures=$(mktemp)
    MIRRORDISK_TEST_DOOR=$1 tests/torture/torture --quiet --seconds "$3" --seed "$seed" \
        --json "$figures" || outcome=failed
    /usr/bin/python3 packaging/quickstart/results.py torture "$results" "$2" "$figures" \
        "$outcome" "$seed"
    rm -f "$figures"
}

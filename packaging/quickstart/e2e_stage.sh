# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# How the end-to-end tests are run: several at once, since they wait more than they compute; then,
# one after the other, those that need the machine for themselves (marked `alone`).

# Writes JUNIT-PREFIX-parallel.xml and JUNIT-PREFIX-alone.xml. A part that has no test leaves no
# file, unless neither has one; a part that ended without a report leaves an empty file. An empty
# MARKER-EXPRESSION is all tests; the door is that of MIRRORDISK_TEST_DOOR. False if a test failed.
run_e2e() { # BUILD-DIR JUNIT-PREFIX MARKER-EXPRESSION [PYTEST-OPTION…]
    local build=$1 prefix=$2 expression=${3:+($3) and } good=0
    local -a many=()
    shift 3
    if /usr/bin/python3 -c 'import xdist' 2>/dev/null; then
        many=(-n "${QUICKSTART_E2E_WORKERS:-$(e2e_workers "$build")}" --dist loadgroup)
    fi
    e2e_part "$build" "$prefix-parallel.xml" "${expression}not alone" "${many[@]}" "$@" || good=$?
    e2e_part "$build" "$prefix-alone.xml" "${expression}alone" "$@" || good=$((good + $?))
    [ -e "$prefix-parallel.xml" ] || [ -e "$prefix-alone.xml" ] || : >"$prefix-parallel.xml"
    return $((good > 0))
}

# Pytest's exit code 5 says that there was no such test.
e2e_part() { # BUILD-DIR JUNIT-FILE MARKER-EXPRESSION PYTEST-OPTION…
    local build junit=$2 expression=$3 code=0 limit=2400
    build=$(realpath "$1")
    ! has_sanitizer "$1" || limit=7200
    shift 3
    : >"$junit"
    MIRRORDISK_BUILD=$build timeout --kill-after=30 $limit /usr/bin/python3 -B -m pytest -q \
        --junitxml="$junit" -p no:cacheprovider --tb=short -m "$expression" "$@" tests/e2e ||
        code=$?
    [ $code -ne 5 ] || rm -f "$junit"
    [ $code -eq 0 ] || [ $code -eq 5 ]
}

# Most of a test is waiting, so two of them keep a processor busy; under a sanitizer one does.
e2e_workers() { # BUILD-DIR
    local per_processor=2
    ! has_sanitizer "$1" || per_processor=1
    echo $(($(nproc) * per_processor))
}

has_sanitizer() { # BUILD-DIR
    ldd "$1/daemon/mirrord" 2>/dev/null | grep -q 'lib[at]san\.so'
}

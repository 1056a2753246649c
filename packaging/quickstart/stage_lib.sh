# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # stage and results are set in stage
# What stages have in common. A result is a line "outcome<TAB>stage<TAB>name<TAB>reason" of a file
# that results.py reads.

record() { # OUTCOME STAGE NAME [REASON]
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$results"
}

# Runs a check that prints what is wrong; its exit code is the outcome.
check() { # STAGE NAME COMMAND…
    local stage=$1 name=$2
    shift 2
    if "$@"; then
        record passed "$stage" "$name"
    else
        printf '   %s failed\n' "$name"
        record failed "$stage" "$name"
    fi
}

# A build is quiet unless it fails. Two stages may want the same directory: the second waits.
check_build() { # STAGE BUILD-FUNCTION
    local lock=$2
    case $2 in
        build_product) lock=build_main ;;
        configure_clang) lock=build_clang ;;
    esac
    (
        flock 9
        check_build_locked "$@"
    ) 9>>"$QUICKSTART_RUN_DIR/lock.$lock"
}

check_build_locked() { # STAGE BUILD-FUNCTION
    local log
    log=$(mktemp)
    if "$2" >"$log" 2>&1; then
        rm -f "$log"
        record passed "$1" "$2"
        return 0
    fi
    # ninja says FAILED before what a compiler said; meson's own failures are at the end.
    if grep -q '^FAILED' "$log"; then
        sed -n '/^FAILED/,$p' "$log" | head -n 200
    else
        tail -n 40 "$log"
    fi
    rm -f "$log"
    record failed "$1" "$2"
    return 1
}

sanitizer_environment() {
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:halt_on_error=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
}

# pytest on a folder; its outcomes are the stage's. That no test is chosen (5) is none; results.py
# takes a stage without any outcome for failed.
run_pytest() { # STAGE FOLDER OPTION…
    local junit stage=$1 folder=$2 code=0
    shift 2
    junit=$(mktemp)
    [ -z "$QUICKSTART_EXPRESSION" ] || set -- "$@" -k "$QUICKSTART_EXPRESSION"
    /usr/bin/python3 -B -m pytest -q --junitxml="$junit" -p no:cacheprovider --tb=short "$@" \
        "$folder" || code=$?
    [ $code -eq 5 ] ||
        /usr/bin/python3 packaging/quickstart/results.py junit "$results" "$stage" "$junit"
    rm -f "$junit"
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart test`: stages, each of which runs whatever happened before. Each stage
# appends lines "outcome<TAB>stage<TAB>name<TAB>reason" to a results file; results.py sums up.

# The first run alone; then the compiling and the waiting ones at the same time, which share the
# machine well. The long ones take more time than all others together: only on request.
first_stages=(static build)
compiling_stages=(clang package kernel)
waiting_stages=(unit e2e torture e2e-express)
long_compiling_stages=(asan tsan tidy fuzz)
long_waiting_stages=(e2e-asan e2e-tsan)
long_stages=("${long_compiling_stages[@]}" "${long_waiting_stages[@]}")
all_stages=("${first_stages[@]}" "${compiling_stages[@]}" "${waiting_stages[@]}"
    "${long_stages[@]}")
results=
pytest_expression=
with_long_stages=no

describe_stage() {
    case $1 in
        static) echo "formatting, shell scripts, man pages, licence lines" ;;
        build) echo "gcc, warnings are errors" ;;
        clang) echo "clang with thread-safety analysis, warnings are errors" ;;
        package) echo "deb and rpm: built, checked, installed, upgraded and removed on a throw-away layer" ;;
        tidy) echo "clang-tidy on every source file" ;;
        unit) echo "unit tests" ;;
        e2e) echo "end-to-end tests: two nodes, real processes" ;;
        e2e-express) echo "the same, with the applications at the express door" ;;
        torture) echo "a minute of faults drawn from a seed through each door, on two nodes under load" ;;
        kernel) echo "virtual machines with systemd, the packages and the kernel's nbd" ;;
        fuzz) echo "libFuzzer on everything that strangers and disks hand us, two minutes a target" ;;
        asan) echo "unit tests under AddressSanitizer and UBSan" ;;
        tsan) echo "unit tests under ThreadSanitizer" ;;
        e2e-asan) echo "end-to-end tests under AddressSanitizer and UBSan (those marked sanitizers)" ;;
        e2e-tsan) echo "end-to-end tests under ThreadSanitizer (those marked sanitizers)" ;;
    esac
}

run_tests() {
    local -a chosen=()
    while [ $# -gt 0 ]; do
        case $1 in
            --list)
                for stage in "${all_stages[@]}"; do
                    printf '%-12s %s\n' "$stage" "$(describe_stage "$stage")"
                done
                return 0
                ;;
            --only)
                [ -n "$(describe_stage "${2:-}")" ] || die_usage "--only needs a stage (test --list)"
                chosen+=("$2")
                shift 2
                ;;
            --all)
                with_long_stages=yes
                shift
                ;;
            -k)
                [ -n "${2:-}" ] || die_usage "-k needs an expression"
                pytest_expression=$2
                shift 2
                ;;
            *) die_usage "test has no option '$1'" ;;
        esac
    done
    install_packages build test package
    results=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$results' '$results'.*" EXIT
    if [ ${#chosen[@]} -gt 0 ]; then
        run_stages "${chosen[@]}"
    else
        run_lanes
    fi
    /usr/bin/python3 packaging/quickstart/results.py summary "$results"
}

run_lanes() {
    if [ $with_long_stages = yes ]; then
        compiling_stages+=("${long_compiling_stages[@]}")
        waiting_stages+=("${long_waiting_stages[@]}")
    fi
    run_stages "${first_stages[@]}"
    run_stages "${waiting_stages[@]}" &
    run_stages "${compiling_stages[@]}"
    wait
    [ $with_long_stages = yes ] || record_left_out
}

record_left_out() {
    local stage
    for stage in "${long_stages[@]}"; do
        record skipped "$stage" "$(describe_stage "$stage")" \
            "takes long: ./quickstart test --only $stage, or --all"
    done
}

# What a stage says comes in one piece, when it is done.
run_stages() { # STAGE…
    local stage output
    output=$(mktemp)
    for stage in "$@"; do
        note "$stage begins"
        run_stage "$stage" >"$output" 2>&1
        cat "$output"
    done
    rm -f "$output"
}

run_stage() { # STAGE
    local began=$SECONDS
    heading "$1: $(describe_stage "$1")"
    "stage_${1//-/_}" "$1"
    note "$(/usr/bin/python3 packaging/quickstart/results.py counts "$results" "$1"), $((SECONDS - began)) s"
}

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

# A build is quiet unless it fails. Two stages may want the same one: the second waits.
check_build() { # STAGE BUILD-FUNCTION
    (
        flock 9
        check_build_locked "$@"
    ) 9>>"$results.$2"
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

tracked() { # PATTERN…
    if [ -e .git ] && command -v git >/dev/null; then
        git -c safe.directory='*' ls-files --cached --others --exclude-standard -- "$@"
    else
        find . \( -path './build*' -o -path ./.git \) -prune -o -type f -print | sed 's|^\./||' | grep -E "$(globs_to_regex "$@")"
    fi
}

globs_to_regex() {
    local joined
    joined=$(printf '|%s' "$@")
    printf '^(%s)$' "$(sed 's/\./\\./g; s/\*/.*/g' <<<"${joined:1}")"
}

check_format() { tracked '*.cpp' '*.hpp' | xargs -r clang-format --dry-run --Werror; }
check_shell() {
    { tracked '*.sh' && printf '%s\n' quickstart .ci/run packaging/package-steps \
        packaging/completion/mirrorctl; } | xargs -r shellcheck -x
}
check_pod() {
    local page good=0
    while read -r page; do
        podchecker -warnings "$page" >/dev/null 2>&1 && continue
        podchecker -warnings "$page"
        good=1
    done < <(tracked '*.pod')
    return $good
}
check_python() {
    tracked '*.py' | xargs -r /usr/bin/python3 -c '
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)'
}
check_spdx() {
    local missing
    missing=$(tracked '*.cpp' '*.hpp' '*.sh' '*.py' '*.build' '*.pod' |
        xargs -r grep -L 'SPDX-License-Identifier: BSD-3-Clause')
    [ -z "$missing" ] || { printf '   no SPDX line: %s\n' "$missing" && return 1; }
}

stage_static() {
    check "$1" clang-format check_format
    check "$1" shellcheck check_shell
    check "$1" podchecker check_pod
    check "$1" python-syntax check_python
    check "$1" spdx-lines check_spdx
}

stage_build() { check_build "$1" build_main || true; }
stage_clang() { check_build "$1" build_clang || true; }
stage_unit() { unit_tests "$1" build build_main; }
stage_asan() { unit_tests "$1" build-asan build_asan; }
stage_tsan() { unit_tests "$1" build-tsan build_tsan; }
stage_e2e() { e2e_tests "$1" build build_main ''; }
stage_e2e_express() { MIRRORDISK_TEST_DOOR=express e2e_tests "$1" build build_main ''; }
stage_e2e_asan() { e2e_tests "$1" build-asan build_asan sanitizers; }
stage_e2e_tsan() { e2e_tests "$1" build-tsan build_tsan sanitizers; }

sanitizer_environment() {
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:halt_on_error=1
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
}

unit_tests() ( # STAGE DIR BUILD-FUNCTION
    check_build "$1" "$3" || return 0
    sanitizer_environment
    /usr/bin/meson test -C "$2" --no-rebuild --suite unit --print-errorlogs \
        --timeout-multiplier 4 -q || true
    /usr/bin/python3 packaging/quickstart/results.py meson "$results" "$1" "$2/meson-logs/testlog.json"
)

e2e_tests() ( # STAGE DIR BUILD-FUNCTION MARKER
    local junit
    check_build "$1" "$3" || return 0
    junit=$(mktemp)
    local -a options=(-q --junitxml="$junit" -p no:cacheprovider --tb=short)
    [ -z "$4" ] || options+=(-m "$4")
    [ -z "$pytest_expression" ] || options+=(-k "$pytest_expression")
    MIRRORDISK_BUILD="$PWD/$2" timeout --kill-after=30 2400 \
        /usr/bin/python3 -B -m pytest "${options[@]}" tests/e2e || true
    /usr/bin/python3 packaging/quickstart/results.py junit "$results" "$1" "$junit"
    rm -f "$junit"
)

# The seed is new each time; the line of the result has it, so that the moves can be repeated.
stage_torture() {
    check_build "$1" build_main || return 0
    torture_through nbdkit "$1"
    torture_through express "$1"
}

torture_through() { # DOOR STAGE
    local seconds=${QUICKSTART_TORTURE_SECONDS:-60} seed figures outcome=passed
    seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    figures=$(mktemp)
    MIRRORDISK_TEST_DOOR=$1 timeout --kill-after=30 $((seconds + 600)) tests/torture/torture \
        --quiet --seconds "$seconds" --seed "$seed" --json "$figures" || outcome=failed
    /usr/bin/python3 packaging/quickstart/results.py torture "$results" "$2" "$figures" \
        "$outcome" "$seed"
    rm -f "$figures"
}

# Two files at a time; whatever the time does not suffice for is skipped and said.
stage_tidy() {
    local budget=${QUICKSTART_TIDY_SECONDS:-300}
    configure_in build-clang clang++ -Dbuildtype=plain -Doptimization=0 -Db_pch=false || {
        record failed "$1" configure
        return 0
    }
    tracked '*.cpp' | grep -v '^tests/' |
        xargs -r -P 2 -n 1 packaging/quickstart/tidy-one.sh "$results" "$(($(date +%s) + budget))"
}

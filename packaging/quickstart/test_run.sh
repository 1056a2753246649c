# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart test`: which stages run, beside which others, for how long at most, and what is said
# of them at the end. stages.table lists them; stages/NAME.sh has what they do.
#
# Everything that a run leaves is in build-test/, by stage: STAGE.log (what it printed),
# STAGE.results (a line a test, see results.py) and, once it has ended, STAGE.done (seconds,
# and the state of the tree that it ran on). From these --continue knows what is left.

run_dir=$PWD/build-test
lanes=(1 2)
pytest_expression=
run_all=no
continue_run=no
teller=

stages_of() { # LANE
    table | awk -v lane="$1" -v all="$run_all" '$3 == lane && ($2 == "default" || all == "yes") { print $1 }'
}
left_out_stages() { table | awk '$2 == "all" { print $1 }'; }

list_stages() {
    table | while read -r name when _ budget words; do
        printf '%-17s %-8s %5s s  %s\n' "$name" "$when" "$budget" "$words"
    done
}

run_tests() {
    local -a chosen=()
    while [ $# -gt 0 ]; do
        case $1 in
            --list)
                list_stages
                return 0
                ;;
            --only)
                [ -n "${2:-}" ] || die_usage "--only needs a stage; test --list lists them" "help test"
                [ -n "$(stage_words "$2")" ] ||
                    die_usage "there is no stage '$2'; test --list lists them" "help test"
                chosen+=("$2")
                shift
                ;;
            --all) run_all=yes ;;
            --continue) continue_run=yes ;;
            -k)
                [ -n "${2:-}" ] || die_usage "-k needs an expression" "help test"
                pytest_expression=$2
                shift
                ;;
            *) die_usage "test has no option '$1'" "help test" ;;
        esac
        shift
    done
    begin_run "${chosen[@]}"
    if [ ${#chosen[@]} -gt 0 ]; then
        run_stages "${chosen[@]}"
    else
        # shellcheck disable=SC2046 # names without spaces
        run_stages $(stages_of 0)
        run_lanes
    fi
    end_run "${chosen[@]}"
}

begin_run() { # CHOSEN…
    local -a purposes=(build test deb rpm both check_packages)
    [ "$(package_tool)" != apt ] || purposes+=(kernel)
    [ $run_all = no ] || purposes+=(tidy fuzz)
    run_began=$SECONDS
    install_packages "${purposes[@]}"
    mkdir -p "$run_dir"
    exec 8>"$run_dir/lock"
    flock -n 8 || die "another test run is in progress in $run_dir"
    if [ $continue_run = no ] && [ $# -eq 0 ]; then
        rm -f "$run_dir"/*.log "$run_dir"/*.results "$run_dir"/*.done "$run_dir"/summary.txt
    fi
    rm -f "$run_dir"/stop "$run_dir"/*.runs
    tree=$(tree_id)
    export QUICKSTART_RUN_DIR=$run_dir QUICKSTART_EXPRESSION=$pytest_expression
    trap 'interrupted' INT TERM HUP
}

# A name for the content of all files of the project, to the letter.
tree_id() {
    tracked '*' | sort | while IFS= read -r file; do
        [ ! -f "$file" ] || printf '%s\0' "$file"
    done | xargs -0 sha1sum | sha1sum | cut -c 1-12
}

run_lanes() {
    local lane
    local -a pids=()
    for lane in "${lanes[@]}"; do
        # shellcheck disable=SC2046
        run_stages $(stages_of "$lane") &
        pids+=($!)
    done
    tell_progress 8>&- &
    teller=$!
    wait "${pids[@]}"
    kill "$teller" 2>/dev/null
    wait "$teller" 2>/dev/null || true
}

# Where the stages are that run now, every two minutes.
tell_progress() {
    local stage began seconds=0
    # In short steps, none of which holds what this run prints open after its end.
    while sleep 1 >/dev/null 2>&1; do
        [ $((++seconds % 120)) -eq 0 ] || continue
        for stage in $(table | cut -d ' ' -f 1); do
            read -r began _ 2>/dev/null <"$run_dir/$stage.runs" || continue
            note "$stage: $(duration $(($(date +%s) - began))), budget $(duration "$(stage_field "$stage" 4)")"
        done
    done
}

# What a stage says comes in one piece, when it has ended.
run_stages() { # STAGE…
    local stage
    for stage in "$@"; do
        [ ! -e "$run_dir/stop" ] || return 0
        if [ $continue_run = yes ] && is_done "$stage"; then
            note "$stage: passed already"
        else
            run_stage "$stage"
        fi
    done
}

is_done() { # STAGE
    [ -e "$run_dir/$1.done" ] && ! grep -q '^failed' "$run_dir/$1.results"
}

run_stage() { # STAGE
    local stage=$1 began=$SECONDS budget limit code=0 took
    budget=$(stage_field "$stage" 4)
    limit=$((budget * 4 * ${QUICKSTART_SLOWNESS:-1}))
    note "$stage begins; budget $(duration "$budget")"
    rm -f "$run_dir/$stage".{results,done,log}
    date +%s >"$run_dir/$stage.runs"
    timeout --kill-after=60 "$limit" bash packaging/quickstart/stage "$stage" \
        >"$run_dir/$stage.log" 2>&1 8>&- &
    echo $! >>"$run_dir/$stage.runs"
    wait $! || code=$?
    took=$((SECONDS - began))
    rm -f "$run_dir/$stage.runs"
    [ ! -e "$run_dir/stop" ] || return 0
    heading "$stage: $(stage_words "$stage")"
    if [ $code = 124 ] || [ $code = 137 ]; then
        printf 'failed\t%s\tended after %s s\tit hung: it took four times its budget; its whole output is in build-test/%s.log\n' \
            "$stage" "$took" "$stage" >>"$run_dir/$stage.results"
        echo "   ended after $(duration "$took"); its last output:"
        tail -n 40 "$run_dir/$stage.log"
    else
        cat "$run_dir/$stage.log"
        [ $code = 0 ] || printf 'failed\t%s\tended with exit code %s\t\n' "$stage" "$code" \
            >>"$run_dir/$stage.results"
        [ -e "$run_dir/$stage.results" ] || printf 'failed\t%s\tnothing was tested\t\n' "$stage" \
            >>"$run_dir/$stage.results"
    fi
    printf '%s %s\n' "$took" "$tree" >"$run_dir/$stage.done"
    note "$(results counts "$stage"), $(duration "$took") of $(duration "$budget")"
}

results() { # VERB ARGUMENT…
    /usr/bin/python3 packaging/quickstart/results.py "$1" "$run_dir" "${@:2}"
}

# Ends what runs, and leaves what has ended to --continue.
interrupted() {
    local runs pid
    trap '' INT TERM HUP
    touch "$run_dir/stop"
    for runs in "$run_dir"/*.runs; do
        [ -e "$runs" ] || continue
        pid=$(tail -n 1 "$runs")
        kill -TERM "$pid" 2>/dev/null
    done
    [ -z "$teller" ] || kill "$teller" 2>/dev/null
    wait
    printf '\nstopped. The results of finished stages are kept: run the same command with --continue for the rest.\n' >&2
    exit 130
}

end_run() { # CHOSEN…
    local -a stages=("$@")
    trap - INT TERM HUP
    if [ $# -eq 0 ]; then
        # shellcheck disable=SC2207
        stages=($(stages_of 0) $(stages_of 1) $(stages_of 2))
        if [ $run_all = no ]; then
            note "not run, because they take hours: $(left_out_stages | paste -sd ' ')"
            note "./quickstart test --all runs everything; --only STAGE runs one of them"
        fi
    fi
    results summary "$tree" "$((SECONDS - run_began))" "${stages[@]}" | tee "$run_dir/summary.txt"
    return "${PIPESTATUS[0]}"
}

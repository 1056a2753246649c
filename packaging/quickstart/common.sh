# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Words, colours and progress for the other parts of quickstart.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' dim='' plain=''
fi

die() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

die_usage() {
    printf 'quickstart: %s; ./quickstart %s lists the options\n' "$1" "${2:-help}" >&2
    exit 2
}

heading() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

note() {
    printf '%s   %s%s\n' "$dim" "$*" "$plain"
}

duration() { # SECONDS
    if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# The newest "[done/total]" of ninja in a log, as "DONE TOTAL"; nothing before the first step.
ninja_steps() { # LOG
    tail -c 4000 "$1" 2>/dev/null | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1 | tr -d '[]' | tr / ' '
}

progress_text() { # WHAT LOG SECONDS
    local finished total left=''
    read -r finished total < <(ninja_steps "$2") || {
        echo "$1: $(duration "$3")"
        return
    }
    if [ "$finished" -gt 9 ] && [ "$finished" -lt "$total" ]; then
        left=", about $(duration $(($3 * (total - finished) / finished))) left"
    fi
    echo "$1: step $finished of $total, $(duration "$3")$left"
}

# Runs a command that writes to a log; meanwhile says how far it is: on a terminal in one line that
# changes, elsewhere in a line each half minute. Returns what the command returned.
with_progress() { # WHAT LOG COMMAND…
    local what=$1 log=$2 began=$SECONDS pid code=0 every=30 next=15
    shift 2
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    if [ -t 1 ]; then every=1 next=1; fi
    # A stage's output is read when the stage has ended.
    [ -z "${QUICKSTART_RUN_DIR:-}" ] || next=$((1 << 30))
    while kill -0 "$pid" 2>/dev/null; do
        if [ $((SECONDS - began)) -ge "$next" ]; then
            next=$((SECONDS - began + every))
            show_progress "$(progress_text "$what" "$log" $((SECONDS - began)))"
        fi
        sleep 0.2
    done
    wait "$pid" || code=$?
    [ ! -t 1 ] || printf '\r\e[K'
    note "$what: $(duration $((SECONDS - began)))"
    return "$code"
}

show_progress() { # TEXT
    if [ -t 1 ]; then printf '\r\e[K   %s' "$1"; else note "$1"; fi
}

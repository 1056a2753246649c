# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Words and colours for the other parts of quickstart.

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
    printf 'quickstart: %s; ./quickstart help lists what there is\n' "$*" >&2
    exit 2
}

heading() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

note() {
    printf '%s   %s%s\n' "$dim" "$*" "$plain"
}

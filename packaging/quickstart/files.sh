# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The project's own files, with git and without.

tracked() { # PATTERN…
    if [ -e .git ] && command -v git >/dev/null; then
        git -c safe.directory='*' ls-files --cached --others --exclude-standard -- "$@"
    else
        find . \( -path './build*' -o -path ./.git \) -prune -o -type f -print | sed 's|^\./||' |
            grep -E "$(globs_to_regex "$@")"
    fi
}

globs_to_regex() {
    local joined
    joined=$(printf '|%s' "$@")
    printf '^(%s)$' "$(sed 's/\./\\./g; s/\*/.*/g' <<<"${joined:1}")"
}

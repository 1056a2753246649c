#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# clang-tidy on one file, its outcome as one line of the results: tidy-one.sh RESULTS COMMON FILE,
# where COMMON changes with whatever else the outcome depends on.
set -u
results=$1 common=$2 file=$3
passed=build-clang/tidy/${file//\//_}
content="$common $(sha1sum <"$file")"

outcome() { printf '%s\ttidy\t%s\t\n' "$1" "$file" >>"$results"; }

if [ "$(cat "$passed" 2>/dev/null)" = "$content" ]; then
    outcome passed
elif output=$(clang-tidy --quiet -p build-clang "$file" 2>/dev/null); then
    printf '%s\n' "$content" >"$passed"
    outcome passed
else
    printf '%s\n' "$output"
    outcome failed
fi

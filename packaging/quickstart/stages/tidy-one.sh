#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# clang-tidy on one file, its outcome as one line of the results: tidy-one.sh RESULTS UNTIL FILE,
# where UNTIL is the second since 1970 after which nothing more is begun.
set -u
results=$1 until=$2 file=$3
if [ "$(date +%s)" -ge "$until" ]; then
    printf 'skipped\ttidy\t%s\tthe time for clang-tidy was used up\n' "$file" >>"$results"
    exit 0
fi
if output=$(clang-tidy --quiet -p build-clang "$file" 2>/dev/null); then
    printf 'passed\ttidy\t%s\t\n' "$file" >>"$results"
else
    printf '%s\n' "$output"
    printf 'failed\ttidy\t%s\t\n' "$file" >>"$results"
fi

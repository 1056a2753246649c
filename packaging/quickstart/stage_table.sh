# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Reads stages.table.

table() { grep -v '^ *\(#\|$\)' packaging/quickstart/stages.table; }
stage_field() { table | awk -v name="$1" -v field="$2" '$1 == name { print $field }'; }
stage_words() {
    table | awk -v name="$1" '$1 == name { $1 = $2 = $3 = $4 = ""; sub(/^ */, ""); print }'
}

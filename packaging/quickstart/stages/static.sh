# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The stage `static`: what can be judged by reading.

stage_static() {
    check "$1" clang-format check_format
    check "$1" shellcheck check_shell
    check "$1" podchecker check_pod
    check "$1" python-syntax check_python
    check "$1" spdx-lines check_spdx
    check "$1" threads check_threads
    check "$1" opens check_opens
    check "$1" words check_words
}

check_format() { tracked '*.cpp' '*.hpp' | xargs -r -n 16 -P "$(nproc)" clang-format --dry-run --Werror; }
check_shell() {
    { tracked '*.sh' && printf '%s\n' quickstart .ci/run packaging/package-steps \
        packaging/quickstart/stage tests/unit/run packaging/completion/mirrorctl packaging/events/*; } | xargs -r shellcheck -x
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
# core/base/start_thread.hpp says why.
check_threads() {
    local found
    found=$(tracked '*.cpp' '*.hpp' | grep -E '^(core|daemon|plugin|tools)/' |
        grep -v '^core/base/start_thread\.' |
        xargs -r grep -nE 'std::(j?thread|async)\b|pthread_create|\bfork\(')
    [ -z "$found" ] || { printf '   threads start with start_thread(), programs with spawn(): %s\n' "$found" && return 1; }
}
# core/base/trusted_file.hpp says why. A file of the list that opens nothing any more has no place there.
check_opens() {
    local calls listed found
    calls='(^|[^A-Za-z0-9_])::(open|open64|creat)\(|\b(openat2?|fopen|freopen|mkstemp|mkostemp)\(|\bopen\([^)]*\bO_'
    calls+='|std::[io]?fstream|SYS_open|parse_file\(|gnutls_[a-z0-9_]*_file\('
    listed=$(grep -v '^#' packaging/quickstart/stages/opens.list | cut -d ' ' -f 1 | sort)
    found=$(tracked '*.cpp' '*.hpp' | grep -E '^(core|daemon|plugin|tools)/' |
        xargs -r grep -HE "$calls" | grep -vE '^[^:]+: *//' | cut -d : -f 1 | sort -u)
    [ "$found" = "$listed" ] || {
        printf '   files are opened with core/base/trusted_file.hpp; not so, and not in opens.list (>), or listed in vain (<):\n'
        diff <(echo "$listed") <(echo "$found")
        return 1
    }
}
# words.py has the list; CONTRIBUTING.md has the words that are ours.
check_words() {
    tracked '*' | grep -v '^docs/performance/' |
        /usr/bin/python3 -B packaging/quickstart/stages/words.py packaging/quickstart/stages/words.list
}
check_spdx() {
    local missing
    missing=$(tracked '*.cpp' '*.hpp' '*.sh' '*.py' '*.build' '*.pod' |
        xargs -r grep -L 'SPDX-License-Identifier: BSD-3-Clause')
    [ -z "$missing" ] || { printf '   no SPDX line: %s\n' "$missing" && return 1; }
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results is set in stage
# The stage `tidy`: clang-tidy on every source file, as many at once as there are processors. A file
# that has passed has passed while it, the headers and the rules are as they were, so that a run that
# was ended resumes where it was.

stage_tidy() {
    local common
    install_packages tidy
    check_build "$1" configure_clang || return 0
    mkdir -p build-clang/tidy
    common=$(tracked '*.hpp' .clang-tidy | xargs cat | sha1sum)
    tracked '*.cpp' | xargs -r -P "$(nproc)" -n 1 \
        packaging/quickstart/tidy-one.sh "$results" "$common"
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The stages that compile: the product by gcc, everything by clang.

stage_build() { check_build "$1" build_product || true; }
stage_clang_all() { check_build "$1" build_clang || true; }

# Each file of the product alone, without code generation: warnings, thread-safety annotations, and
# whether it includes what it uses.
stage_clang() {
    check_build "$1" configure_clang || return 0
    check "$1" "the product's files" /usr/bin/python3 packaging/quickstart/stages/syntax.py \
        build-clang core daemon plugin tools
}

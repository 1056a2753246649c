# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results and packages_dir are set in stages.sh and package.sh
# The stage `kernel`: tests/kernel, in virtual machines without KVM; after the other compiling stages,
# since it shares the machine badly.

stage_kernel() (
    local junit why packages=
    install_packages kernel
    if why=$(kernel_obstacle); then
        record skipped "$1" "$(describe_stage "$1")" "$why"
        return 0
    fi
    check_build "$1" build_main || return 0
    if declare -F build_package >/dev/null && ! package_obstacle deb >/dev/null; then
        fresh_packages || check "$1" "build the .deb packages" build_package deb
        packages=$PWD/$packages_dir
    fi
    junit=$(mktemp)
    local -a options=(-q --junitxml="$junit" -p no:cacheprovider --tb=short)
    [ -z "$pytest_expression" ] || options+=(-k "$pytest_expression")
    MIRRORDISK_BUILD="$PWD/build" MIRRORDISK_PACKAGES=$packages timeout --kill-after=30 3600 \
        /usr/bin/python3 -B -m pytest "${options[@]}" tests/kernel || true
    /usr/bin/python3 packaging/quickstart/results.py junit "$results" "$1" "$junit"
    rm -f "$junit"
)

# Why there can be no guests here; fails when there can.
kernel_obstacle() {
    PYTHONPATH=tests/kernel:tests/e2e /usr/bin/python3 -B -c '
import sys
from guests import image
why = image.why_not()
print(why)
sys.exit(not why)'
}

# Whether there are packages of what was just built.
fresh_packages() {
    local package
    for package in "$packages_dir"/mirrordisk_*.deb; do
        [ "$package" -nt build/daemon/mirrord ] || return 1
    done
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages_dir is set in package.sh
# The stages `kernel` and `kernel-all`: tests/kernel, in virtual machines without KVM.

stage_kernel() { kernel_tests "$1" -m 'not long'; }
stage_kernel_all() { MIRRORDISK_KERNEL_TESTS=all kernel_tests "$1"; }

kernel_tests() { # STAGE PYTEST-OPTION…
    local why stage=$1 packages=
    shift
    install_packages kernel
    if why=$(kernel_obstacle); then
        record skipped "$stage" "$(stage_words "$stage")" "$why"
        return 0
    fi
    check_build "$stage" build_product || return 0
    if ! package_obstacle deb >/dev/null; then
        check_debs "$stage" && packages=$PWD/$packages_dir
    fi
    MIRRORDISK_BUILD="$PWD/build" MIRRORDISK_PACKAGES=$packages \
        run_pytest "$stage" tests/kernel "$@"
}

# Why there can be no guests here; fails when there can.
kernel_obstacle() {
    PYTHONPATH=tests/kernel:tests/e2e /usr/bin/python3 -B -c '
import sys
from guests import image
why = image.why_not()
print(why)
sys.exit(not why)'
}

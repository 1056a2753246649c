# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages_dir and results are set in package.sh and stages.sh
# The stage `package`: builds both kinds, has them judged by their distributions' checkers, and
# installs, upgrades and removes them on a throw-away layer over this machine's root file system.

stage_package() {
    local kind why
    for kind in deb rpm; do
        if why=$(package_obstacle "$kind"); then
            record skipped "$1" "build the .$kind packages" "$why"
        else
            check "$1" "build the .$kind packages" build_package "$kind"
        fi
    done
    check_with "$1" lintian check_lintian deb
    check_with "$1" rpmlint check_rpmlint rpm
    package_tests "$1"
}

# A checker that is not there is skipped, and so is one without its packages.
check_with() { # STAGE PROGRAM FUNCTION deb|rpm
    if ! compgen -G "$packages_dir/*.$4" >/dev/null; then
        record skipped "$1" "$2" "there are no .$4 packages"
    elif ! command -v "$2" >/dev/null; then
        record skipped "$1" "$2" "$2 is not here"
    else
        check "$1" "$2" "$3"
    fi
}

check_lintian() {
    local said
    said=$(lintian --allow-root --fail-on warning,error "$packages_dir"/*.deb) && return 0
    printf '%s\n' "$said"
    return 1
}

# Its exit code counts errors alone.
check_rpmlint() {
    local said
    said=$(cd "$packages_dir" && rpmlint -c ../packaging/rpm/rpmlint.toml ./*.rpm 2>&1) &&
        grep -q ' 0 errors, 0 warnings' <<<"$said" && return 0
    printf '%s\n' "$said"
    return 1
}

package_tests() ( # STAGE
    local junit
    check_build "$1" build_main || return 0
    junit=$(mktemp)
    MIRRORDISK_BUILD="$PWD/build" MIRRORDISK_PACKAGES="$PWD/$packages_dir" \
        timeout --kill-after=30 900 /usr/bin/python3 -B -m pytest -q --junitxml="$junit" \
        -p no:cacheprovider --tb=short tests/packages || true
    /usr/bin/python3 packaging/quickstart/results.py junit "$results" "$1" "$junit"
    rm -f "$junit"
)

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages_dir and results are set in package.sh and stage
# The stages `deb` and `package`: both kinds are built, judged by their distributions' checkers, and
# installed, upgraded and removed on a throw-away layer over this machine's root file system.

stage_deb() {
    local why
    if why=$(package_obstacle deb); then
        record skipped "$1" "build the .deb packages" "$why"
    else
        check_debs "$1" || true
    fi
}

stage_package() {
    local why
    if why=$(package_obstacle rpm); then
        record skipped "$1" "build the .rpm packages" "$why"
    else
        check "$1" "build the .rpm packages" in_packages_dir build_package rpm
    fi
    package_obstacle deb >/dev/null || check_debs "$1" || true
    check_with "$1" lintian check_lintian deb
    check_with "$1" rpmlint check_rpmlint rpm
    check_build "$1" build_main || return 0
    MIRRORDISK_BUILD="$PWD/build" MIRRORDISK_PACKAGES="$PWD/$packages_dir" \
        run_pytest "$1" tests/packages
}

# The .deb files of the tree as it is; built once, whoever asks first.
check_debs() { # STAGE
    in_packages_dir check_debs_locked "$1"
}

check_debs_locked() { # STAGE
    fresh_debs || check "$1" "build the .deb packages" build_package deb
}

fresh_debs() {
    local package
    package=$(compgen -G "$packages_dir/mirrordisk_*.deb") || return 1
    [ -z "$(find core daemon plugin tools docs packaging meson.build meson_options.txt \
        -newer "$package" -type f -print -quit)" ]
}

# One kind at a time: they share the directory of their sources.
in_packages_dir() { # COMMAND…
    mkdir -p "$packages_dir"
    (
        flock 9
        "$@"
    ) 9>>"$packages_dir/lock"
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
    local -a options=(--allow-root --fail-on "warning,error")
    # Only a release has a maintainer who can be written to.
    [ "${MIRRORDISK_RELEASE:-0}" = 1 ] ||
        options+=(--suppress-tags "bogus-mail-host,bogus-mail-host-in-debian-changelog")
    said=$(lintian "${options[@]}" "$packages_dir"/*.deb) && return 0
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

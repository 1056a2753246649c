# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# `./quickstart package`: the .deb and .rpm files of this tree, in build-packages/.

packages_dir=build-packages
package_revision=1

make_packages() {
    local -a kinds=() purposes=(build)
    while [ $# -gt 0 ]; do
        case $1 in
            --deb | --rpm) kinds+=("${1#--}") ;;
            --revision)
                [[ ${2:-} =~ ^[0-9]+$ ]] || die_usage "--revision needs a number" "help package"
                package_revision=$2
                shift
                ;;
            *) die_usage "package has no option '$1'" "help package" ;;
        esac
        shift
    done
    [ ${#kinds[@]} -gt 0 ] || kinds=(deb rpm)
    require_contacts
    purposes+=("${kinds[@]}")
    # What has been compiled for one kind is there for the other.
    [ ${#kinds[@]} -eq 1 ] || purposes+=(both)
    install_packages "${purposes[@]}"
    local kind made=0
    for kind in "${kinds[@]}"; do
        if why_not=$(package_obstacle "$kind"); then
            note "no .$kind: $why_not"
        else
            build_package "$kind" || die "the .$kind packages could not be built"
            made=1
        fi
    done
    [ $made = 1 ] || die "no package was built"
    describe_packages || die "the checksums and the bill of materials could not be written"
    heading "packages, in $packages_dir/"
    list_packages
}

# Why a kind of package can't be built here; fails when it can.
package_obstacle() { # deb|rpm
    case $1 in
        deb) command -v dh >/dev/null && command -v dpkg-buildpackage >/dev/null && return 1
            echo "debhelper is not installed (it needs Debian)" ;;
        rpm) command -v rpmbuild >/dev/null && return 1
            echo "rpmbuild is not installed" ;;
    esac
}

list_packages() {
    (cd "$packages_dir" && find . -maxdepth 1 \( -name '*.deb' -o -name '*.rpm' \) \
        -printf '%f\t%k KiB\n' | sort | expand -t 60)
    note "debug information: $packages_dir/debug/; checksums: SHA256SUMS; what is in them: sbom.cdx.json"
    note "security contact: $(security_contact)"
}

build_package() { # deb|rpm
    local log=$packages_dir/$1.log
    mkdir -p "$packages_dir"
    if ! with_progress "the .$1 packages" "$log" "build_$1"; then
        tail -n 60 "$log" >&2
        return 1
    fi
}

# The steps of build_deb and build_rpm say where they end: they run where bash ignores `set -e`.

# The one place that has the version.
project_version() { sed -n "s/^ *version: '\([0-9.]*\)',$/\1/p" meson.build | head -n 1; }

# The sources without what was built from them. Both kinds are compiled in a directory of the same
# name, so that ccache has compiled for the second when it has for the first.
stage_sources() { # DIR
    rm -rf "$packages_dir/staging"
    mkdir -p "$1"
    tracked '*' | while IFS= read -r file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar -c --null -T - | tar -x -C "$1"
}

compile_environment() { # DIR
    # dh and rpmbuild may give the compiler another HOME.
    if command -v ccache >/dev/null; then
        CCACHE_DIR=$(ccache -k cache_dir)
        export CCACHE_DIR CCACHE_BASEDIR="$1" CCACHE_NOHASHDIR=1 CXX="ccache g++"
        export LANG=C.UTF-8 # part of what ccache compares, and rpmbuild sets it
    else
        export CXX=g++
    fi
    SOURCE_DATE_EPOCH=$(source_time)
    export SOURCE_DATE_EPOCH
}

build_deb() {
    local tree
    tree=$PWD/$packages_dir/staging/mirrordisk-$(project_version)
    stage_sources "$tree" || return 1
    compile_environment "$tree"
    cp -r packaging/debian "$tree/debian"
    put_contacts "$tree" || return 1
    sed -e "s/@VERSION@/$(project_version)/; s/@REVISION@/$package_revision/" \
        -e "s/@DATE@/$(date -R -u -d "@$SOURCE_DATE_EPOCH")/" \
        "$tree/debian/changelog.in" >"$tree/debian/changelog"
    rm "$tree/debian/changelog.in"
    (cd "$tree" && dpkg-buildpackage -b -us -uc) || return 1
    take_packages deb "$packages_dir"/staging/*.deb
}

build_rpm() {
    local top tree version
    version=$(project_version)
    top=$PWD/$packages_dir/staging
    tree=$top/mirrordisk-$version
    stage_sources "$tree" || return 1
    put_contacts "$tree" || return 1
    compile_environment "$tree"
    tar -C "$top" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 -czf "$top/mirrordisk-$version.tar.gz" \
        "mirrordisk-$version" || return 1
    local -a options=(--define "_topdir $top/rpm" --define "_sourcedir $top"
        --define "_builddir $top" --define "_rpmdir $top/rpms"
        --define "mirrordisk_version $version" --define "mirrordisk_revision $package_revision"
        # The time and the machine of a build are in no package.
        --define "use_source_date_epoch_as_buildtime 1" --define "_buildhost reproducible"
        --define "clamp_mtime_to_source_date_epoch 1" --define "build_mtime_policy clamp_to_source_date_epoch")
    [ -z "${MIRRORDISK_URL:-}" ] || options+=(--define "mirrordisk_url $MIRRORDISK_URL")
    if command -v dpkg-buildflags >/dev/null; then
        # Debian's rpm knows none of the Debian packages that are installed, and has no flags that
        # harden. Flags as for the .deb: what that has compiled is ccache's then.
        options+=(--nodeps --define "optflags $(debian_flags CXXFLAGS) $(debian_flags CPPFLAGS)"
            --define "build_ldflags $(debian_flags LDFLAGS)")
    fi
    rpmbuild -bb "${options[@]}" "$tree/packaging/rpm/mirrordisk.spec" || return 1
    take_packages rpm "$top"/rpms/*/*.rpm
}

# Those with debug information go apart: nobody wants them installed by *.deb.
take_packages() { # deb|rpm FILE…
    local kind=$1 file
    shift
    rm -f "$packages_dir"/*."$kind" "$packages_dir"/debug/*."$kind"
    mkdir -p "$packages_dir/debug"
    for file in "$@"; do
        case $file in
            *-dbgsym_* | *-debuginfo-* | *-debugsource-*) mv "$file" "$packages_dir/debug/" ;;
            *) mv "$file" "$packages_dir/" ;;
        esac
    done
}

debian_flags() ( # NAME; with the directory of the sources in $tree
    cd "$tree" && DEB_BUILD_MAINT_OPTIONS=hardening=+all dpkg-buildflags --get "$1"
)

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What each verb needs from the distribution, and how to get it.
# The lists are found by name, in missing_packages:
# shellcheck disable=SC2034

debian_build=(g++ meson ninja-build pkg-config nbdkit nbdkit-plugin-dev libgnutls28-dev libfmt-dev
    libtomlplusplus-dev nlohmann-json3-dev libxxhash-dev libexpected-dev libcli11-dev
    libnl-genl-3-dev libseccomp-dev perl)
debian_demo=(python3 libnbd-bin e2fsprogs fuse3 util-linux mount kmod)
debian_test=("${debian_demo[@]}" libnbd-dev gnutls-bin doctest-dev python3-pytest python3-pytest-xdist python3-libnbd fio qemu-utils shellcheck clang
    clang-tidy clang-format libfaketime iproute2)
debian_package=(debhelper lintian rpm rpmlint ccache file systemd)
debian_fuzz=(clang libclang-rt-dev)
# doctest, since meson configures all tests.
debian_bench=(fio nbdkit libnbd-bin libnbd-dev python3-libnbd qemu-system-common doctest-dev python3 util-linux
    diffutils)
debian_kernel=(qemu-system-x86 qemu-utils seabios mmdebstrap cpio kmod e2fsprogs)

fedora_build=(gcc-c++ meson ninja-build pkgconf-pkg-config nbdkit-server nbdkit-devel gnutls-devel
    fmt-devel tomlplusplus-devel json-devel xxhash-devel expected-devel cli11-devel
    libnl3-devel libseccomp-devel perl-podlators)
fedora_demo=(python3 libnbd nbdfuse e2fsprogs fuse3 util-linux kmod)
fedora_test=("${fedora_demo[@]}" libnbd-devel gnutls-utils doctest-devel nbdkit-basic-plugins nbdkit-basic-filters python3-pytest
    python3-pytest-xdist python3-libnbd fio qemu-img ShellCheck clang clang-tools-extra libasan libubsan libtsan
    perl-Pod-Checker libfaketime iproute)
fedora_package=(rpm-build rpmlint ccache file systemd systemd-rpm-macros)
fedora_fuzz=(clang compiler-rt)
fedora_bench=(fio nbdkit-basic-plugins libnbd libnbd-devel python3-libnbd qemu-img doctest-devel python3
    util-linux diffutils)
fedora_kernel=()

package_tool() {
    if command -v apt-get >/dev/null; then
        echo apt
    elif command -v dnf >/dev/null; then
        echo dnf
    else
        die "neither apt-get nor dnf is here: install the packages that packaging/quickstart/packages.sh lists by hand"
    fi
}

is_installed() { # TOOL PACKAGE
    case $1 in
        apt) [ "$(dpkg-query -W -f '${db:Status-Status}' "$2" 2>/dev/null)" = installed ] ;;
        dnf) rpm -q --quiet --whatprovides "$2" ;;
    esac
}

# The packages for these purposes that are not there yet, one a line.
missing_packages() { # TOOL PURPOSE…
    local tool=$1 purpose list package
    shift
    for purpose in "$@"; do
        if [ "$tool" = apt ]; then list=debian_$purpose; else list=fedora_$purpose; fi
        local -n packages=$list
        for package in "${packages[@]}"; do
            is_installed "$tool" "$package" || echo "$package"
        done
    done | sort -u
}

install_packages() { # PURPOSE…
    local tool missing command
    tool=$(package_tool)
    mapfile -t missing < <(missing_packages "$tool" "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$tool" = apt ]; then
        command="apt-get install -qq -y --no-install-recommends ${missing[*]}"
    else
        command="dnf install -y --setopt=install_weak_deps=False ${missing[*]}"
    fi
    if [ "$(id -u)" -eq 0 ]; then
        echo "installing: ${missing[*]}, as root"
        run_installer "$tool" "" "$command"
    elif command -v sudo >/dev/null; then
        echo "installing: ${missing[*]}, through sudo"
        run_installer "$tool" sudo "$command"
    else
        printf 'quickstart: these packages are missing: %s\nrun as root: %s\n' \
            "${missing[*]}" "$command" >&2
        exit 1
    fi
}

run_installer() { # TOOL SUDO COMMAND
    local words
    read -ra words <<<"$3"
    local -a prefix=(env DEBIAN_FRONTEND=noninteractive)
    [ -z "$2" ] || prefix=("$2" "${prefix[@]}")
    if [ "$1" = apt ]; then
        "${prefix[@]}" apt-get update -q >/dev/null ||
            die "apt-get update failed: is the network there?"
    fi
    "${prefix[@]}" "${words[@]}" </dev/null || die "could not install: ${words[*]}"
}

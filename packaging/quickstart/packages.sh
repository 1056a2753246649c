# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What each verb needs from the distribution, and how to get it.
# The lists are found by name, in missing_packages:
# shellcheck disable=SC2034

debian_build=(g++ meson ninja-build pkg-config nbdkit nbdkit-plugin-dev libgnutls28-dev libfmt-dev
    libtomlplusplus-dev nlohmann-json3-dev libxxhash-dev libexpected-dev libcli11-dev
    libnl-genl-3-dev libseccomp-dev perl mold)
debian_demo=(python3 libnbd-bin e2fsprogs fuse3 util-linux mount kmod)
debian_test=("${debian_demo[@]}" libnbd-dev gnutls-bin doctest-dev python3-pytest
    python3-pytest-xdist python3-libnbd fio qemu-utils shellcheck clang
    clang-format libfaketime iproute2 ccache zsh fish
    apparmor checkpolicy python3-yaml python3-jinja2)
debian_deb=(build-essential debhelper systemd)
debian_rpm=(rpm systemd cpio)
debian_both=(ccache)
debian_check_packages=(lintian rpmlint file)
debian_tidy=(clang clang-tidy)
debian_fuzz=(clang libclang-rt-dev)
# doctest, since meson configures all tests.
debian_bench=(fio nbdkit libnbd-bin libnbd-dev python3-libnbd qemu-system-common doctest-dev python3 util-linux
    diffutils)
debian_kernel=(qemu-system-x86 qemu-utils seabios mmdebstrap cpio kmod e2fsprogs)

fedora_build=(gcc-c++ meson ninja-build pkgconf-pkg-config nbdkit-server nbdkit-devel gnutls-devel
    fmt-devel tomlplusplus-devel json-devel xxhash-devel expected-devel cli11-devel
    libnl3-devel libseccomp-devel perl-podlators mold)
fedora_demo=(python3 libnbd nbdfuse e2fsprogs fuse3 util-linux kmod)
fedora_test=("${fedora_demo[@]}" libnbd-devel gnutls-utils doctest-devel nbdkit-basic-plugins
    nbdkit-basic-filters python3-pytest python3-pytest-xdist python3-libnbd fio qemu-img ShellCheck
    clang clang-tools-extra libasan libubsan libtsan perl-Pod-Checker libfaketime iproute ccache
    zsh fish checkpolicy python3-pyyaml python3-jinja2)
fedora_deb=()
fedora_rpm=(rpm-build systemd systemd-rpm-macros cpio)
fedora_both=(ccache)
fedora_check_packages=(rpmlint file)
fedora_tidy=(clang clang-tools-extra)
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
        die "neither apt-get nor dnf is available: install the packages listed in packaging/quickstart/packages.sh by hand"
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

# What apt or dnf would do: "43 packages, 112 MB to download, 431 MB on disk"; nothing where it does
# not say.
installation_size() { # TOOL PACKAGE…
    local tool=$1
    shift
    if [ "$tool" = apt ]; then
        LC_ALL=C apt-get install --assume-no --no-install-recommends "$@" 2>/dev/null </dev/null |
            sed -nE -e 's/^.*upgraded, ([0-9]+) newly installed.*/\1 packages/p' \
                -e 's/^Need to get (.*) of archives\.$/\1 to download/p' \
                -e 's/^After this operation, (.*) of additional disk space.*/\1 on disk/p'
    else
        LC_ALL=C dnf install --assumeno --setopt=install_weak_deps=False "$@" 2>/dev/null </dev/null |
            sed -nE -e 's/^Install +([0-9]+) Packages?.*/\1 packages/p' \
                -e 's/^Total download size: (.*)$/\1 to download/p' \
                -e 's/^Installed size: (.*)$/\1 on disk/p'
    fi | paste -sd, | sed 's/,/, /g; s/\([0-9]\) \([kMG]\)B/\1 \2B/g'
}

# Installs what is missing for these purposes, and says first what and how much; as root, or through
# sudo. With --no-install it says what is missing, and how to get it, and ends.
install_packages() { # PURPOSE…
    local tool missing command size
    local -a prefix=()
    tool=$(package_tool)
    mapfile -t missing < <(missing_packages "$tool" "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$tool" = apt ]; then
        command="apt-get install -qq -y --no-install-recommends ${missing[*]}"
    else
        command="dnf install -y --setopt=install_weak_deps=False ${missing[*]}"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || no_install=yes
        prefix=(sudo)
    fi
    if [ "${no_install:-no}" = yes ]; then
        printf 'quickstart: these packages are missing: %s\nrun as root: %s\n' \
            "${missing[*]}" "$command" >&2
        exit 1
    fi
    prefix+=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$tool" = apt ]; then
        "${prefix[@]}" apt-get update -q >/dev/null ||
            die "apt-get update failed; is there a network?"
    fi
    size=$(installation_size "$tool" "${missing[@]}") || true # what it would do is all that is asked
    echo "installing as root${size:+ ($size)}: ${missing[*]}"
    run_installer "${prefix[@]}" -- "$command"
}

run_installer() { # PREFIX… -- COMMAND
    local words log
    local -a prefix=()
    while [ "$1" != -- ]; do
        prefix+=("$1")
        shift
    done
    read -ra words <<<"$2"
    log=$(mktemp)
    if ! with_progress installing "$log" "${prefix[@]}" "${words[@]}"; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install: $2"
    fi
    rm -f "$log"
}

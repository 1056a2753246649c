# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages_dir is set in package.sh
# What makes packages fit to be handed out: whom to write to, one time for all of them, and what to
# check them against.
#
#   MIRRORDISK_RELEASE=1             the packages are for others: the two below are required
#   MIRRORDISK_SECURITY_CONTACT      an address or URL for reports of vulnerabilities
#   MIRRORDISK_MAINTAINER            "NAME <ADDRESS>" of whoever answers for the packages
#   MIRRORDISK_URL                   the rpm's URL; optional

no_contact="none (not a release: no security contact)"
# Debian and rpm want an address; nobody reads this one.
no_maintainer="mirrordisk development build <nobody@localhost>"

# Before anything is compiled.
require_contacts() {
    [ "${MIRRORDISK_RELEASE:-0}" = 1 ] || return 0
    [ -n "${MIRRORDISK_SECURITY_CONTACT:-}" ] ||
        die "MIRRORDISK_RELEASE=1: a release needs MIRRORDISK_SECURITY_CONTACT, an address or URL that users report vulnerabilities to"
    grep -qE '^[^<>]+ <[^<>@ ]+@[^<>@ ]+>$' <<<"${MIRRORDISK_MAINTAINER:-}" ||
        die "MIRRORDISK_RELEASE=1: a release needs MIRRORDISK_MAINTAINER=\"NAME <ADDRESS>\""
    ! grep -qE '@localhost|\.(invalid|example)\b' <<<"$MIRRORDISK_SECURITY_CONTACT $MIRRORDISK_MAINTAINER" ||
        die "MIRRORDISK_RELEASE=1: MIRRORDISK_SECURITY_CONTACT and MIRRORDISK_MAINTAINER must be addresses that exist"
}

security_contact() { echo "${MIRRORDISK_SECURITY_CONTACT:-$no_contact}"; }
package_maintainer() { echo "${MIRRORDISK_MAINTAINER:-$no_maintainer}"; }

# Puts the addresses into the copies that are packaged, never into the tree's own files.
put_contacts() { # DIR
    local file
    for file in SECURITY.md debian/control debian/changelog.in packaging/rpm/mirrordisk.spec; do
        [ ! -e "$1/$file" ] || replace_word "$1/$file" @SECURITY_CONTACT@ "$(security_contact)" \
            @MAINTAINER@ "$(package_maintainer)" || return 1
    done
}

# Literally: sed and bash give meaning to & in what they put in.
replace_word() { # FILE WORD TEXT [WORD TEXT…]
    /usr/bin/python3 - "$@" <<'PYTHON'
import pathlib, sys
file, *pairs = sys.argv[1:]
path = pathlib.Path(file)
text = path.read_text(encoding="utf-8")
for word, replacement in zip(pairs[::2], pairs[1::2]):
    text = text.replace(word, replacement)
path.write_text(text, encoding="utf-8")
PYTHON
}

# The time of the tree's newest commit, so that every copy of one tree makes the same packages; file
# times are those of the checkout. Without git that of the newest date in the changelogs.
source_time() {
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    elif git rev-parse --is-inside-work-tree >/dev/null 2>&1 && git log -1 --format=%ct 2>/dev/null | grep .; then
        return 0
    else
        date -u -d "$(written_date)" +%s
    fi
}

# "## [0.2.0] - 2026-11-30" in CHANGELOG.md; before the first release the date in the spec file.
written_date() {
    local found
    found=$(grep -oE '^## \[[^]]+\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$' CHANGELOG.md | grep -oE '[0-9-]{10}$' |
        sort | tail -n 1)
    [ -n "$found" ] || found=$(sed -nE 's/^\* ([A-Z][a-z]{2} [A-Z][a-z]{2} [0-9]+ [0-9]{4}) .*/\1/p' \
        packaging/rpm/mirrordisk.spec | head -n 1)
    echo "$found"
}

# SHA256SUMS and the bill of materials, for all packages that are there.
describe_packages() {
    (
        cd "$packages_dir" || exit 1
        shopt -s nullglob
        packages=(*.deb *.rpm)
        SOURCE_DATE_EPOCH=$(cd .. && source_time) /usr/bin/python3 ../packaging/quickstart/sbom.py \
            --output sbom.cdx.json --version "$(cd .. && project_version)" "${packages[@]}" || exit 1
        sha256sum -- "${packages[@]}" sbom.cdx.json >SHA256SUMS
    )
}

# SPDX-License-Identifier: BSD-3-Clause
"""What makes packages fit to be handed out: whom to write to, one time, sums and a bill of
materials. Needs no package but for the last."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import PACKAGES

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = {"MIRRORDISK_RELEASE": "1", "MIRRORDISK_SECURITY_CONTACT": "security@distributor.org",
           "MIRRORDISK_MAINTAINER": "A Distributor <packages@distributor.org>"}
HERE = "packaging/quickstart"


def shell(script, *words, cwd=ROOT, **variables):
    """Runs it with quickstart's functions."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith("MIRRORDISK_") and name != "SOURCE_DATE_EPOCH"}
    return subprocess.run(
        ["bash", "-c", f". {ROOT}/{HERE}/common.sh; . {ROOT}/{HERE}/release.sh; "
         f". {ROOT}/{HERE}/package.sh; {script}", "bash", *map(str, words)],
        cwd=cwd, env=clean | variables, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name,value", [
    ("MIRRORDISK_SECURITY_CONTACT", ""), ("MIRRORDISK_MAINTAINER", ""),
    ("MIRRORDISK_MAINTAINER", "packages@distributor.org"),
    ("MIRRORDISK_SECURITY_CONTACT", "security@mirrordisk.invalid"),
    ("MIRRORDISK_MAINTAINER", "A Distributor <root@localhost>")])
def test_a_release_is_not_built_without_an_address_for_reports(name, value):
    done = shell("make_packages --deb", **RELEASE | {name: value})
    assert done.returncode == 1 and name in done.stderr, done.stderr


def test_a_release_is_built_with_them():
    assert shell("require_contacts", **RELEASE).returncode == 0


@pytest.fixture(name="tree")
def _tree(tmp_path):
    for name in ("SECURITY.md", "packaging/debian/control", "packaging/debian/changelog.in",
                 "packaging/rpm/mirrordisk.spec"):
        target = tmp_path / name.replace("packaging/debian", "debian")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path


def texts_of(tree):
    return {path.name: path.read_text(encoding="utf-8") for path in tree.rglob("*") if path.is_file()}


def test_a_releases_pages_and_packages_name_the_addresses(tree):
    variables = RELEASE | {"MIRRORDISK_SECURITY_CONTACT": "https://distributor.org/?a&b|c"}
    assert shell('put_contacts "$1"', tree, **variables).returncode == 0
    texts = texts_of(tree)
    assert "\nSecurity contact: https://distributor.org/?a&b|c\n" in texts["SECURITY.md"]
    assert f"\nMaintainer: {RELEASE['MIRRORDISK_MAINTAINER']}\n" in texts["control"]
    assert RELEASE["MIRRORDISK_MAINTAINER"] in texts["changelog.in"]
    assert RELEASE["MIRRORDISK_MAINTAINER"] in texts["mirrordisk.spec"]


def test_other_builds_say_that_there_is_no_address(tree):
    assert shell('put_contacts "$1"', tree).returncode == 0
    texts = texts_of(tree)
    assert "\nSecurity contact: none (not a release: no security contact)\n" in texts["SECURITY.md"]
    assert not [name for name, text in texts.items() if "@MAINTAINER@" in text or "@SECURITY_" in text]


def test_no_page_or_package_names_an_address_that_does_not_exist():
    done = subprocess.run(
        ["grep", "-rIlE", r"[@/][a-z0-9.-]+\.(invalid|example)\b", "--exclude-dir=__pycache__", "packaging",
         "docs", "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() in ([], [f"{HERE}/release.sh"]), done.stdout


def test_the_time_in_packages_is_that_of_the_commit_and_not_of_the_checkout(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True,
                       capture_output=True, env=os.environ | {"GIT_COMMITTER_DATE": "1700000000 +0000"})
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n## [0.2.0] - 2026-12-01\n## [0.1.0] - 2026-11-01\n")
    without_git = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    assert shell("source_time", cwd=tmp_path, **without_git).stdout == "1796083200\n"
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    os.utime(tmp_path / "CHANGELOG.md", (1, 1))
    assert shell("source_time", cwd=tmp_path).stdout == "1700000000\n"
    assert shell("source_time", cwd=tmp_path, SOURCE_DATE_EPOCH="7").stdout == "7\n"


def test_without_git_and_a_release_the_time_is_that_of_the_spec_file():
    done = shell("written_date")
    assert done.returncode == 0
    assert subprocess.run(["date", "-u", "-d", done.stdout.strip(), "+%s"], check=True,
                          capture_output=True, text=True).stdout.strip().isdigit(), done.stdout


@pytest.fixture(scope="module", name="packages")
def _packages():
    found = sorted([*PACKAGES.glob("*.deb"), *PACKAGES.glob("*.rpm")])
    if not found:
        pytest.skip("no packages here: ./quickstart package")
    return found


def test_the_bill_of_materials_names_what_is_linked_compiled_in_and_started(packages, tmp_path):
    def made(name):
        subprocess.run([ROOT / HERE / "sbom.py", "--output", tmp_path / name, "--version", "1.2", *packages],
                       check=True, timeout=60, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"})
        return (tmp_path / name).read_text(encoding="utf-8")
    text = made("a")
    assert text == made("b")
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    use = {part["name"]: {entry["name"]: entry["value"] for entry in part["properties"]}["mirrordisk:use"]
           for part in bill["components"]}
    for kind, word in (("linked", "gnutls"), ("linked", "seccomp"), ("linked", "nettle"),
                       ("compiled in", "json"), ("started", "nbdkit")):
        assert [name for name in use if word in name and use[name] == kind], (word, use)
    assert all(part["version"] and part["purl"].startswith("pkg:") for part in bill["components"])
    sums = {entry["name"]: entry["hashes"][0]["content"]
            for entry in bill["metadata"]["component"]["components"]}
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in packages}


def test_the_sums_beside_the_packages_fit(packages, tmp_path):
    folder = tmp_path / "build-packages"
    folder.mkdir()
    for path in packages:
        os.link(path, folder / path.name) if path.stat().st_dev == folder.stat().st_dev else shutil.copy(path, folder)
    (tmp_path / "packaging").symlink_to(ROOT / "packaging")
    shutil.copy(ROOT / "meson.build", tmp_path)
    done = shell("describe_packages", cwd=tmp_path, SOURCE_DATE_EPOCH="1700000000")
    assert done.returncode == 0, done.stderr
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    named = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert named == {path.name for path in packages} | {"sbom.cdx.json"}

# SPDX-License-Identifier: BSD-3-Clause
"""The examples for AppArmor and SELinux are what their compilers take, and refuse nothing as shipped."""

import pathlib
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parents[2] / "packaging"
PROFILE = HERE / "apparmor/mirrordisk"
MODULE = HERE / "selinux/mirrordisk.te"
CONTEXTS = HERE / "selinux/mirrordisk.fc"


def compiled(program, *arguments):
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not found:
        pytest.skip(f"{program} is not installed")
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=60)


def apparmor(profile, *options):
    return compiled("apparmor_parser", "--skip-kernel-load", "--skip-cache", *options, profile)


def test_apparmor_compiles_the_profiles(tmp_path):
    said = apparmor(PROFILE)
    assert said.returncode == 0, said.stderr
    names = apparmor(PROFILE, "--names")
    assert {"mirrordisk-mirrord", "mirrordisk-engine"} <= set(names.stdout.split()), names.stdout
    # And it would have said so if they were none.
    broken = tmp_path / "broken"
    broken.write_text(PROFILE.read_text(encoding="utf-8").replace("px -> mirrordisk-engine,", "px ->"),
                      encoding="utf-8")
    assert apparmor(broken).returncode != 0


def test_the_profiles_refuse_nothing_as_shipped():
    text = PROFILE.read_text(encoding="utf-8")
    heads = re.findall(r"^profile .*\{$", text, re.MULTILINE)
    assert len(heads) == 2 and all("complain" in head for head in heads), heads


def test_an_engine_may_start_no_program_and_write_no_hook():
    text = PROFILE.read_text(encoding="utf-8")
    engine = text.partition("\nprofile mirrordisk-engine ")[2]
    rules = [line.split("#")[0].strip() for line in engine.splitlines()]
    granted = [rule.split()[-1].rstrip(",") for rule in rules
               if re.match(r"(/|@\{PROC\})", rule)]
    assert granted and not [mode for mode in granted if "x" in mode], granted
    assert not [rule for rule in rules if re.match(r"/etc/.* \w*w\w*,", rule)]
    assert any(rule.startswith("audit deny /etc/mirrordisk/hooks.d/") for rule in rules)


def test_selinux_compiles_the_module(tmp_path):
    said = compiled("checkmodule", "-M", "-m", "-o", tmp_path / "mirrordisk.mod", MODULE)
    assert said.returncode == 0, said.stdout + said.stderr
    broken = tmp_path / "mirrordisk.te"
    broken.write_text(MODULE.read_text(encoding="utf-8").replace("type mirrordisk_run_t;", ""),
                      encoding="utf-8")
    assert compiled("checkmodule", "-M", "-m", "-o", tmp_path / "mirrordisk.mod", broken).returncode != 0


def test_every_context_of_selinux_is_a_type_of_the_module():
    text = MODULE.read_text(encoding="utf-8")
    assert {"permissive mirrord_t;", "permissive mirrordisk_engine_t;"} <= set(text.splitlines())
    for line in CONTEXTS.read_text(encoding="utf-8").splitlines():
        path, context = line.split()[0], line.split()[-1]
        re.compile(path)
        assert f"type {context.split(':')[2]};" in text, line

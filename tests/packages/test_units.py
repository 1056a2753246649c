# SPDX-License-Identifier: BSD-3-Clause
"""What the units leave to what they start. Needs no package."""

import pathlib
import re
import shutil
import subprocess

import pytest

UNITS = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "systemd"
# systemd 252 says 2.1 and 7.8, with the examples 3.9 and 1.7; other versions weigh a little differently.
MOST_EXPOSED = [
    ("mirrordisk@.service", None, 2.5), ("mirrordisk-shutdown.service", None, 2.5),
    ("mirrordisk-verify.service", None, 2.5), ("mirrord.service", None, 8.0),
    ("mirrord.service", "hardened.conf", 4.2), ("mirrord.service", "unprivileged.conf", 2.0),
]


def unit_text(unit):
    return (UNITS / f"{unit}.in").read_text(encoding="utf-8")


def settings(unit):
    return re.findall(r"^([A-Z]\w+)=(.*)$", unit_text(unit).replace("\\\n", ""), re.MULTILINE)


@pytest.mark.parametrize("unit,example,most", MOST_EXPOSED)
def test_a_unit_is_exposed_no_more_than(tmp_path, unit, example, most):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    file = tmp_path / unit
    file.write_text(unit_text(unit).replace("@sbindir@", "/usr/sbin"), encoding="utf-8")
    if example:
        (tmp_path / f"{unit}.d").mkdir()
        shutil.copy(UNITS / "examples" / example, tmp_path / f"{unit}.d")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={round(most * 10)}", file],
        capture_output=True, text=True, check=False, timeout=60)
    if "nrecognized option" in done.stderr or "nknown option" in done.stderr:
        pytest.skip("this systemd-analyze looks at no file")
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "✗" in line or "Overall" in line)


@pytest.mark.parametrize("unit", ["mirrordisk@.service", "mirrordisk-shutdown.service", "mirrordisk-verify.service"])
def test_a_unit_that_runs_mirrorctl_needs_no_room_in_tmp_to_start(unit):
    """systemd makes files there for these, and a full disk must not keep volumes from being demoted."""
    assert not [name for name, _ in settings(unit) if name in ("PrivateTmp", "PrivateDevices")]


def test_the_three_that_run_mirrorctl_are_alike():
    kinds = re.compile("Capab|Protect|Restrict|Memory|System|NoNew|Device|Lock|UMask|LimitC|IPAddress")
    alike = [[setting for setting in settings(unit) if kinds.match(setting[0])] for unit in
             ("mirrordisk@.service", "mirrordisk-shutdown.service", "mirrordisk-verify.service")]
    assert alike[0] and alike[0] == alike[1] == alike[2]


@pytest.mark.parametrize("unit", ["mirrord.service", "mirrordisk@.service", "mirrordisk-shutdown.service",
                                  "mirrordisk-verify.service"])
def test_no_unit_leaves_core_files(unit):
    assert ("LimitCORE", "0") in settings(unit)

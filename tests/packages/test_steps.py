# SPDX-License-Identifier: BSD-3-Clause
"""What the packages' scripts believe of the processes that run: nobody's words. In a pid namespace
of its own, so that no engine of another test is found, with a mirrorctl that notes what it was
asked. Needs no package."""

import os
import pathlib
import shutil
import subprocess

import pytest

STEPS = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "package-steps"
NOBODY = 65534

MIRRORCTL = """#!/bin/sh
[ "$2" = --help ] || echo "$(id -u) $*" >> "$(dirname "$0")/asked"
"""


@pytest.fixture(name="run")
def _run(tmp_path):
    """run(STEP, (UID, PROGRAM, WORDS…), …): what the script says while these processes run."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("other users' processes in a pid namespace need root, unshare and setpriv")
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    nbdkit, other = tmp_path / "nbdkit", tmp_path / "other"
    shutil.copy("/bin/sh", nbdkit)
    shutil.copy("/bin/sh", other)
    ctl = tmp_path / "mirrorctl"
    ctl.write_text(MIRRORCTL)
    ctl.chmod(0o755)
    (tmp_path / "asked").touch()
    (tmp_path / "asked").chmod(0o666)

    def run(step, *processes):
        started = ""
        for uid, program, *words in processes:
            quoted = " ".join(f"'{word}'" for word in words)
            started += (f"setpriv --reuid={uid} --clear-groups -- bash -c \"exec -a /usr/sbin/nbdkit "
                        f"{tmp_path / program} -c 'sleep 60; :' nbdkit-mirror-plugin.so {quoted}\" &\n")
        waiting = f"until [ $(pgrep -cf nbdkit-mirror-plugin.so) -ge {len(processes)} ]; do :; done\n"
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
             f"{started}{waiting}sh {STEPS} {step}; code=$?; kill $(jobs -p); exit $code"],
            env={"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True, text=True, timeout=60, check=False)
        if "unshare failed" in done.stderr:
            pytest.skip(done.stderr)
        return done, (tmp_path / "asked").read_text().splitlines()

    return run


def words(volume, config):
    return f"volume={volume}", "node=alpha", f"config={config}"


def test_an_engine_of_root_keeps_the_package_and_is_restarted(run, tmp_path):
    config = tmp_path / "r0.settings"
    config.write_text("")
    engine = (0, "nbdkit", *words("r0", config))
    refused, _ = run("refuse-removal", engine)
    assert refused.returncode == 1 and "r0 is active (node alpha)" in refused.stderr, refused
    _, asked = run("restart-engines", engine)
    assert asked == [f"0 --config {config} --node alpha restart-engine r0"]


@pytest.mark.parametrize("uid, program", [(NOBODY, "nbdkit"), (NOBODY, "other"), (0, "other")])
def test_nobodys_process_with_an_engines_words_neither_hinders_nor_leads_root(run, tmp_path, uid,
                                                                              program):
    config = tmp_path / "r0.settings"
    config.write_text("")
    false_engine = (uid, program, *words("r0", config))
    removed, _ = run("refuse-removal", false_engine)
    assert removed.returncode == 0 and not removed.stderr, removed
    restarted, asked = run("restart-engines", false_engine)
    assert restarted.returncode == 0 and not asked and "r0" not in restarted.stdout, restarted


@pytest.mark.parametrize("which", ["/dev/zero", "large", "gone"])
def test_what_is_no_configuration_is_not_read(run, tmp_path, which):
    config = which if which.startswith("/") else str(tmp_path / which)
    if which == "large":
        os.truncate(os.open(config, os.O_CREAT | os.O_WRONLY, 0o600), 2**20 + 1)
    done, asked = run("restart-engines", (0, "nbdkit", *words("r0", config)))
    assert done.returncode == 0 and not asked and "not a configuration file" in done.stderr, done
    assert "continues with the engine of the old version" in done.stdout


def test_an_engine_of_mirrords_own_user_is_restarted_by_that_user(run, tmp_path):
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho nobody\n")
    (tmp_path / "systemctl").chmod(0o755)
    config = tmp_path / "r0.settings"
    config.write_text("")
    _, asked = run("restart-engines", (NOBODY, "nbdkit", *words("r0", config)))
    assert asked == [f"{NOBODY} --config {config} --node alpha restart-engine r0"]

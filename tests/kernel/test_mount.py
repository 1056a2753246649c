# SPDX-License-Identifier: BSD-3-Clause
"""`mount =` with a real device: it moves along, respects who uses it, and survives a reboot; so
does a line of fstab."""

import pytest
from guests.mirror import CONFIG, DEVICE, MOUNT
from lib.waiting import wait_for

HOOK = "/etc/mirrordisk/hooks.d/50-user"


def mounted_on(mirror, node):
    return mirror.status(node)["mounted_on"]


def has_unit(node, unit):
    return node.run(f"systemctl cat {unit}", check=False).code == 0


def set_up(mirror, **keys):
    """ext4 on r0, mounted by mirrord on alpha."""
    mirror.set_up(mount=MOUNT, mount_options="noatime", **keys)
    alpha = mirror.alpha
    assert mounted_on(mirror, alpha) is None
    again = mirror.promote(alpha)
    assert "has no filesystem yet" in again.out, str(again)
    assert f"mkfs.ext4 {DEVICE}, then mirrorctl promote r0" in again.out, str(again)
    alpha.run(f"mkfs.ext4 -q -F {DEVICE}", timeout=180)
    again = mirror.promote(alpha)
    assert f"it is mounted on {MOUNT} now" in again.out, str(again)
    assert mounted_on(mirror, alpha) == MOUNT
    assert "noatime" in alpha.out(f"findmnt -n -o OPTIONS {MOUNT}")
    return alpha


def test_a_switch_takes_the_filesystem_along(mirror):
    alpha = set_up(mirror)
    alpha.run(f"echo one >{MOUNT}/file")
    for source, target in ((alpha, mirror.beta), (mirror.beta, alpha)):
        mirror.ctl(source, "switch r0")
        assert mounted_on(mirror, source) is None and mounted_on(mirror, target) == MOUNT
        assert source.run(f"mountpoint -q {MOUNT}", check=False).code != 0
        assert target.out(f"cat {MOUNT}/file") == "one"
    mirror.assert_equal()


@pytest.mark.long
def test_who_uses_the_mount_is_named_and_not_disturbed(mirror):
    alpha = set_up(mirror)
    user = alpha.begin(f"cd {MOUNT} && exec sleep 1000")
    wait_for(lambda: alpha.run("pidof sleep", check=False).code == 0, "sleep to run", 60)
    pid = alpha.out("pidof sleep")
    for node, verb in ((alpha, "demote r0"), (mirror.beta, "switch r0"), (alpha, "demote --all")):
        refused = mirror.ctl(node, verb, check=False)
        assert refused.code == 1, str(refused)
        assert f"{MOUNT} is in use by sleep (pid {pid}, working directory)" in refused.err, \
            str(refused)
    assert mounted_on(mirror, alpha) == MOUNT
    alpha.run(f"echo still >{MOUNT}/file && sync")
    user.kill()
    alpha.run(f"mkdir -p /tmp/other && mount {DEVICE} /tmp/other")
    refused = mirror.ctl(alpha, "demote r0", check=False)
    assert f"{DEVICE} is mounted on /tmp/other" in refused.err, str(refused)
    alpha.run("umount /tmp/other")
    mirror.ctl(alpha, "demote r0")
    assert mounted_on(mirror, alpha) is None
    mirror.promote(mirror.beta)
    assert mirror.beta.out(f"cat {MOUNT}/file") == "still"
    mirror.assert_equal()


@pytest.mark.long
def test_a_hook_stops_what_uses_the_mount(mirror):
    alpha = set_up(mirror)
    for node in mirror.nodes:
        node.write(HOOK, f"""#!/bin/sh
case "$1" in
    before-demote) systemctl is-active -q user-of-r0 || exit 0; systemctl stop user-of-r0 ;;
    after-promote | demote-cancelled)
        exec systemd-run --unit=user-of-r0 sh -c 'exec sleep 100000 >>{MOUNT}/held' ;;
esac
""")
        node.run(f"chmod 755 {HOOK}")
    mirror.ctl(alpha, "switch r0")  # nothing runs there yet
    assert mirror.beta.out("systemctl is-active user-of-r0") == "active"
    mirror.ctl(alpha, "switch r0")
    assert alpha.out("systemctl is-active user-of-r0") == "active"
    assert mirror.beta.run("systemctl is-active user-of-r0", check=False).code != 0
    assert alpha.run(f"test -e {MOUNT}/held").code == 0
    # The engine dies under a hook that writes: it comes back, though the demotion has begun.
    alpha.write(f"{HOOK}-writes", f"""#!/bin/sh
[ "$1" = before-demote ] || exit 0
kill -9 $(cat /run/mirrordisk/r0.pid) && echo late >{MOUNT}/late && sync {MOUNT}/late &&
    exec mirrorctl wait r0 --for in-sync --timeout 50
""")
    alpha.run(f"chmod 755 {HOOK}-writes")
    mirror.ctl(alpha, "switch r0")
    assert mirror.beta.out(f"cat {MOUNT}/late") == "late"
    alpha.run(f"rm {HOOK}-writes")
    mirror.ctl(alpha, "switch r0")
    alpha.run("systemctl stop user-of-r0")
    alpha.run(f"rm {HOOK}")
    mirror.assert_equal()


def test_the_active_node_is_rebooted_with_a_mount(mirror):
    alpha = set_up(mirror)
    if not has_unit(alpha, "mirrordisk-shutdown"):
        pytest.skip("there is no mirrordisk-shutdown.service in this build")
    for node in mirror.nodes:
        node.run(f"echo 'active_at_boot = \"alpha\"' >>{CONFIG} && systemctl restart mirrord")
    wait_for(lambda: alpha.run("mirrorctl version", check=False).code == 0, "mirrord", 120)
    # A user of the mount that only systemd stops.
    alpha.run(f"echo kept >{MOUNT}/file; systemd-run --unit=user-of-r0 "
              f"--property=RequiresMountsFor={MOUNT} sh -c 'exec sleep 100000 >{MOUNT}/held'")
    alpha.reboot()
    wait_for(lambda: mounted_on(mirror, alpha) == MOUNT, "the mount to be there again", 180,
             report=alpha.report)
    assert alpha.out(f"cat {MOUNT}/file") == "kept"
    events = alpha.out("mirrorctl events r0 --json")
    assert '"id":"demoted"' in events and "not-resumed" not in events, events
    mirror.assert_equal()


@pytest.mark.long
def test_the_active_node_is_rebooted_with_a_line_of_fstab(mirror):
    mirror.set_up()
    alpha = mirror.alpha
    if not has_unit(alpha, "mirrordisk@r0"):
        pytest.skip("there is no mirrordisk@.service in this build")
    alpha.run(f"mkfs.ext4 -q -F {DEVICE}", timeout=180)
    alpha.run("cp /etc/fstab /etc/fstab.kept; "
              f"echo '{DEVICE} {MOUNT} ext4 _netdev,x-systemd.requires=mirrordisk@r0.service 0 0' "
              ">>/etc/fstab; systemctl daemon-reload")
    try:
        alpha.run(f"mount {MOUNT} && echo kept >{MOUNT}/file")
        alpha.reboot()
        wait_for(lambda: alpha.run(f"mountpoint -q {MOUNT}", check=False).code == 0,
                 "the mount to be there again", 180, report=alpha.report)
        assert alpha.out(f"cat {MOUNT}/file") == "kept"
        events = alpha.out("mirrorctl events r0 --json")
        assert '"id":"demoted"' in events and "not-resumed" not in events, events
    finally:
        alpha.run(f"umount {MOUNT}; mv /etc/fstab.kept /etc/fstab; systemctl daemon-reload",
                  check=False)
    mirror.assert_equal()

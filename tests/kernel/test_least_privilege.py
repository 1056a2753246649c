# SPDX-License-Identifier: BSD-3-Clause
"""The examples that take more from mirrord than its unit does, installed as mirrord(8) says."""

import re

import pytest

from guests import page
from guests.loads import Load
from guests.mirror import CONFIG
from guests.pair import ADDRESSES
from lib import environment

pytestmark = pytest.mark.long
EXAMPLES = "/usr/share/doc/mirrordisk/examples"  # the guests' dpkg leaves documentation out
DROP_INS = "/etc/systemd/system/mirrord.service.d"
MANUAL = environment.ROOT / "docs" / "mirrord.pod"
SOCKET = "nbd+unix:///?socket=/run/mirrordisk/r0.sock"
# Of the table in mirrord(8), PRIVILEGES; numbers as in capabilities(7).
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "SETPCAP": 8, "IPC_LOCK": 14, "SYS_PTRACE": 19,
                "SYS_ADMIN": 21, "SYS_RESOURCE": 24}
MASK = sum(1 << number for number in CAPABILITIES.values())


@pytest.fixture
def plain_afterwards(mirror):
    """The guests are shared: they get their unit and their owners back."""
    for node in mirror.nodes:
        for file in (environment.ROOT / "packaging" / "systemd" / "examples").iterdir():
            node.write(f"{EXAMPLES}/{file.name}", file.read_text(encoding="utf-8"))
    yield
    for node in mirror.nodes:
        node.run(f"systemctl stop mirrord; pkill -9 -x nbdkit; rm -rf {DROP_INS} /srv/mirrordisk;"
                 "chown -R root: /var/lib/mirrordisk; systemctl daemon-reload;"
                 "if id mirrordisk; then userdel mirrordisk; fi", check=False)


def standing(node, pid):
    """What the kernel lets a process do: user, effective and bounding capabilities, no_new_privs."""
    text = node.out(f"cat /proc/{pid}/status")
    field = lambda name: re.search(rf"^{name}:\s*(\w+)", text, re.MULTILINE)[1]
    return {"user": int(field("Uid")), "has": int(field("CapEff"), 16),
            "may_get": int(field("CapBnd"), 16), "no_new": field("NoNewPrivs") == "1",
            "filters": int(field("Seccomp"))}


def daemon_pid(node):
    return int(node.out("systemctl show -P MainPID mirrord"))


def assert_no_complaint(node):
    """Nothing was refused that mirrord or an engine needs, and no check finds a problem."""
    log = node.out("journalctl -u mirrord -b --no-pager -o cat --since=-30min")
    refused = [line for line in log.splitlines()
               if re.search("not permitted|ermission denied|ead-only file system", line)]
    assert not refused, refused
    node.run("mirrorctl check", timeout=120)


def test_a_hardened_mirrord_mirrors_a_mounted_filesystem(mirror, plain_afterwards):
    mirror.set_up()
    for node in mirror.nodes:
        node.run(f"install -D -m 644 {EXAMPLES}/hardened.conf {DROP_INS}/hardened.conf &&"
                 "systemctl daemon-reload && systemctl restart mirrord", timeout=120)
        mirror.wait_answers(node)
    alpha, beta = mirror.nodes
    mirror.wait_in_sync(alpha)
    mirror.ctl(alpha, "restart-engine r0")  # this one is of the hardened mirrord
    for node in mirror.nodes:
        daemon = standing(node, daemon_pid(node))
        assert daemon["may_get"] == MASK and daemon["no_new"] and daemon["filters"] == 2, daemon
        refused = node.run(f"nsenter -t {daemon_pid(node)} -m touch /usr/mark /etc/mark",
                           check=False)
        assert refused.code != 0 and not node.out("ls /usr/mark /etc/mark 2>/dev/null || true")
    engine = standing(alpha, mirror.engine_pid(alpha))
    assert engine["has"] == engine["may_get"] == 0 and engine["no_new"], engine

    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    mirror.kill_engine(alpha)
    load.wait_for_progress(10)
    alpha.run("systemctl restart mirrord", timeout=120)
    mirror.wait_answers(alpha)
    load.wait_for_progress(10)
    load.stop()
    alpha.run("umount /mnt", timeout=120)
    mirror.wait_in_sync(alpha)
    mirror.ctl(beta, "switch r0")
    beta.run("mount /dev/nbd0 /mnt")
    load.check(beta)
    mirror.check_filesystem(beta)
    for node in mirror.nodes:
        assert_no_complaint(node)
    mirror.assert_equal()


def unprivileged_config():
    nodes = "".join(f'[node.{name}]\naddress = "{address}:10809"\n'
                    for name, address in ADDRESSES.items())
    return ('psk_file = "/var/lib/mirrordisk/cluster.psk"\n' + nodes +
            '[volume.r0]\nsize = "64MiB"\nio_group = "users"\n'
            'backing.alpha = "/srv/mirrordisk/r0.img"\nbacking.beta = "/srv/mirrordisk/r0.img"\n')


def install_unprivileged(mirror):
    """What mirrord(8), WITHOUT ROOT, says."""
    commands = page.verbatim(MANUAL.read_text(encoding="utf-8"), "As a service, on each node:")
    before, keygen, after = re.fullmatch(r"(.*?)^([^\n]*keygen)[^\n]*\n(.*)", commands,
                                         re.DOTALL | re.MULTILINE).groups()
    for node in mirror.nodes:
        node.write(CONFIG, unprivileged_config())
        node.run("systemctl stop mirrord")
        node.run(before)
        # The user may give its sockets to a group that it is a member of.
        node.run("usermod -a -G users mirrordisk")
    mirror.alpha.run(keygen)
    mirror.copy_key("/var/lib/mirrordisk/cluster.psk", "mirrordisk")
    for node in mirror.nodes:
        node.run(after, timeout=120)
        mirror.wait_answers(node)


def qemu_io(node, user, command):
    return node.run(f"runuser -u {user} -- qemu-io -f raw -c '{command}' '{SOCKET}'", check=False)


def test_a_mirror_without_root_serves_virtual_machines(mirror, plain_afterwards):
    install_unprivileged(mirror)
    alpha, beta = mirror.nodes
    mirror.ctl(alpha, "create r0")
    mirror.ctl(alpha, "promote r0")
    mirror.wait_in_sync(alpha)
    user = int(alpha.out("id -u mirrordisk"))
    for node, pid in ((alpha, daemon_pid(alpha)), (beta, daemon_pid(beta)),
                      (alpha, mirror.engine_pid(alpha))):
        assert standing(node, pid) == {"user": user, "has": 0, "may_get": 0, "no_new": True,
                                       "filters": 2}

    alpha.run("useradd -M -G users guest-of-r0")
    assert "wrote 65536/65536" in qemu_io(alpha, "guest-of-r0", "write -P 7 0 64k").out
    assert qemu_io(alpha, "nobody", "write -P 8 0 64k").code != 0
    assert alpha.run("runuser -u guest-of-r0 -- mirrorctl demote r0", check=False).code != 0
    mirror.kill_engine(alpha)
    mirror.wait_in_sync(alpha)
    mirror.ctl(beta, "switch r0")
    beta.run("useradd -M -G users guest-of-r0")
    read = qemu_io(beta, "guest-of-r0", "read -P 7 0 64k")
    assert "read 65536/65536" in read.out and "verification failed" not in read.out, read
    for node in mirror.nodes:
        node.run("userdel guest-of-r0")
        node.run("mirrorctl check", timeout=120)
    mirror.ctl(beta, "demote r0")
    sums = [node.out("md5sum < /srv/mirrordisk/r0.img", timeout=120) for node in mirror.nodes]
    assert sums[0] == sums[1] != "", "the replicas differ"

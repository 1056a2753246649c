# SPDX-License-Identifier: BSD-3-Clause
"""docs/first-setup.md, command by command, as somebody types it who has never seen mirrordisk; and
the reboots that it describes."""

from guests import page, products
from guests.mirror import KEY
from lib import environment
from lib.waiting import wait_for

PAGE = environment.ROOT / "docs" / "first-setup.md"
NOT_EMPTY = "test -s /mnt/kept || echo kept > /mnt/kept; sync"
AFTER_A_REBOOT = "`active nowhere`, and its exit code is 1. On the node that is to be active:"


def prepare(mirror, steps):
    """The packages lie in the directory where one types; returns the steps that can be done."""
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert 0 < len(steps) <= 10
    if not products.packages():
        for node in mirror.nodes:  # what the packages do
            node.run("mkdir -p /etc/mirrordisk && modprobe nbd")
        return steps[1:]
    for node in mirror.nodes:
        node.run("dpkg --purge mirrordisk nbdkit-plugin-mirror", timeout=120)
        products.put_packages(node, products.packages())
    return steps


def pasted(mirror, step):
    """What is pasted into a command that reads the terminal: the page says what that is."""
    if "/dev/stdin" not in step.command:
        return None
    return (mirror.alpha.out(f"cat {KEY}") + "\n").encode()


def wait_for_a_standby(mirror, node):
    """The node is up, both replicas are known to be equal, and neither node is active."""
    mirror.wait_answers(node)
    wait_for(lambda: mirror.status(node)["state"] == "in-sync", f"{node.name} to know its peer", 120,
             report=node.report)
    shown = node.run("mirrorctl status r0", check=False)
    assert "in-sync  active nowhere" in shown.out and shown.code == 1, str(shown)
    assert "promote r0" in shown.out.partition("next")[2], str(shown)


def reboot(mirror, node):
    node.reboot()
    mirror.wait_answers(node)
    assert node.out("systemctl --failed --plain --no-legend") == ""


def test_the_page_leads_to_a_mirrored_filesystem_that_survives_reboots(mirror):
    alpha, beta = mirror.nodes
    text = PAGE.read_text(encoding="utf-8")
    for step in prepare(mirror, page.steps(text)):
        for node in (alpha, beta) if step.where == "both" else (getattr(mirror, step.where),):
            node.run(f"cd {products.WHERE} 2>/dev/null; {step.command}", timeout=180,
                     data=pasted(mirror, step))
        if "/dev/nbd0 /mnt" in step.command:
            getattr(mirror, step.where).run(NOT_EMPTY)
    assert mirror.active() is beta
    assert beta.out("cat /mnt/kept") == "kept"
    mirror.wait_in_sync(beta)

    reboot(mirror, beta)  # the active node, with the filesystem mounted
    wait_for_a_standby(mirror, beta)
    wait_for_a_standby(mirror, alpha)
    reboot(mirror, alpha)
    wait_for_a_standby(mirror, alpha)
    for node in mirror.nodes:
        events = node.out("mirrorctl events r0 --json")
        assert "not-resumed" not in events and "forced-promotion" not in events, events

    beta.run(page.verbatim(text, AFTER_A_REBOOT), timeout=180)
    assert beta.out("cat /mnt/kept") == "kept"
    mirror.wait_in_sync(beta)
    mirror.assert_equal()

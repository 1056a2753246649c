# SPDX-License-Identifier: BSD-3-Clause
"""docs/first-setup.md, command by command, as somebody types it who has never seen mirrordisk."""

from guests import page, products
from lib import environment

PAGE = environment.ROOT / "docs" / "first-setup.md"
NOT_EMPTY = "test -s /mnt/kept || echo kept > /mnt/kept; sync"


def prepare(mirror):
    """The packages lie in the directory where one types; returns the steps that can be done."""
    steps = page.steps(PAGE.read_text(encoding="utf-8"))
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


def without_scp(command):
    """The guests have no SSH: the test carries what it would carry."""
    return "\n".join(line for line in command.splitlines() if not line.startswith("scp "))


def test_the_page_leads_to_a_mirrored_filesystem(mirror):
    alpha, beta = mirror.nodes
    for step in prepare(mirror):
        for node in (alpha, beta) if step.where == "both" else (getattr(mirror, step.where),):
            node.run(f"cd {products.WHERE} 2>/dev/null; {without_scp(step.command)}", timeout=180)
        if "scp -p /etc/mirrordisk/cluster.psk" in step.command:
            mirror.copy_key()
        if "mount /dev" in step.command:
            (alpha if step.where == "alpha" else beta).run(NOT_EMPTY)
    assert mirror.active() is beta
    assert beta.out("cat /mnt/kept") == "kept"
    mirror.assert_equal()

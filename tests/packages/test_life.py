# SPDX-License-Identifier: BSD-3-Clause
"""Packages are installed, upgraded and removed under volumes that are in use."""


def test_an_upgrade_keeps_an_active_volume_served(machine):
    machine.install()
    machine.serve()
    machine.upgrade()
    machine.wait_for("the volume", machine.serves)
    assert machine.role() == "active"
    machine.wait_for("r0 in sync", lambda: machine.ctl("status", "alpha").returncode == 0)


def test_removal_is_refused_while_a_volume_is_active_and_names_it(machine):
    machine.install()
    machine.serve()
    engine = machine.engine()
    refused = machine.remove()
    assert refused.returncode != 0
    assert "r0 is active (node alpha): mirrorctl demote r0" in refused.stdout
    assert machine.is_installed()
    assert machine.engine() == engine
    assert machine.serves()


def test_nothing_of_the_users_is_deleted_by_removal_and_purge(machine):
    machine.install()
    machine.serve()
    done = machine.ctl("demote", "alpha", "r0")
    assert done.returncode == 0, done.stdout
    # Where a node has its state unless the configuration says otherwise.
    machine.scratch.must("cp", "-a", "/var/lib/mirrordisk/alpha/r0", "/var/lib/mirrordisk/r0")
    removed = machine.remove()
    assert removed.returncode == 0, removed.stdout
    said = removed.stdout
    assert "the replica of r0 on this machine no longer receives any writes" in said
    if machine.kind == "deb":
        said = machine.purge()
    assert "/var/lib/mirrordisk was kept" in said
    assert "/etc/mirrordisk/cluster.psk was kept" in said
    assert "rm /etc/mirrordisk/cluster.psk" in said
    assert not machine.is_installed()
    for path in ("/srv/alpha.img", "/srv/beta.img", "/var/lib/mirrordisk/alpha/r0/meta",
                 "/etc/mirrordisk/mirrordisk.toml", "/etc/mirrordisk/cluster.psk"):
        machine.scratch.must("test", "-s", path)


def test_an_upgrade_without_a_configuration_goes_through(machine):
    machine.install()
    machine.upgrade()
    removed = machine.remove()
    assert removed.returncode == 0, removed.stdout

# SPDX-License-Identifier: BSD-3-Clause
"""Broken pairs, and the person who looks at each: at which node, and what this person can do beside
mirrorctl. `make` is the fixture make_cluster."""

import os
import shutil
import signal

import nbd

from lib import credentials, processes, split_brain, tools
from lib.next_steps import Person

MIB = 1024 * 1024
BRING = "bring its machine or the link to it back"


def start(name):
    return f"start mirrord on {name}"


def write(node, data=b"x" * 4096, offset=0):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    handle.pwrite(data, offset)
    handle.flush()
    handle.shutdown()


def forget_boot(node):
    """RUN_DIR is a tmpfs: empty when the machine has started."""
    shutil.rmtree(node.run_dir)
    node.run_dir.mkdir()


def reboot(node):
    """What is left of a machine whose power was cut, and that is on again."""
    node.kill_everything()
    forget_boot(node)


def wake(node, engine):
    """After pause() and pause_engine()."""
    processes.send(engine, signal.SIGCONT)
    node.go_on()


def restart(node):
    if node.is_running():
        node.stop()
    node.start()


def cut(cluster):
    for proxy in cluster.proxies.values():
        proxy.cut()


def heal(cluster):
    for proxy in cluster.proxies.values():
        proxy.open()


def healthy(make, **options):
    cluster = make(**options).start_active()
    write(cluster.alpha, b"common" * 1024)
    return cluster


def both_rebooted(make, looks="alpha"):
    cluster = healthy(make)
    for node in cluster.nodes:
        reboot(node)
    for node in cluster.nodes:
        node.start()
    return Person(cluster, getattr(cluster, looks))


def both_rebooted_seen_from_the_standby(make):
    return both_rebooted(make, "beta")


def both_killed(make):
    cluster = healthy(make)
    cluster.kill_everything()
    for node in cluster.nodes:
        node.start()
    return Person(cluster, cluster.beta)


def active_rebooted(make):
    cluster = healthy(make)
    reboot(cluster.alpha)
    cluster.alpha.start()
    return Person(cluster, cluster.beta)


def active_dead(make):
    cluster = healthy(make)
    cluster.alpha.kill_everything()
    return Person(cluster, cluster.beta, {start("alpha"): cluster.alpha.start})


def active_dead_for_good(make):
    cluster = healthy(make)
    cluster.alpha.kill_everything()
    person = Person(cluster, cluster.beta, takes_loss=True)

    def later():  # the machine is repaired when beta has been serving for a while
        assert cluster.beta.engine_pid(), "beta was not promoted first"
        write(cluster.beta, b"later" * 1024, MIB)
        cluster.alpha.start()
    cluster.when_promoted = later
    return person


def standby_dead(make):
    cluster = healthy(make)
    cluster.beta.kill_everything()
    write(cluster.alpha, b"alone" * 1024)
    return Person(cluster, cluster.alpha, {start("beta"): cluster.beta.start})


def mirrord_of_the_standby_stopped(make):
    cluster = healthy(make)
    cluster.beta.stop()
    return Person(cluster, cluster.beta)


def mirrord_of_the_active_stopped(make):
    cluster = healthy(make)
    cluster.alpha.stop()
    return Person(cluster, cluster.alpha)


def link_cut(make, looks="alpha"):
    cluster = healthy(make, proxied=True)
    cut(cluster)
    write(cluster.alpha, b"alone" * 1024)
    return Person(cluster, getattr(cluster, looks), {BRING: lambda: heal(cluster)})


def link_cut_seen_from_the_standby(make):
    return link_cut(make, "beta")


def link_silent(make):
    cluster = healthy(make, proxied=True)
    for proxy in cluster.proxies.values():
        proxy.silence()
    return Person(cluster, cluster.alpha, {BRING: lambda: heal(cluster)})


def disconnected(make, looks="alpha"):
    cluster = healthy(make)
    cluster.alpha.ctl("disconnect", "r0")
    write(cluster.alpha, b"alone" * 1024)
    return Person(cluster, getattr(cluster, looks))


def disconnected_seen_from_the_standby(make):
    return disconnected(make, "beta")


def disconnected_and_the_standby_dead(make):
    person = disconnected(make)
    person.cluster.beta.kill_everything()
    person.gifts = {start("beta"): person.cluster.beta.start}
    return person


def active_nowhere(make):
    cluster = healthy(make)
    cluster.alpha.ctl("demote", "r0")
    return Person(cluster, cluster.beta)


def active_nowhere_and_the_peer_dead(make):
    cluster = healthy(make)
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.kill_everything()
    return Person(cluster, cluster.alpha, {start("beta"): cluster.beta.start})


def active_nowhere_and_the_last_active_dead(make):
    cluster = healthy(make)
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.kill_everything()
    return Person(cluster, cluster.beta, {start("alpha"): cluster.alpha.start})


def both_killed_and_the_standby_stays_away(make):
    cluster = healthy(make)
    cluster.kill_everything()
    cluster.alpha.start()
    return Person(cluster, cluster.alpha, {start("beta"): cluster.beta.start})


def never_created(make):
    return Person(cluster := make().start(), cluster.alpha)


def created_here_alone(make):
    cluster = make().start()
    cluster.alpha.ctl("create", "r0", "--local-only")
    cluster.alpha.ctl("promote", "r0", "--force")
    return Person(cluster, cluster.alpha)


def created_there_alone(make):
    cluster = make().start()
    cluster.alpha.ctl("create", "r0", "--local-only")
    return Person(cluster, cluster.beta)


def created_on_each_alone(make):
    cluster = make().start()
    for node in cluster.nodes:
        node.ctl("create", "r0", "--local-only")

    def give_up():
        cluster.beta.stop()
        (cluster.beta.state_dir / "r0").rename(cluster.directory / "given-up")
        cluster.backing(cluster.beta).rename(cluster.directory / "given-up.img")
        cluster.beta.start()
    return Person(cluster, cluster.alpha, {
        "move the folder r0 of its STATE_DIR and its backing away, start mirrord": give_up})


def stop_mode_with_a_dead_peer(make):
    cluster = healthy(make, volumes={"r0": {"on_peer_loss": "stop"}})
    cluster.beta.kill_everything()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.aio_pwrite(b"x" * 512, 0)
    cluster.wait_state(cluster.alpha, "broken")

    def wakes():
        cluster.beta.start()
        cluster.wait_in_sync(cluster.alpha)
        handle.shutdown()
    return Person(cluster, cluster.alpha, {"bring beta": wakes})


def full_disk(make, node_name, looks):
    tools.require_root("to make a small filesystem")
    cluster = make()
    disk = cluster.mount_tmpfs("tight", 12)
    cluster.volumes["r0"][f"backing.{node_name}"] = str(disk / "r0.img")
    cluster.write_config()
    cluster.start_active()
    for number in range(16):
        write(cluster.alpha, bytes([number + 1]) * MIB, number * MIB)
    return Person(cluster, getattr(cluster, looks), {
        f"make space on {node_name}": lambda: tools.run("mount", "-o", "remount,size=128m", disk)})


def full_disk_of_the_standby(make):
    return full_disk(make, "beta", "alpha")


def full_disk_of_the_standby_seen_there(make):
    return full_disk(make, "beta", "beta")


def full_disk_of_the_active(make):
    return full_disk(make, "alpha", "alpha")


def backing_away(make, node_name, looks):
    cluster = healthy(make)
    node = getattr(cluster, node_name)
    if node is cluster.alpha:
        cluster.alpha.ctl("demote", "r0")
    node.stop()
    backing = cluster.backing(node)
    away = backing.with_suffix(".away")
    backing.rename(away)
    node.start()

    def put_back():
        away.rename(backing)
        restart(node)
    return Person(cluster, getattr(cluster, looks),
                  {"put it back in its place and restart mirrord": put_back})


def backing_of_the_standby_away(make):
    return backing_away(make, "beta", "beta")


def backing_of_the_standby_away_seen_from_the_active(make):
    return backing_away(make, "beta", "alpha")


def backing_of_the_last_active_away(make):
    return backing_away(make, "alpha", "alpha")


def backing_of_the_last_active_away_seen_from_the_other(make):
    return backing_away(make, "alpha", "beta")


def backing_lost(make):
    person = backing_away(make, "beta", "alpha")
    person.gifts.clear()
    return person


def backing_replaced_by_an_empty_one(make):
    cluster = healthy(make)
    cluster.beta.stop()
    backing = cluster.backing(cluster.beta)
    backing.unlink()
    with backing.open("wb") as file:
        file.truncate(64 * MIB)
    backing.chmod(0o600)
    cluster.beta.start()
    return Person(cluster, cluster.beta)


def metadata_lost(make, looks="alpha"):
    cluster = healthy(make)
    cluster.beta.stop()
    shutil.rmtree(cluster.beta.state_dir / "r0")
    cluster.beta.start()
    return Person(cluster, getattr(cluster, looks))


def metadata_lost_seen_there(make):
    return metadata_lost(make, "beta")


def metadata_damaged(make):
    cluster = healthy(make)
    cluster.beta.stop()
    cluster.beta.meta().write_bytes(bytes(65536))
    cluster.beta.start()
    return Person(cluster, cluster.beta)


def metadata_of_the_active_damaged(make):
    cluster = healthy(make)
    cluster.kill_everything()
    cluster.alpha.meta().write_bytes(bytes(65536))
    for node in cluster.nodes:
        node.start()
    return Person(cluster, cluster.alpha, takes_loss=True)


def key_wrong(make, looks="alpha"):
    cluster = healthy(make)
    cluster.beta.stop()
    cluster.beta.key_file.unlink()
    credentials.write_key(cluster.beta.key_file)
    cluster.beta.start()

    def copy():
        cluster.copy_key(cluster.alpha, cluster.beta)
    return Person(cluster, getattr(cluster, looks),
                  {"put the same file of keys on both nodes": copy,
                   "put the same file on both nodes": copy})


def key_wrong_seen_there(make):
    return key_wrong(make, "beta")


def key_missing(make, looks="beta"):
    cluster = healthy(make)
    cluster.beta.stop()
    cluster.beta.key_file.unlink()
    cluster.beta.start()
    return Person(cluster, getattr(cluster, looks), {
        "copy it to the others": lambda: cluster.copy_key(cluster.alpha, cluster.beta)})


def another_config(make, looks):
    cluster = healthy(make)
    cluster.beta.config.write_text(cluster.config_text(r0={"on_peer_loss": "stop"}),
                                   encoding="utf-8")
    restart(cluster.beta)

    def install():
        cluster.write_config()
        for node in cluster.nodes:
            restart(node)
    return Person(cluster, getattr(cluster, looks),
                  {"install the same config on both nodes and restart mirrord": install})


def another_config_on_the_standby(make):
    return another_config(make, "alpha")


def another_config_seen_there(make):
    return another_config(make, "beta")


def volume_missing_in_the_config_of_the_other(make):
    cluster = healthy(make, volumes={"r0": {}, "r1": {}})
    text = cluster.config_text()
    cluster.beta.config.write_text(text.replace("[volume.r0]", "[volume.r2]"), encoding="utf-8")
    restart(cluster.beta)

    def install():
        cluster.write_config()
        for node in cluster.nodes:
            restart(node)
    return Person(cluster, cluster.alpha,
                  {"install the same config on both nodes and restart mirrord": install})


def diverged(make, looks, keep):
    cluster = healthy(make, proxied=True)
    split_brain.make(cluster, range(100, 120), range(110, 130))
    return Person(cluster, getattr(cluster, looks), keep=keep)


def split_brain_that_keeps_the_one_looked_at(make):
    return diverged(make, "alpha", "alpha")


def split_brain_that_keeps_the_other(make):
    return diverged(make, "beta", "alpha")


def split_brain_with_nobody_active(make):
    person = diverged(make, "alpha", "beta")
    for node in person.cluster.nodes:
        node.ctl("demote", "r0")
    return person


def promoted_by_force_while_the_other_was_away(make):
    cluster = healthy(make)
    cluster.alpha.kill_everything()
    cluster.beta.ctl("promote", "r0", "--force")
    write(cluster.beta, b"later" * 1024)
    cluster.alpha.start()
    return Person(cluster, cluster.alpha)


def older_image_of_the_active(make):
    cluster = healthy(make)
    cluster.alpha.ctl("demote", "r0")
    image = cluster.directory / "image"
    shutil.copytree(cluster.alpha.state_dir / "r0", image)
    old = cluster.backing(cluster.alpha).read_bytes()
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    write(cluster.alpha, b"today" * 1024)
    reboot(cluster.alpha)
    shutil.rmtree(cluster.alpha.state_dir / "r0")
    shutil.copytree(image, cluster.alpha.state_dir / "r0")
    with open(cluster.backing(cluster.alpha), "r+b") as backing:
        backing.write(old)
    cluster.alpha.start()
    return Person(cluster, cluster.alpha)


def verify_found_something(make):
    cluster = healthy(make)
    with open(cluster.backing(cluster.beta), "r+b") as backing:
        backing.write(b"rot")
    cluster.alpha.ctl("verify", "r0", "--wait", check=False)
    return Person(cluster, cluster.alpha)


def state_dir_full(make):
    tools.require_root("mounts a small tmpfs")
    cluster = make()
    cluster.beta.state_dir = cluster.mount_tmpfs("state-beta", 8)
    cluster.write_config()
    cluster.start_active()
    write(cluster.alpha)
    log = cluster.beta.state_dir / "log-of-somebody"
    with open(log, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    cluster.beta.kill_everything()
    write(cluster.alpha, b"alone" * 1024)
    return Person(cluster, cluster.alpha, {start("beta"): cluster.beta.start})


def engine_that_can_not_start(make):
    cluster = healthy(make)
    cluster.alpha.stop()
    good = cluster.alpha.extra_environment
    cluster.alpha.extra_environment = good | {"MIRRORDISK_PLUGIN": "/nonexistent/mirror-plugin.so"}
    cluster.alpha.start()
    cluster.alpha.kill_engine()
    cluster.wait_state(cluster.alpha, "failed")

    def install():
        cluster.alpha.extra_environment = good
        restart(cluster.alpha)
    return Person(cluster, cluster.alpha, {
        "install the package mirrordisk again on alpha": install})


def engine_killed(make):
    cluster = healthy(make)
    cluster.alpha.kill_engine()
    return Person(cluster, cluster.alpha)


def disk_of_the_standby_fails(make, fuse_backing):
    cluster = make()
    disk = fuse_backing(cluster, cluster.beta)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    disk.fail("write")
    write(cluster.alpha)
    cluster.wait_state(cluster.alpha, "broken")
    return Person(cluster, cluster.alpha, {"repair the disk of beta": disk.heal})


def disk_of_the_active_fails(make, fuse_backing):
    cluster = make()
    disk = fuse_backing(cluster, cluster.alpha)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    disk.fail("write")
    write(cluster.alpha)
    cluster.wait_state(cluster.alpha, "failed")
    disk.heal()
    return Person(cluster, cluster.alpha)


def active_dead_in_the_middle_of_a_resync(make):
    cluster = healthy(make, proxied=True)
    cut(cluster)
    for number in range(48):
        write(cluster.alpha, os.urandom(MIB), number * MIB)
    for proxy in cluster.proxies.values():
        proxy.slow(8 * MIB)
    cluster.wait(lambda: cluster.beta.status()["replica"]["state"] == "inconsistent",
                 "the resync to be in its middle")
    cluster.alpha.kill_everything()
    heal(cluster)
    return Person(cluster, cluster.beta, {start("alpha"): cluster.alpha.start})


def certificate_expired(make):
    cluster = make(tls="x509").start_active()
    write(cluster.alpha)
    cluster.beta.stop()
    folder = cluster.beta.directory / "x509"
    kept = cluster.directory / "x509-kept"
    shutil.copytree(folder, kept)
    credentials.Authority.at(cluster.directory / "ca").sign(folder, "beta", expired=True)
    cluster.beta.start()

    def renew():
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        restart(cluster.beta)
    return Person(cluster, cluster.alpha, {
        "the certificate must be of the CA in x509_dir, in force": renew})


PLAIN = [both_rebooted, active_rebooted, active_dead, standby_dead,
         mirrord_of_the_standby_stopped, link_cut, disconnected, active_nowhere,
         active_nowhere_and_the_peer_dead, both_killed_and_the_standby_stays_away, never_created,
         created_here_alone, created_on_each_alone, stop_mode_with_a_dead_peer,
         full_disk_of_the_standby, full_disk_of_the_active, backing_of_the_standby_away,
         backing_of_the_last_active_away, backing_replaced_by_an_empty_one, metadata_lost,
         metadata_damaged, key_wrong, another_config_on_the_standby,
         split_brain_that_keeps_the_one_looked_at, split_brain_with_nobody_active,
         promoted_by_force_while_the_other_was_away, older_image_of_the_active,
         verify_found_something, engine_that_can_not_start, active_dead_in_the_middle_of_a_resync]
# Of the same kind, seen from the other side, or by another reason.
RARE = [both_rebooted_seen_from_the_standby, both_killed, mirrord_of_the_active_stopped,
        link_cut_seen_from_the_standby, link_silent, disconnected_seen_from_the_standby,
        disconnected_and_the_standby_dead, active_nowhere_and_the_last_active_dead,
        created_there_alone, full_disk_of_the_standby_seen_there,
        backing_of_the_standby_away_seen_from_the_active,
        backing_of_the_last_active_away_seen_from_the_other, backing_lost,
        metadata_lost_seen_there, metadata_of_the_active_damaged, key_wrong_seen_there,
        key_missing, another_config_seen_there, volume_missing_in_the_config_of_the_other,
        split_brain_that_keeps_the_other, state_dir_full, engine_killed, certificate_expired]
OF_DISKS = [disk_of_the_standby_fails, disk_of_the_active_fails]

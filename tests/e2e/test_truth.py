# SPDX-License-Identifier: BSD-3-Clause
"""What status says while things go wrong: never better than what its node knows at that moment."""

import time

import nbd
import pytest

from lib import environment, machine_time, tools

KNOWN_FOR = 1.0  # seconds beyond peer_timeout for which the last sign of life counts


@pytest.fixture(name="pair")
def pair_fixture(make_cluster):
    return make_cluster(proxied=True).start_active()


def silence(cluster):
    for proxy in cluster.proxies.values():
        proxy.silence()


def looks(node, seconds):
    """What status says, again and again: (seconds since the first look began, exit code, volume)."""
    began = machine_time.now()
    while (at := machine_time.now() - began) < seconds:
        outcome = node.ctl("status", "r0", "--json", check=False)
        yield at, outcome.code, outcome.json["volumes"][0]
        time.sleep(0.1)  # ten looks a second


def write(node, data=b"x" * 4096, offset=0):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    handle.pwrite(data, offset)
    handle.shutdown()


@pytest.mark.parametrize("ends", ["silent", "frozen"])
def test_a_standby_whose_active_is_silent_says_in_sync_for_no_longer_than_it_knows(pair, ends):
    limit = 2 * environment.slowness() + KNOWN_FOR
    if ends == "silent":
        silence(pair)
    else:  # power was cut: connections stay as they are, nothing answers
        pair.alpha.pause()
        pair.alpha.pause_engine()
    told = []
    for at, code, volume in looks(pair.beta, limit + 3):
        told.append((at, code, volume["state"]))
        if at > limit:
            assert (volume["state"], code) == ("peer-unknown", 3), (told, volume)
            assert volume["rpo"] == {"seconds": None, "bytes": None}, volume
            assert volume["peers"][0]["link"] == "down", volume
            assert volume["peers"][0]["role"] == "unknown", volume
    assert len(told) > 5
    words = pair.beta.ctl("status", "r0", check=False).out
    assert "active side unknown" in words and "nothing would be lost" not in words, words
    assert "active nowhere" not in words, words


def test_an_active_does_not_call_a_peer_standby_that_it_can_not_ask(pair):
    for proxy in pair.proxies.values():
        proxy.cut()
    pair.wait_state(pair.alpha, "broken")
    write(pair.alpha)
    pair.beta.ctl("promote", "r0", "--force")
    write(pair.beta)
    assert pair.alpha.peer()["role"] == "unknown", pair.alpha.peer()
    assert pair.beta.peer()["role"] == "unknown", pair.beta.peer()
    for proxy in pair.proxies.values():
        proxy.open()
    for node in pair.nodes:
        pair.wait_state(node, "diverged")
        pair.wait(lambda node=node: node.peer()["role"] == "active", "the other's role to be seen")


def test_an_active_whose_mirrord_is_away_is_active_somewhere(pair):
    pair.alpha.stop()

    def noticed():
        status = pair.beta.status()
        return status["state"] == "in-sync" and "alpha" in pair.beta.ctl("status", "r0").out
    pair.wait(noticed, "beta to be in sync with the engine alone")
    for _, code, volume in looks(pair.beta, 4):
        assert (code, volume["state"]) == (0, "in-sync"), volume
        assert volume["peers"][0]["role"] == "active", volume
    assert "active on alpha" in pair.beta.ctl("status", "r0").out
    pair.alpha.start()


def test_a_volume_that_is_active_nowhere_is_no_success_and_says_how_to_serve_it(pair):
    write(pair.alpha)
    pair.alpha.ctl("demote", "r0")
    for node in pair.nodes:
        pair.wait_in_sync(node)
        outcome = node.ctl("status", "r0", check=False)
        assert outcome.code == 1, outcome
        assert "active nowhere" in outcome.out and "mirrorctl promote r0" in outcome.out, outcome


def test_after_both_nodes_died_the_advice_leads_to_a_volume_that_is_served(pair):
    write(pair.alpha)
    pair.kill_everything()
    for node in pair.nodes:
        for path in node.run_dir.iterdir():  # as after a reboot: RUN_DIR is a tmpfs
            path.unlink()
        node.start()
    pair.wait(lambda: pair.alpha.peer()["link"] != "down", "alpha to see beta")
    for node in pair.nodes:
        status = node.status()
        assert "neither node is active" in status["why"], status
        assert status["advice"].startswith("mirrorctl promote r0"), status
    asked = pair.beta if "on beta" in pair.alpha.status()["advice"] else pair.alpha
    asked.ctl("promote", "r0")
    pair.wait_in_sync(asked)


def write_apart(cluster):
    """Both nodes are active, and have writes that the other lacks."""
    for proxy in cluster.proxies.values():
        proxy.cut()
    cluster.wait_state(cluster.alpha, "broken")
    write(cluster.alpha)
    cluster.beta.ctl("promote", "r0", "--force")
    write(cluster.beta, offset=8192)
    for proxy in cluster.proxies.values():
        proxy.open()
    for node in cluster.nodes:
        cluster.wait_state(node, "diverged")


def test_in_a_split_brain_no_verb_promises_what_only_resolve_can_do(pair):
    write_apart(pair)

    def engine_knows():
        return "split brain" in pair.alpha.ctl("connect", "r0", check=False).err
    pair.wait(engine_knows, "the engine to have met the other one")
    for words in (("connect", "r0"), ("resync", "r0"), ("resync", "r0", "--full"), ("verify", "r0")):
        refused = pair.alpha.ctl(*words, check=False)
        assert refused.code == 1 and "split brain" in refused.err, refused
        assert "mirrorctl resolve r0 --keep NODE" in refused.err, refused
    checked = pair.alpha.ctl("check", check=False)
    assert checked.code == 1 and "volume r0 is diverged" in checked.out, checked
    # What is refused does not stand in the way of what leads out.
    pair.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients")
    pair.wait_in_sync(pair.alpha)
    pair.alpha.ctl("verify", "r0", "--wait")
    pair.alpha.ctl("demote", "r0")
    pair.assert_replicas_equal()


@pytest.fixture(name="tight")
def tight_fixture(make_cluster):
    """The standby's backing has no space for all of the volume."""
    tools.require_root("to make a small filesystem")
    cluster = make_cluster()
    cluster.disk = cluster.mount_tmpfs("tight", 20)
    cluster.volumes["r0"]["backing.beta"] = str(cluster.disk / "r0.img")
    cluster.write_config()
    return cluster.start_active()


def test_a_full_disk_of_the_standby_is_named_on_both_nodes_with_the_way_out(tight):
    for number in range(24):
        write(tight.alpha, bytes([number + 1]) * 1024 * 1024, number * 1024 * 1024)
    tight.wait_state(tight.alpha, "broken")
    for node in tight.nodes:
        def told(node=node):
            status = node.status()
            assert "No space left on device" in status["why"], status
            return "make space on beta" in status["advice"]
        tight.wait(told, f"{node.name} to name the reason")
        checked = node.ctl("check", check=False)
        assert checked.code == 1 and "No space left on device" in checked.out, checked
    # The advice, followed.
    tools.run("mount", "-o", "remount,size=128m", tight.disk)
    tight.wait_in_sync(tight.alpha)
    tight.alpha.ctl("demote", "r0")
    tight.assert_replicas_equal()


def test_a_missing_backing_is_a_problem_for_check_on_both_nodes(pair):
    pair.beta.stop()
    backing = pair.backing(pair.beta)
    backing.rename(backing.with_suffix(".away"))
    pair.beta.start()
    for node in pair.nodes:
        def told(node=node):
            checked = node.ctl("check", check=False)
            return checked.code == 1 and f"{backing}: No such file" in checked.out
        pair.wait(told, f"check on {node.name} to name the missing backing")


def test_after_a_disconnect_both_nodes_say_so_and_what_ends_it(pair):
    pair.alpha.ctl("disconnect", "r0")
    write(pair.alpha)
    for node, advice in ((pair.alpha, "mirrorctl connect r0"),
                         (pair.beta, "on alpha: mirrorctl connect r0")):
        pair.wait(lambda node=node, advice=advice: node.status()["advice"] == advice,
                  f"the advice of {node.name}")
        assert "beta was disconnected by mirrorctl" in node.status()["why"], node.status()
    pair.alpha.ctl("connect", "r0")
    pair.wait_in_sync(pair.beta)


def test_writes_that_wait_for_the_peer_are_told(make_cluster):
    cluster = make_cluster({"r0": {"on_peer_loss": "stop"}}).start_active()
    assert cluster.alpha.status()["holds_writes"] is False
    cluster.beta.kill_everything()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.aio_pwrite(b"x" * 512, 0)
    cluster.wait_state(cluster.alpha, "broken")
    status = cluster.alpha.status()
    assert status["holds_writes"] is True and "writes wait for beta" in status["why"], status
    # The advice, followed.
    assert 'on_peer_loss = "continue"' in status["advice"], status
    cluster.volumes["r0"]["on_peer_loss"] = "continue"
    cluster.write_config()
    cluster.alpha.stop()
    cluster.alpha.start()
    cluster.wait(lambda: cluster.alpha.status()["holds_writes"] is False, "writes to continue")
    handle.pwrite(b"y" * 512, 4096)


def test_what_verify_found_counts_until_it_is_repaired_also_after_a_resize(pair):
    write(pair.alpha)
    with open(pair.backing(pair.beta), "r+b") as backing:
        backing.write(b"rot")
    assert pair.alpha.ctl("verify", "r0", "--wait", check=False).code == 1
    pair.alpha.ctl("resize", "r0", "80MiB")
    pair.wait_in_sync(pair.alpha)
    outcome = pair.alpha.ctl("status", "r0", check=False)
    assert outcome.code == 1 and "4 KiB differ" in outcome.out, outcome
    assert "verify r0 --repair" in outcome.out, outcome
    checked = pair.alpha.ctl("check", check=False)
    assert checked.code == 1 and "4 KiB that differ" in checked.out, checked
    assert not pair.alpha.events("verify-record-lost")
    pair.alpha.ctl("verify", "r0", "--repair", "--wait")
    assert pair.alpha.ctl("status", "r0").code == 0
    pair.alpha.ctl("demote", "r0")
    pair.assert_replicas_equal()


def test_a_dry_run_refuses_what_the_real_one_refuses(pair):
    handle = nbd.NBD()
    handle.connect_unix(str(pair.alpha.socket()))
    for words in (("demote", "r0"), ("switch", "r0", "--to", "beta")):
        real = pair.alpha.ctl(*words, check=False)
        assert real.code == 1 and "in use on alpha by 1 client connection" in real.err, real
        assert pair.alpha.ctl(*words, "--dry-run", check=False).err == real.err
        assert pair.alpha.ctl(*words, "--disconnect-clients", "--dry-run").code == 0
    handle.shutdown()
    for words in (("demote", "r0"), ("switch", "r0", "--to", "beta")):
        assert pair.alpha.ctl(*words, "--dry-run").code == 0
    assert pair.alpha.engine_pid()


def test_an_engine_that_starts_again_in_a_moment_is_no_failed_replica(pair):
    pair.alpha.kill_engine()
    seen = set()
    for _, code, volume in looks(pair.alpha, 4):
        seen.add(volume["state"])
        assert code < 2, volume
        if volume["state"] == "in-sync":
            break
    assert "failed" not in seen and seen & {"starting", "broken"}, seen

# SPDX-License-Identifier: BSD-3-Clause
"""verify finds what changed behind the mirror's back, repairs it, and raises no false alarm."""

import json
import threading

import nbd
import pytest

from lib import tools

MIB = 1024 * 1024
SIZE = 64 * MIB
CRAWL = "4MiB"


def verify_of(node, volume="r0"):
    return node.peer(volume)["verify"]


def fill(node, rng, volume="r0"):
    """No holes: these are compared at no cost, whatever the rate."""
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket(volume)))
    for offset in range(0, SIZE, 4 * MIB):
        handle.pwrite(rng.randbytes(4 * MIB), offset)
    handle.flush()
    handle.shutdown()


def flip(path, offset):
    with open(path, "r+b") as image:
        image.seek(offset)
        byte = image.read(1)[0]
        image.seek(offset)
        image.write(bytes([byte ^ 0x10]))


def saved_position(node, volume="r0"):
    text = (node.state_dir / volume / "verify.json").read_text(encoding="utf-8")
    return json.loads(text[9:])["position_bytes"]


@pytest.fixture
def full(cluster, rng):
    fill(cluster.alpha, rng)
    return cluster


@pytest.mark.door
@pytest.mark.sanitizers
def test_replicas_under_load_are_found_equal(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=16384).start()
    for _ in range(4):
        done = cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
        assert "all 64 MiB are equal on both nodes" in done.out
        load.wait_progress(100)
    load.stop()
    load.assert_undisturbed()
    assert not cluster.alpha.events("verify-mismatch")
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
def test_no_false_alarm_under_fio(cluster):
    failures = []

    def work():
        try:
            tools.fio_verify(cluster.alpha.uri(), cluster.directory, seconds=5)
        except AssertionError as error:
            failures.append(error)
    tools.require_tool("fio")
    fio = threading.Thread(target=work)
    fio.start()
    rounds = 0
    while fio.is_alive() or rounds == 0:
        cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
        assert verify_of(cluster.alpha)["mismatched_bytes"] == 0
        rounds += 1
    fio.join()
    assert not failures, failures
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.sanitizers
@pytest.mark.parametrize("victim", ["alpha", "beta"])
def test_a_flipped_bit_is_found_and_repaired(full, victim):
    offset = 17 * MIB + 12345
    block = offset // 4096 * 4096
    flip(full.backing(getattr(full, victim)), offset)
    found = full.alpha.ctl("verify", "r0", "--wait", "--rate", "0", check=False)
    assert found.code == 1, str(found)
    assert f"4 KiB at offset {block}" in found.out
    seen = verify_of(full.alpha)
    assert seen["ranges"] == [{"offset": block, "length": 4096, "unreadable": False,
                               "repaired": False}]
    assert full.wait_event(full.alpha, "verify-mismatch")[0]["remedy"]
    status = full.alpha.ctl("status", "r0", check=False)  # 1 while that is not repaired
    assert "4 KiB differ" in status.out and "--repair" in status.out
    # The result is about the pair: the standby has it too.
    full.wait(lambda: verify_of(full.beta)["ranges"] == seen["ranges"], "beta to have the result")

    full.alpha.ctl("verify", "r0", "--repair", "--wait", "--rate", "0")
    assert verify_of(full.alpha)["repaired_bytes"] == 4096
    full.wait_event(full.alpha, "verify-repaired")
    full.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    assert full.alpha.state() == "in-sync"
    full.alpha.ctl("demote", "r0")
    full.assert_replicas_equal()


@pytest.mark.sanitizers
def test_a_killed_engine_goes_on_where_it_was(full):
    # No intent is left that would have a resync compare what is damaged here.
    full.alpha.ctl("disconnect", "r0")
    full.alpha.ctl("connect", "r0")
    full.wait_in_sync(full.alpha)
    full.alpha.ctl("verify", "r0", "--rate", CRAWL)
    position = full.wait(lambda: saved_position(full.alpha), "a saved position", timeout=60)
    # Compared already: who begins anew would find it.
    flip(full.backing(full.beta), 100)
    full.alpha.kill_engine()
    full.wait_event(full.alpha, "verify-resumed")
    full.wait_in_sync(full.alpha)
    assert verify_of(full.alpha)["done_bytes"] >= position
    full.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    assert verify_of(full.alpha)["mismatched_bytes"] == 0
    full.alpha.ctl("verify", "r0", "--repair", "--wait", "--rate", "0")
    assert verify_of(full.alpha)["repaired_bytes"] == 4096
    full.alpha.ctl("demote", "r0")
    full.assert_replicas_equal()


@pytest.mark.door
def test_a_lost_link_is_waited_for(make_cluster, rng):
    cluster = make_cluster(proxied=True).start_active()
    fill(cluster.alpha, rng)
    cluster.alpha.ctl("verify", "r0", "--rate", CRAWL)
    cluster.wait(lambda: verify_of(cluster.alpha)["done_bytes"] >= 2 * MIB, "some progress")
    cluster.proxies["beta"].cut()
    resting = cluster.wait(lambda: (v := verify_of(cluster.alpha))["waits_for"] and v, "it to rest")
    assert resting["state"] == "running"
    refused = cluster.alpha.ctl("verify", "r0", "--restart", check=False)
    assert refused.code == 1 and "mirrorctl wait r0 --for in-sync" in refused.err, str(refused)
    fill(cluster.alpha, rng)  # all of it lacks on beta, and is no finding
    cluster.proxies["beta"].open()
    cluster.wait_in_sync(cluster.alpha)
    done = cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    assert "compared already" in done.out
    assert verify_of(cluster.alpha)["done_bytes"] == SIZE
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_switch_takes_it_along_but_not_its_repair(full):
    full.alpha.ctl("verify", "r0", "--repair", "--rate", CRAWL)
    full.wait(lambda: verify_of(full.alpha)["done_bytes"] >= 2 * MIB, "some progress")
    flip(full.backing(full.alpha), 50 * MIB)
    full.alpha.ctl("switch", "r0")
    full.wait_in_sync(full.beta)
    full.wait_event(full.beta, "verify-resumed")
    assert verify_of(full.beta)["done_bytes"] >= 2 * MIB
    found = full.beta.ctl("verify", "r0", "--wait", "--rate", "0", check=False)
    assert found.code == 1, str(found)
    full.wait(lambda: verify_of(full.alpha)["state"] == "finished", "alpha to have the result")
    for node in full.nodes:
        assert verify_of(node)["mismatched_bytes"] == 4096
        assert verify_of(node)["repaired_bytes"] == 0
        assert verify_of(node)["last_finished"]
    full.beta.ctl("verify", "r0", "--repair", "--wait", "--rate", "0")
    full.beta.ctl("demote", "r0")
    full.assert_replicas_equal()


def test_what_is_refused_says_what_would_be_accepted(full):
    alpha, beta = full.nodes
    plan = alpha.ctl("verify", "r0", "--dry-run", "--rate", "1MiB")
    assert "64 MiB to read on each node, about 1 min 4 s" in plan.out
    assert verify_of(alpha)["state"] == "never"
    # The standby's node passes it on.
    assert "equal" in beta.ctl("verify", "r0", "--wait", "--rate", "0").out
    alpha.ctl("verify", "r0", "--rate", CRAWL)
    again = alpha.ctl("verify", "r0", "--repair", check=False)
    assert again.code == 1 and "--repair --restart" in again.err, str(again)
    assert "was stopped at" in alpha.ctl("verify", "r0", "--stop").out
    assert verify_of(alpha)["state"] == "stopped"
    assert "resumes at" in alpha.ctl("verify", "r0", "--rate", "0").out
    alpha.ctl("disconnect", "r0")
    broken = alpha.ctl("verify", "r0", "--restart", "--json", check=False)
    assert broken.code == 1 and broken.json["error"]["remedy"].startswith("mirrorctl wait r0")
    alpha.ctl("connect", "r0")
    full.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    nowhere = alpha.ctl("verify", "r0", check=False)
    assert nowhere.code == 1 and "mirrorctl promote r0" in nowhere.err, str(nowhere)
    full.assert_replicas_equal()


def test_all_verifies_what_is_active_here(make_cluster):
    cluster = make_cluster({name: {} for name in ("r0", "r1", "r2")}).start()
    for name, node in (("r0", cluster.alpha), ("r1", cluster.alpha), ("r2", cluster.beta)):
        cluster.create(name)
        node.ctl("promote", name)
        cluster.wait_in_sync(node, name)
    flip(cluster.backing(cluster.beta, "r0"), MIB)
    done = cluster.alpha.ctl("verify", "--all", "--wait", "--json", check=False)
    assert done.code == 1, str(done)
    found = {each["volume"]: each["verify"]["mismatched_bytes"] for each in done.json["volumes"]}
    assert found == {"r0": 4096, "r1": 0}
    assert verify_of(cluster.beta, "r2")["state"] == "never"
    cluster.alpha.ctl("verify", "--all", "--wait", "--repair")
    for name, node in (("r0", cluster.alpha), ("r1", cluster.alpha), ("r2", cluster.beta)):
        node.ctl("demote", name)
        cluster.assert_replicas_equal(name)

# SPDX-License-Identifier: BSD-3-Clause
"""A split brain is shown, decided, and what was given up is kept."""

import itertools
import os
import signal
import subprocess
import time

import pytest

from lib import environment, split_brain
from lib.split_brain import BLOCK

ON_ALPHA = [*range(8), 300, 301, *range(2000, 2064)]
ON_BETA = [*range(4, 12), 5000, *range(9000, 9016)]
ZEROED_ON_BETA = [20, 21]


@pytest.fixture
def both_active(make_cluster):
    """A cluster with a split brain, and the images of both nodes."""
    cluster = make_cluster(proxied=True).start_active()
    images = split_brain.make(cluster, ON_ALPHA, ON_BETA, ZEROED_ON_BETA)
    return cluster, images


def node_of(cluster, name):
    return cluster.alpha if name == "alpha" else cluster.beta


def undo_files(node):
    return sorted(node.meta().parent.glob("undo-*"))


def wait_resolved(cluster, keeper, loser, images):
    """In sync with the kept data on both; the volume is left on no node."""
    cluster.wait_in_sync(keeper)
    sent = keeper.peer()["last_resync"]["sent_bytes"]
    keeper.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(loser).read_bytes() == images[keeper.name]
    return sent


def assert_undo_is_whole(cluster, keeper, loser, images, undo_id="1"):
    """Exactly the blocks that differed, byte for byte, and the loser's view by laying them over."""
    image = cluster.directory / f"export-{undo_id}"
    loser.ctl("undo", "r0", "--export", image, "--id", undo_id)
    saved = image.read_bytes()
    assert len(saved) == len(images[loser.name])
    lost = set(split_brain.differing(images["alpha"], images["beta"]))
    for number in range(len(saved) // BLOCK):
        at = number * BLOCK
        expected = images[loser.name][at:at + BLOCK] if number in lost else bytes(BLOCK)
        assert saved[at:at + BLOCK] == expected, f"block {number}"
    assert image.stat().st_blocks * 512 <= 2 * len(lost) * BLOCK + 65536, "the image is not sparse"
    copy = cluster.directory / f"copy-{undo_id}"
    copy.write_bytes(images[keeper.name])
    loser.ctl("undo", "r0", "--export", copy, "--over", "--id", undo_id)
    assert copy.read_bytes() == images[loser.name]
    image.unlink()
    copy.unlink()


@pytest.mark.door
def test_both_sides_are_shown_with_what_each_alone_has(both_active):
    cluster, _ = both_active
    status = cluster.alpha.status()
    evidence = status["peers"][0]["split_brain"]
    assert evidence["here"]["node"] == "alpha" and evidence["there"]["node"] == "beta"
    assert evidence["here"]["changed_bytes"] == len(ON_ALPHA) * BLOCK
    assert evidence["there"]["changed_bytes"] == (len(ON_BETA) + len(ZEROED_ON_BETA)) * BLOCK
    assert [entry["reason"] for entry in evidence["here"]["lineage"]] == ["peer-lost"]
    assert "forced-promotion" in [entry["reason"] for entry in evidence["there"]["lineage"]]
    assert evidence["ancestor"]["reason"] == "created"
    assert abs(evidence["clock_skew_seconds"]) < 5
    for side in ("here", "there"):
        assert evidence[side]["break_at"] and evidence[side]["last_write_at"]
    mirrored = cluster.beta.peer()["split_brain"]
    assert mirrored["here"]["changed_bytes"] == evidence["there"]["changed_bytes"]
    text = cluster.alpha.ctl("status", "r0", check=False).out
    assert "beta was promoted with --force" in text
    assert "continued without its peer" in text
    assert "resolve r0 --keep NODE" in text
    # Both go on serving.
    for node in cluster.nodes:
        split_brain.write(node, node.name, [100])


def test_a_dry_run_names_the_loss_and_changes_nothing(both_active):
    cluster, images = both_active
    lost = len(split_brain.differing(images["alpha"], images["beta"])) * BLOCK
    for run_on, keep in itertools.product(cluster.nodes, ("alpha", "beta")):
        plan = run_on.ctl("resolve", "r0", "--keep", keep, "--dry-run", "--json").json
        assert plan["lost_bytes"] == lost
        assert plan["undo_bytes"] >= lost and plan["free_bytes"] > 0
        assert plan["keep"] == keep and plan["lose"] != keep
        assert plan["lose"] in plan["loss"]
    for node in cluster.nodes:
        assert node.state() == "diverged" and node.engine_pid()
        assert cluster.backing(node).read_bytes() == images[node.name]
        assert undo_files(node) == []


@pytest.mark.parametrize("keep", ["alpha", "beta"])
@pytest.mark.parametrize("run_on", ["alpha", "beta"])
def test_one_side_is_kept_and_the_other_one_saved(both_active, run_on, keep):
    cluster, images = both_active
    keeper = node_of(cluster, keep)
    loser = cluster.other(keeper)
    answer = node_of(cluster, run_on).ctl("resolve", "r0", "--keep", keep, "--yes", "--json").json
    differing = split_brain.differing(images["alpha"], images["beta"])
    assert answer["lost_bytes"] == len(differing) * BLOCK == answer["undo"]["saved_bytes"]
    sent = wait_resolved(cluster, keeper, loser, images)
    # Blocks that only the loser changed are found by digests of 64 KiB.
    assert sent <= len({number // 16 for number in differing}) * 65536
    listed = loser.ctl("undo", "r0", "--list", "--json").json["undo"]
    assert [(entry["id"], entry["node"], entry["kept"], entry["saved_bytes"])
            for entry in listed] == [(1, loser.name, keep, len(differing) * BLOCK)]
    assert keeper.ctl("undo", "r0", "--list", "--json").json["undo"] == []
    assert_undo_is_whole(cluster, keeper, loser, images)
    assert [entry["id"] for entry in loser.status()["undo"]] == [1]
    assert "undo r0 --list" in loser.ctl("status", "r0", check=False).out
    cluster.wait_event(loser, "resolved")

    refused = loser.ctl("undo", "r0", "--drop", check=False)
    assert refused.code == 1 and "--drop --id 1 --yes" in refused.err, str(refused)
    loser.ctl("undo", "r0", "--drop", "--yes")
    assert undo_files(loser) == []


@pytest.mark.door
def test_what_is_refused_and_what_would_be_accepted(both_active):
    cluster, images = both_active

    def refused(node, *words, code=1):
        outcome = node.ctl("resolve", "r0", *words, check=False)
        assert outcome.code == code, str(outcome)
        return outcome.err

    assert "--keep NODE" in refused(cluster.alpha, "--yes", code=2)
    assert "--keep alpha or --keep beta" in refused(cluster.alpha, "--keep", "gamma", "--yes")
    assert "--keep alpha --yes" in refused(cluster.alpha, "--keep", "alpha")
    client = split_brain.connect(cluster.beta)
    said = refused(cluster.alpha, "--keep", "alpha", "--yes")
    assert "beta serves r0 to 1 client" in said and "--disconnect-clients" in said
    for node in cluster.nodes:
        assert node.state() == "diverged"
        assert cluster.backing(node).read_bytes() == images[node.name]
        assert undo_files(node) == []
    # The clients are beta's: who wants to cut them off says so there.
    said = refused(cluster.alpha, "--keep", "alpha", "--yes", "--disconnect-clients")
    assert "on beta: mirrorctl resolve r0 --keep alpha --disconnect-clients" in said
    client.pread(4096, 0)
    cluster.beta.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients")
    wait_resolved(cluster, cluster.alpha, cluster.beta, images)
    assert_undo_is_whole(cluster, cluster.alpha, cluster.beta, images)
    del client
    assert "has not diverged" in refused(cluster.alpha, "--keep", "alpha", "--yes")


@pytest.mark.parametrize("keep", ["alpha", "beta"])
def test_with_no_node_active_the_resync_waits_for_the_promotion(both_active, keep):
    cluster, images = both_active
    keeper = node_of(cluster, keep)
    loser = cluster.other(keeper)
    for node in cluster.nodes:
        node.ctl("demote", "r0")
    said = loser.ctl("resolve", "r0", "--keep", keep, "--yes").out
    assert f"on {keep}: mirrorctl promote r0" in said
    assert cluster.backing(loser).read_bytes() == images[loser.name]
    again = loser.ctl("resolve", "r0", "--keep", keep, "--yes", check=False)
    assert again.code == 1 and "already resolved" in again.err, str(again)
    refused = loser.ctl("promote", "r0", check=False)
    assert refused.code == 1 and "given up" in refused.err, str(refused)
    keeper.ctl("promote", "r0")
    wait_resolved(cluster, keeper, loser, images)
    assert_undo_is_whole(cluster, keeper, loser, images)


def test_the_loser_may_be_taken_back_before_the_resync_began(both_active):
    cluster, images = both_active
    for node in cluster.nodes:
        node.ctl("demote", "r0")
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes")
    cluster.beta.ctl("promote", "r0", "--force", "--yes")
    cluster.wait_state(cluster.beta, "diverged")
    cluster.beta.ctl("resolve", "r0", "--keep", "beta", "--yes")
    wait_resolved(cluster, cluster.beta, cluster.alpha, images)
    assert_undo_is_whole(cluster, cluster.beta, cluster.alpha, images)
    assert len(undo_files(cluster.beta)) == 1, "what the first decision saved is kept"


def test_an_undo_that_does_not_fit_is_refused(make_cluster):
    cluster = make_cluster(proxied=True)
    cluster.beta.state_dir = cluster.mount_tmpfs("small", 6)
    cluster.write_config()
    cluster.start_active()
    images = split_brain.make(cluster, range(1000, 1010), range(2000, 4000))
    refused = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", check=False)
    assert refused.code == 1 and "--no-undo" in refused.err, str(refused)
    assert cluster.beta.state() == "diverged" and cluster.beta.engine_pid()
    assert cluster.backing(cluster.beta).read_bytes() == images["beta"]
    assert undo_files(cluster.beta) == []
    there = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--no-undo", check=False)
    assert there.code == 1 and "on beta: mirrorctl resolve r0 --keep alpha --no-undo" in there.err
    cluster.beta.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--no-undo")
    wait_resolved(cluster, cluster.alpha, cluster.beta, images)
    assert undo_files(cluster.beta) == []


def big_split_brain(make_cluster):
    cluster = make_cluster({"r0": {"size": "96MiB"}}, proxied=True).start_active()
    return cluster, split_brain.make(cluster, range(100), range(50, 20000))


@pytest.mark.seconds(400)
@pytest.mark.parametrize("moment", range(4))
def test_a_losing_node_that_dies_while_saving_has_lost_nothing(make_cluster, moment):
    cluster, images = big_split_brain(make_cluster)
    cluster.beta.ctl("demote", "r0")
    folder = cluster.beta.meta().parent
    resolving = subprocess.Popen(
        [str(environment.MIRRORCTL), "resolve", "r0", "--keep", "alpha", "--yes"],
        env=cluster.alpha.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60

    def reached():
        parts = list(folder.glob("*.part"))
        return list(folder.glob("undo-1")) or any(
            part.exists() and part.stat().st_size > moment * 20_000_000 for part in parts)
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # the processor is needed by those who save
    os.kill(cluster.beta.daemon.pid, signal.SIGKILL)
    cluster.beta.kill_everything()
    resolving.wait(60)
    whole = [path.name for path in undo_files(cluster.beta) if path.suffix != ".part"]
    if not whole:
        assert cluster.backing(cluster.beta).read_bytes() == images["beta"], "overwritten, unsaved"
    cluster.beta.start()
    # Before it has heard of alpha it cannot know whether the decision was recorded.
    cluster.wait(lambda: cluster.beta.state() != "peer-unknown", "beta to hear of alpha")
    if cluster.beta.state() == "diverged":
        cluster.wait_state(cluster.alpha, "diverged")
        cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes")
    wait_resolved(cluster, cluster.alpha, cluster.beta, images)
    assert not list(folder.glob("*.part")), "what was half written is left behind"
    last = undo_files(cluster.beta)[-1].name.removeprefix("undo-")
    assert_undo_is_whole(cluster, cluster.alpha, cluster.beta, images, last)


@pytest.mark.seconds(400)
def test_a_losing_node_that_dies_in_the_resync_goes_on_with_it(make_cluster):
    cluster, images = big_split_brain(make_cluster)
    # Slow enough to be caught, fast enough for peer_timeout.
    cluster.proxies["beta"].slow(4_000_000)
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", timeout=300)

    def under_way():
        resync = cluster.alpha.peer()["resync"]
        return resync and resync["done_bytes"] > 0
    cluster.wait(under_way, "the resync to be under way", 60)
    cluster.beta.kill_everything()
    cluster.proxies["beta"].open()
    cluster.proxies["beta"].slow(None)
    assert_undo_is_whole(cluster, cluster.alpha, cluster.beta, images)
    cluster.beta.start()
    wait_resolved(cluster, cluster.alpha, cluster.beta, images)
    assert_undo_is_whole(cluster, cluster.alpha, cluster.beta, images)
    assert len(undo_files(cluster.beta)) == 1


def test_a_disconnect_from_before_the_decision_does_not_outlive_it(both_active):
    cluster, _ = both_active
    for node in cluster.nodes:
        node.ctl("disconnect", "r0")
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()

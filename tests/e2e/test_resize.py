# SPDX-License-Identifier: BSD-3-Clause
"""A volume grows while it is in use, on both nodes alike, and whatever is cut short is finished."""

import subprocess
import time

import pytest

from lib import control, environment, split_brain, tools

MIB = 1024 * 1024
OLD = 64 * MIB
NEW = 96 * MIB
BLOCK = split_brain.BLOCK


def sizes(cluster):
    return [node.status()["size_bytes"] for node in cluster.nodes]


def export_size(node):
    handle = split_brain.connect(node)
    try:
        return handle.get_size()
    finally:
        handle.shutdown()


def fill_new_part(node, tag, old=OLD, new=NEW):
    """Blocks at both ends of what was added, and one in the middle."""
    numbers = [old // BLOCK - 1, old // BLOCK, (old + new) // 2 // BLOCK, new // BLOCK - 1]
    split_brain.write(node, tag, numbers)
    return numbers


def assert_equal_and_grown(cluster, active, new=NEW):
    """The pair is one again: in sync, of one size, writable to its end, byte by byte the same."""
    cluster.wait_in_sync(active)
    cluster.wait(lambda: sizes(cluster) == [new, new], "both nodes to say the new size")
    assert export_size(active) == new
    fill_new_part(active, "after", new=new)
    cluster.wait_in_sync(active)
    active.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    data = cluster.backing(active).read_bytes()
    assert len(data) == new
    assert data[-BLOCK:] == split_brain.content("after", new // BLOCK - 1)


def ask_standby(cluster, step, source="alpha", old=OLD, new=NEW):
    """A step of a resize as the active's mirrord asks for it."""
    node = cluster.other(getattr(cluster, source))
    return control.ask(node, {"request": "resize-replica", "volume": "r0", "step": step,
                                      "source": source, "from_bytes": old, "size_bytes": new})


def grow_standby_only(cluster):
    """As a crash of the active leaves it between the standby's step and its own."""
    assert ask_standby(cluster, "backing")["ok"]
    assert ask_standby(cluster, "metadata")["ok"]


# -- in good order -----------------------------------------------------------------------------------

@pytest.mark.door
def test_a_volume_grows_on_both_nodes_and_keeps_its_data(cluster):
    split_brain.write(cluster.alpha, "before", range(32))
    outcome = cluster.alpha.ctl("resize", "r0", "96MiB")
    assert "96 MiB" in outcome.out, str(outcome)
    assert sizes(cluster) == [NEW, NEW]
    data = cluster.backing(cluster.beta).read_bytes()
    assert data[:32 * BLOCK] == b"".join(split_brain.content("before", n) for n in range(32))
    assert data[OLD:] == bytes(NEW - OLD)
    assert cluster.alpha.events("resized")
    cluster.alpha.ctl("switch", "r0")
    assert export_size(cluster.beta) == NEW
    assert_equal_and_grown(cluster, cluster.beta)


@pytest.mark.door
def test_a_load_goes_on_while_the_volume_grows(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=8192, follow=True).start()
    load.wait_progress(200)
    new = OLD
    for _ in range(3):
        new += 16 * MIB
        cluster.alpha.ctl("resize", "r0", "+16MiB", "--disconnect-clients")
        load.wait_progress(100)
    load.stop()
    assert not load.errors
    load.verify_volume(cluster.alpha.socket())
    assert_equal_and_grown(cluster, cluster.alpha, new)


def test_a_resize_asked_for_on_the_standby_is_passed_on_where_that_is_allowed(make_cluster):
    cluster = make_cluster({"r0": {"remote_verbs": "full"}}).start_active()
    answer = cluster.beta.ctl("resize", "r0", "+32MiB", "--json").json
    assert answer["size_bytes"] == NEW
    assert_equal_and_grown(cluster, cluster.alpha)


def test_a_resize_asked_for_on_the_standby_is_refused_as_a_rule(cluster):
    refused = cluster.beta.ctl("resize", "r0", "+32MiB", check=False)
    assert refused.code == 1 and "on alpha: mirrorctl resize r0" in refused.err, str(refused)
    assert sizes(cluster) == [OLD, OLD]


def test_a_dry_run_says_what_would_grow_and_changes_nothing(cluster):
    outcome = cluster.alpha.ctl("resize", "r0", "96MiB", "--dry-run")
    assert outcome.out.count("96 MiB") == 2 and "alpha" in outcome.out and "beta" in outcome.out
    assert sizes(cluster) == [OLD, OLD]
    for node in cluster.nodes:
        assert cluster.backing(node).stat().st_size == OLD


def test_the_size_it_has_already_is_nothing_to_do(cluster):
    assert "already" in cluster.alpha.ctl("resize", "r0", "64MiB").out
    assert not cluster.alpha.events("resized")


@pytest.mark.parametrize("words, code, named", [
    (["32MiB"], 1, ["never shrinks"]), (["100000001"], 1, ["multiple of 512"]),
    (["9999TiB"], 1, ["largest"]), ([], 1, ["give the new size"]), (["elephant"], 2, ["elephant"]),
    (["+"], 2, ["''"])])
def test_what_can_not_be_is_refused_and_changes_nothing(cluster, words, code, named):
    refused = cluster.alpha.ctl("resize", "r0", *words, check=False)
    assert refused.code == code, str(refused)
    for word in named:
        assert word in refused.err, str(refused)
    assert sizes(cluster) == [OLD, OLD]
    assert cluster.backing(cluster.beta).stat().st_size == OLD


def test_it_needs_both_replicas_in_sync_and_says_so(cluster):
    cluster.alpha.ctl("disconnect", "r0")
    refused = cluster.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert refused.code == 1 and "in sync" in refused.err, str(refused)
    cluster.beta.kill_daemon()
    refused = cluster.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert refused.code != 0 and "needs both nodes" in refused.err, str(refused)
    cluster.beta.start()
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    refused = cluster.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert refused.code == 1 and "mirrorctl promote r0" in refused.err, str(refused)
    assert sizes(cluster) == [OLD, OLD]


def test_a_comparison_that_runs_is_not_pulled_away(cluster):
    split_brain.write(cluster.alpha, "data", range(0, OLD // BLOCK, 64))
    cluster.alpha.ctl("verify", "r0", "--rate", "1MiB")
    refused = cluster.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert refused.code == 1 and "verify r0 --stop" in refused.err, str(refused)
    cluster.alpha.ctl("verify", "r0", "--stop")
    cluster.alpha.ctl("resize", "r0", "96MiB")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("verify", "r0", "--rate", "0", "--wait")
    verify = cluster.alpha.peer()["verify"]
    assert verify["total_bytes"] == NEW and verify["mismatched_bytes"] == 0, verify
    assert_equal_and_grown(cluster, cluster.alpha)


def test_a_size_in_the_configuration_that_is_no_longer_right_is_named(cluster):
    done = cluster.alpha.ctl("resize", "r0", "96MiB")
    assert 'set size = "96MiB" in [volume.r0]' in done.out, done.out
    for node in cluster.nodes:
        checked = node.ctl("check")
        assert 'volume r0 has 96 MiB; set size = "96MiB"' in checked.out, checked.out
        assert "no problems" in checked.out
    cluster.volumes["r0"]["size"] = "96MiB"
    cluster.write_config()
    for node in cluster.nodes:
        node.ctl("reload")
    assert "set size" not in cluster.alpha.ctl("check").out
    assert_equal_and_grown(cluster, cluster.alpha)


def test_the_config_may_name_the_old_size_or_the_new_one(cluster):
    cluster.alpha.ctl("resize", "r0", "96MiB")
    for sizes_in_config in (["64MiB", "96MiB"], ["96MiB", "96MiB"]):
        for node, size in zip(cluster.nodes, sizes_in_config):
            node.config.write_text(cluster.config_text(r0={"size": size}), encoding="utf-8")
            node.stop()
            node.start()
        cluster.wait_in_sync(cluster.alpha)
    assert_equal_and_grown(cluster, cluster.alpha)


def test_a_new_replica_is_made_with_the_size_of_the_volume(cluster):
    cluster.alpha.ctl("resize", "r0", "96MiB")
    cluster.wait_in_sync(cluster.alpha)
    cluster.beta.stop()
    cluster.backing(cluster.beta).unlink()
    cluster.beta.start()
    cluster.beta.ctl("create", "r0", "--replace", "--yes")
    assert_equal_and_grown(cluster, cluster.alpha)


# -- devices -----------------------------------------------------------------------------------------

@pytest.fixture
def devices(make_cluster):
    """Loop devices that are larger than the volume, with garbage where it will grow."""
    tools.require_root("sets up loop devices")
    tools.require_tool("losetup")
    cluster = make_cluster()
    cluster.use_loop_devices(OLD)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    return cluster


def enlarge(cluster, node, size):
    file = cluster.directory / f"{node.name}.disk"
    with file.open("r+b") as disk:
        disk.seek(OLD)
        disk.write(node.name.encode() * ((size - OLD) // len(node.name)))
        disk.truncate(size)
    tools.run("losetup", "--set-capacity", cluster.volumes["r0"][f"backing.{node.name}"])


@pytest.mark.door
def test_a_volume_on_devices_takes_what_both_have(devices):
    enlarge(devices, devices.alpha, NEW + 8 * MIB)
    short = devices.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert short.code == 1 and "beta" in short.err and "64 MiB" in short.err, str(short)
    enlarge(devices, devices.beta, NEW)
    devices.alpha.ctl("resize", "r0")
    devices.wait_in_sync(devices.alpha)
    assert sizes(devices) == [NEW, NEW]
    fill_new_part(devices.alpha, "new")
    devices.alpha.ctl("demote", "r0")
    images = []
    for node in devices.nodes:
        with open(devices.backing(node), "rb") as disk:
            images.append(disk.read(NEW))
    assert images[0] == images[1]
    assert b"alpha" not in images[0] and b"beta" not in images[0]


# -- cut short ---------------------------------------------------------------------------------------

@pytest.mark.door
def test_a_standby_that_is_larger_stays_in_sync_until_the_resize_is_finished(cluster):
    grow_standby_only(cluster)
    cluster.wait_in_sync(cluster.alpha)
    assert sizes(cluster) == [OLD, NEW]
    split_brain.write(cluster.alpha, "between", [0, OLD // BLOCK - 1])
    refused = cluster.alpha.ctl("switch", "r0", check=False)
    assert refused.code == 1 and "resize" in refused.err, str(refused)
    assert cluster.active() is cluster.alpha
    refused = cluster.alpha.ctl("resize", "r0", "80MiB", check=False)
    assert refused.code == 1 and "cut short" in refused.err, str(refused)
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("resize", "r0")
    assert_equal_and_grown(cluster, cluster.alpha)


@pytest.mark.door
def test_after_half_a_resize_the_larger_node_can_take_over_when_the_active_is_gone(cluster):
    grow_standby_only(cluster)
    cluster.wait_in_sync(cluster.alpha)
    split_brain.write(cluster.alpha, "answered", range(16))
    cluster.alpha.kill_everything()
    cluster.beta.ctl("promote", "r0", "--force", "--yes")
    numbers = fill_new_part(cluster.beta, "beta")
    cluster.alpha.start()

    def said():
        assert "mirrorctl resize" in cluster.beta.status()["why"], cluster.beta.status()["why"]
        return True
    cluster.wait(said, "beta to say that alpha is too small")
    cluster.beta.ctl("resize", "r0")
    cluster.wait_in_sync(cluster.beta)
    data = cluster.backing(cluster.alpha).read_bytes()
    for number in numbers:
        assert data[number * BLOCK:][:BLOCK] == split_brain.content("beta", number)
    assert_equal_and_grown(cluster, cluster.beta)


@pytest.mark.parametrize("keep", ["alpha", "beta"])
def test_a_split_brain_of_unequal_sizes_is_decided_as_any_other(make_cluster, keep):
    cluster = make_cluster(proxied=True).start_active()
    grow_standby_only(cluster)
    cluster.wait_in_sync(cluster.alpha)
    images = split_brain.make(cluster, range(8), range(4, 12))
    del images
    end = NEW // BLOCK - 1
    split_brain.write(cluster.beta, "beta", [end])
    refused = cluster.alpha.ctl("resize", "r0", "96MiB", check=False)
    assert refused.code == 1 and "diverged" in refused.err, str(refused)
    winner = getattr(cluster, keep)
    loser = cluster.other(winner)
    loser.ctl("resolve", "r0", "--keep", keep, "--yes")
    if keep == "alpha":
        cluster.wait_in_sync(winner)  # the loser is the larger one, so all of it fits
    cluster.wait(lambda: winner.status()["state"] != "diverged", "the split brain to end")
    winner.ctl("resize", "r0")
    cluster.wait_in_sync(winner)
    if keep == "alpha":
        image = cluster.directory / "given-up.img"
        loser.ctl("undo", "r0", "--export", str(image))
        assert image.read_bytes()[end * BLOCK:][:BLOCK] == split_brain.content("beta", end)
        assert cluster.backing(loser).read_bytes()[OLD:] == bytes(NEW - OLD)
    assert_equal_and_grown(cluster, winner)


def test_garbage_behind_the_old_end_never_gets_into_the_volume(cluster):
    """A file that was made longer by hand, or by a resize that was cut short."""
    for node in cluster.nodes:
        with cluster.backing(node).open("r+b") as disk:
            disk.seek(OLD)
            disk.write(node.name.encode() * 4 * MIB)
    cluster.alpha.ctl("resize", "r0", "96MiB")
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.backing(cluster.alpha).read_bytes()[OLD:NEW] == bytes(NEW - OLD)
    for node in cluster.nodes:
        with cluster.backing(node).open("r+b") as disk:
            disk.truncate(NEW)
    assert_equal_and_grown(cluster, cluster.alpha)


def strike(cluster, who):
    if who == "alpha":
        cluster.alpha.kill_everything()
    elif who == "alpha's mirrord":
        cluster.alpha.kill_daemon()
    else:
        cluster.beta.kill_daemon()


def bring_back(cluster, who):
    node = cluster.beta if who == "beta" else cluster.alpha
    node.start()
    if who == "alpha":
        # It goes on by itself when its peer says that it did not take over.
        cluster.wait(lambda: cluster.alpha.status()["role"] == "active"
                     and cluster.alpha.engine_pid(), "alpha to go on")
    cluster.wait(lambda: cluster.alpha.engine_pid(), "the engine of alpha")


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
@pytest.mark.parametrize("who", ["alpha", "alpha's mirrord", "beta"])
def test_a_resize_that_is_killed_at_any_moment_is_finished_by_doing_it_again(cluster, who):

    began = time.monotonic()
    cluster.alpha.ctl("resize", "r0", "+1MiB")
    whole = time.monotonic() - began
    new = OLD + MIB
    turns = 4 if environment.sanitizer() else 10
    halves = 0
    for turn in range(turns):
        split_brain.write(cluster.alpha, f"turn {turn}", [turn])
        new += MIB
        command = subprocess.Popen(
            [str(environment.MIRRORCTL), "resize", "r0", str(new)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=cluster.alpha.environment())
        time.sleep(whole * (turn + 0.5) / turns)  # the moment is what is tried
        strike(cluster, who)
        if who != "beta":
            command.wait(60)
        bring_back(cluster, who)
        command.wait(60)
        cluster.wait_in_sync(cluster.alpha)
        halves += len(set(sizes(cluster))) - 1

        def finished():
            outcome = cluster.alpha.ctl("resize", "r0", str(new), check=False)
            assert outcome.code == 0, str(outcome)
            return True
        cluster.wait(finished, "the resize to be finished")
        cluster.wait_in_sync(cluster.alpha)
        split_brain.write(cluster.alpha, "end", [new // BLOCK - 1])
    print(f"{halves} of {turns} left a larger standby")
    assert_equal_and_grown(cluster, cluster.alpha, new)
    data = cluster.backing(cluster.beta).read_bytes()
    for turn in range(turns):
        assert data[turn * BLOCK:][:BLOCK] == split_brain.content(f"turn {turn}", turn)

# SPDX-License-Identifier: BSD-3-Clause
"""Who is put out is out: a key that was taken out or replaced, a certificate that was revoked or is
too old, ends what it has opened, on both sides, and the application hardly notices."""

import nbd
import pytest

from lib import control, credentials, environment, situations
from lib.waiting import wait_for

PEER_TIMEOUT = 2 * environment.slowness()
MIB = 1024 * 1024


def problems(node):
    return "\n".join(node.ctl("check", "--json", check=False).json["problems"])


def retire(node):
    """On this node alone."""
    for step in ("--add", "--next", "--retire"):
        node.ctl("keygen", step)


def replace_secret(node):
    credentials.write_key(node.key_file.with_suffix(".fresh"), credentials.key_name(node.key_file))
    node.key_file.with_suffix(".fresh").rename(node.key_file)


def revoke(cluster, node, whom):
    authority = credentials.Authority.at(cluster.directory / "ca")
    authority.revoke(node.directory / "x509", whom.directory / "x509" / f"{whom.name}-cert.pem")


def is_cut(handle):
    try:
        handle.pread(512, 0)
    except nbd.Error:
        return True
    return False


def wait_put_out(cluster, load):
    """beta gets nothing more of alpha's, and who writes on alpha waits for nothing."""
    load.reset_measures()
    cluster.wait_state(cluster.alpha, "broken", timeout=20)
    load.wait_progress()
    assert load.longest_latency <= PEER_TIMEOUT + 1.0
    load.assert_undisturbed()


def finish(cluster, load, stamp, offset):
    """What was written meanwhile arrives when beta may come back, and nothing is lost."""
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.verify_volume(cluster.alpha.socket())
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + len(stamp)] == stamp


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.parametrize("put_out", [retire, replace_secret])
def test_a_standby_whose_key_is_gone_on_the_active_gets_no_more_writes(make_cluster, make_load, rng,
                                                                       put_out):
    cluster = make_cluster().start_active()
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    put_out(cluster.alpha)
    wait_put_out(cluster, load)
    told = [event for event in cluster.alpha.events("key-retired-link-ended")
            if event.get("volume") == "r0"]
    assert len(told) == 1 and "beta" in told[0]["text"], told
    assert str(cluster.alpha.key_file) in told[0]["cause"], told
    assert "was ended here" in cluster.wait_event(cluster.alpha, "mirror-break")[0]["cause"]
    stamp, offset = rng.randbytes(4096), 48 * MIB
    situations.write(cluster.alpha, stamp, offset)
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + 4096] != stamp
    cluster.copy_key(cluster.alpha, cluster.beta)
    finish(cluster, load, stamp, offset)


@pytest.mark.sanitizers
@pytest.mark.parametrize("put_out", [retire, replace_secret])
def test_an_active_whose_key_is_gone_on_the_standby_is_cut_off(make_cluster, make_load, rng, put_out):
    cluster = make_cluster().start_active()
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    held = control.dial(cluster.beta)
    put_out(cluster.beta)
    wait_put_out(cluster, load)
    wait_for(lambda: is_cut(held), "the connection that was held to end")
    told = [event for event in cluster.wait_event(cluster.beta, "key-retired-link-ended")
            if "127.0.0.1" in event["text"]]
    assert len(told) == 1 and str(cluster.beta.key_file) in told[0]["cause"], told
    stamp, offset = rng.randbytes(4096), 48 * MIB
    situations.write(cluster.alpha, stamp, offset)
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + 4096] != stamp
    cluster.copy_key(cluster.beta, cluster.alpha)
    finish(cluster, load, stamp, offset)


@pytest.mark.seconds(90)
def test_a_file_of_keys_that_is_gone_for_long_takes_all_keys_along(make_cluster, make_load, rng):
    cluster = make_cluster().start_active()
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    kept = cluster.alpha.key_file.with_suffix(".kept")
    cluster.alpha.key_file.rename(kept)
    wait_for(lambda: "volume r0" in problems(cluster.alpha), "check to name the link")
    assert "existing connections are closed" in problems(cluster.alpha)
    cluster.wait_event(cluster.alpha, "key-file-unusable")
    assert cluster.alpha.state() == "in-sync"
    cluster.wait_state(cluster.alpha, "broken", timeout=90)
    assert "was removed from" in cluster.alpha.events("key-retired-link-ended")[0]["cause"]
    stamp, offset = rng.randbytes(4096), 48 * MIB
    situations.write(cluster.alpha, stamp, offset)
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + 4096] != stamp
    load.assert_undisturbed()
    kept.rename(cluster.alpha.key_file)
    finish(cluster, load, stamp, offset)


def test_a_file_of_keys_that_is_missing_for_a_moment_breaks_nothing(make_cluster, make_load):
    cluster = make_cluster().start_active()
    load = make_load([cluster.alpha.socket()]).start()
    for node in cluster.nodes:
        kept = node.key_file.with_suffix(".kept")
        node.key_file.rename(kept)  # as an editor does
        cluster.wait_event(node, "key-file-unusable")
        node.key_file.touch(0o600)
        kept.rename(node.key_file)
    wait_for(lambda: not problems(cluster.alpha), "alpha to find no problem")
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    assert cluster.alpha.state() == "in-sync"
    for node in cluster.nodes:
        assert not node.events("mirror-break") and not node.events("key-retired-link-ended")


@pytest.mark.sanitizers
@pytest.mark.parametrize("where", ["alpha", "beta"])
def test_a_revoked_certificate_ends_the_session_that_it_opened(make_cluster, make_load, rng, where):
    cluster = make_cluster(tls="x509").start_active()
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    node = getattr(cluster, where)
    revoke(cluster, node, cluster.other(node))
    wait_put_out(cluster, load)
    event = cluster.wait_event(node, "key-retired-link-ended")[0]
    assert "revoked" in event["cause"] and cluster.other(node).name in event["cause"], event
    stamp, offset = rng.randbytes(4096), 48 * MIB
    situations.write(cluster.alpha, stamp, offset)
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + 4096] != stamp
    (node.directory / "x509" / "ca-crl.pem").unlink()
    finish(cluster, load, stamp, offset)


@pytest.mark.seconds(70)
@pytest.mark.parametrize("whose", ["alpha", "beta"])
def test_a_certificate_that_expires_ends_the_session_that_it_opened(make_cluster, make_load, rng,
                                                                    whose):
    cluster = make_cluster(tls="x509")
    node = getattr(cluster, whose)
    authority = credentials.Authority.at(cluster.directory / "ca")
    authority.sign(node.directory / "x509", node.name, seconds=30 * environment.slowness())
    cluster.start_active()
    load = make_load([cluster.alpha.socket()]).start()
    cluster.wait_state(cluster.alpha, "broken", timeout=90)
    event = cluster.wait_event(cluster.other(node), "key-retired-link-ended")[0]
    assert "expired" in event["cause"], event
    stamp, offset = rng.randbytes(4096), 48 * MIB
    situations.write(cluster.alpha, stamp, offset)
    assert cluster.backing(cluster.beta).read_bytes()[offset:offset + 4096] != stamp
    load.assert_undisturbed()
    authority.sign(node.directory / "x509", node.name)
    finish(cluster, load, stamp, offset)


def test_a_file_of_keys_that_others_can_read_is_told_by_event_status_and_check(make_cluster):
    cluster = make_cluster().start_active()
    alpha = cluster.alpha
    alpha.key_file.chmod(0o644)
    cluster.wait_event(alpha, "key-file-unusable")
    warnings = " ".join(alpha.status()["warnings"])
    assert "no new connection can be accepted or made" in warnings and "chmod 600" in warnings, warnings
    checked = alpha.ctl("check", check=False)
    assert str(alpha.key_file) in checked.out
    assert "(the old one)" not in checked.out, checked.out
    alpha.key_file.chmod(0o600)
    cluster.wait(lambda: alpha.status()["warnings"] == [], "the warning to go")
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()

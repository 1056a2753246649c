# SPDX-License-Identifier: BSD-3-Clause
"""docs/status-fields.md against real answers: each field is there with its source, and nothing is
shown whose source is silent."""

import json
import re

import pytest

from lib import environment, situations

PAGE = environment.ROOT / "docs" / "status-fields.md"
ROW = re.compile(r"^\| `([\w.\[\]]+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
LITERAL = re.compile(r"`(null|\"[^\"`]*\")`")
OF_THE_OTHER = {"link", "peer"}


class Field:
    """A row of the table."""

    def __init__(self, name, active, standby, silent):
        self.name = name
        self.sources = {"active": set(re.findall(r"`(\w+)`", active)),
                        "standby": set(re.findall(r"`(\w+)`", standby))}
        self.silent = [json.loads(each) for each in LITERAL.findall(silent)]
        self.keeps = "kept" in silent or "counted" in silent or "met last" in silent


def fields():
    found = {row[0]: Field(*row) for row in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert len(found) > 50, found.keys()
    return found


def leaves(value, path=""):
    """(path, value) of all that an answer has, objects and lists included."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for member in value:
            yield from leaves(member, path + "[]")


def is_listed(path, table):
    """Or it belongs to a field that is listed as a whole."""
    parts = path.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return any(prefix in table or prefix.removesuffix("[]") in table for prefix in prefixes
               if prefix not in ("replica", "rpo", "peers[]")) or path in (
                   "replica", "rpo", "peers", "peers[]", "settings_pending[]", "warnings", "undo")


def assert_listed(volume, table):
    missing = [path for path, _ in leaves(volume) if not is_listed(path, table)]
    assert not missing, f"not in {PAGE.name}: {missing}"


def assert_silent(volume, table, silent, role):
    """`silent`: the sources that say nothing now."""
    shown = dict(leaves(volume))
    wrong = []
    for name, field in table.items():
        sources = field.sources[role]
        if name not in shown or not sources & silent or sources - silent and field.keeps:
            continue
        if field.silent and not (field.keeps and shown[name] not in (0, "")) and (
                shown[name] not in field.silent):
            wrong.append((name, shown[name], field.silent))
    assert not wrong, f"shown although {silent} say nothing: {wrong}"


@pytest.fixture(name="table")
def table_fixture():
    return fields()


def test_each_field_of_a_healthy_pair_is_in_the_table(make_cluster, table):
    cluster = situations.healthy(make_cluster)
    cluster.alpha.ctl("verify", "r0", "--wait")
    for node in cluster.nodes:
        assert_listed(node.status(), table)


def test_no_row_of_the_table_is_of_a_field_that_is_gone(make_cluster, table):
    cluster = situations.split_brain_that_keeps_the_other(make_cluster).cluster
    seen = {path for node in cluster.nodes for path, _ in leaves(node.status())}
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients")
    cluster.wait_in_sync(cluster.alpha)
    for node in cluster.nodes:
        seen |= {path for path, _ in leaves(node.status())}
    seen |= {"schema", "node", "unsupervised[]", "warnings[]", "replica.media.ranges[]"}
    pending = {name for name in table if name.startswith("settings_pending[]")}
    assert not table.keys() - seen - pending, table.keys() - seen - pending


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_of_a_peer_that_is_cut_off_nothing_is_shown_but_what_was_kept(make_cluster, table, how):
    cluster = situations.healthy(make_cluster, proxied=True)
    for proxy in cluster.proxies.values():
        getattr(proxy, how)()
    for node, role, state in ((cluster.alpha, "active", "broken"),
                              (cluster.beta, "standby", "peer-unknown")):
        cluster.wait_state(node, state)
        cluster.wait(lambda node=node: node.peer()["role"] == "unknown", "the silence to be seen")
        volume = node.status()
        assert_listed(volume, table)
        assert_silent(volume, table, OF_THE_OTHER, role)
        assert volume["rpo"] == {"seconds": None, "bytes": None}, volume["rpo"]
    situations.write(cluster.alpha, b"alone" * 1024)
    assert cluster.alpha.status()["rpo"]["bytes"] > 0


def test_of_an_engine_that_is_silent_nothing_is_shown(make_cluster, table):
    cluster = situations.healthy(make_cluster)
    engine = cluster.alpha.engine_pid()
    cluster.alpha.pause_engine()
    try:
        volume = cluster.alpha.status()
        assert volume["state"] == "failed" and "answer" in volume["why"], volume
        assert_listed(volume, table)
        assert_silent(volume, table, {"engine", "link"}, "active")
        assert volume["rpo"] == {"seconds": None, "bytes": None}, volume["rpo"]
    finally:
        situations.wake(cluster.alpha, engine)


def test_a_restarted_node_shows_nothing_of_a_peer_that_has_not_answered(make_cluster, table):
    cluster = situations.healthy(make_cluster)
    for node in cluster.nodes:
        situations.reboot(node)
    cluster.beta.start()
    volume = cluster.beta.status()
    assert volume["state"] == "peer-unknown", volume
    assert_listed(volume, table)
    assert_silent(volume, table, OF_THE_OTHER, "standby")
    assert volume["peers"][0]["last_seen"] is None
    cluster.alpha.start()
    cluster.wait(lambda: cluster.beta.peer()["role"] == "standby", "beta to hear of alpha")
    assert_listed(cluster.beta.status(), table)

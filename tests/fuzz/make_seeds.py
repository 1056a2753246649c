#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes what the fuzzers begin with: one good conversation, file or message of each kind.

tests/fuzz/make_seeds.py [CORPUS-DIRECTORY]. What a fuzzer finds is added to the corpora by hand;
nothing is removed here.
"""

import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
ID = {name: f"{number:02x}" * 16 for number, name in
      enumerate(["none", "volume", "generation", "session", "older"])}


# What a client of the NBD server says.

def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def go(name, infos=(), number=7):
    return option(number, struct.pack(">I", len(name)) + name + struct.pack(">H", len(infos)) +
                  b"".join(struct.pack(">H", each) for each in infos))


def contexts(number, name, *queries):
    return option(number, struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries)) +
                  b"".join(struct.pack(">I", len(each)) + each for each in queries))


def request(command, offset=0, length=0, flags=0, data=b"", cookie=7):
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset,
                       length or len(data)) + data


READ, WRITE, DISCONNECT, FLUSH, TRIM, ZERO, STATUS = 0, 1, 2, 3, 4, 6, 7


def crc32c(data, seed):
    """As core/base/checksum.hpp, slowly."""
    crc = ~seed & 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return ~crc & 0xffffffff


FLAGS = struct.pack(">I", 3)


def nbd_server():
    everything = (request(WRITE, 4096, data=b"x" * 512, flags=1) + request(READ, 4000, 700) +
                  request(ZERO, 0, 8192) + request(ZERO, 0, 8192, flags=2) +
                  request(TRIM, 0, 65536) + request(FLUSH) + request(STATUS, 0, 65536) +
                  request(STATUS, 0, 65536, flags=8) + request(READ, 65536, 1) +
                  request(WRITE, 65535, data=b"ab") + request(DISCONNECT))
    asked = b'{"request":"version","volume":"r0"}\0'
    return {
        "go": b"\0" + FLAGS + go(b"disk", [0, 1, 2, 3]) + everything,
        "structured": (b"\7" + FLAGS + option(3) + option(8) + contexts(9, b"disk") +
                       contexts(10, b"disk", b"base:allocation", b"other:thing") +
                       go(b"disk", [3], 6) + go(b"disk") + everything),
        "export-name": b"\x1d" + struct.pack(">I", 1) + option(1, b"disk") + everything,
        "read-only": b"\0" + FLAGS + option(8) + go(b"read-only") + everything,
        "refused": b"\0" + FLAGS + go(b"refused") + go(b"nothing") + option(5) + option(99) +
                   option(2),
        "ends": b"\0" + FLAGS + go(b"ends") + everything,
        "control": (b"\0" + FLAGS + go(b"control") + request(WRITE, data=asked) +
                    request(READ, 0, 4096) + request(WRITE, 5, data=asked)),
        "framed": (b"\0" + FLAGS + go(b"framed") + request(READ, 0, 4104) +
                   request(WRITE, 0x3A5C000000000000, data=b"MD\x46\xb1" + bytes(36))),
    }


def loop_client():
    """Bytes: negotiated, size of the pieces, habits of the disk, whether the client listens, how many
    512 bytes of zeroes behind."""
    all_kinds = (request(WRITE, 4096, data=b"x" * 512, flags=1) + request(READ, 4000, 700) +
                 request(ZERO, 0, 8192) + request(ZERO, 0, 8192, flags=2) +
                 request(TRIM, 0, 65536) + request(FLUSH) + request(STATUS, 0, 65536) +
                 request(STATUS, 0, 65536, flags=8) + request(READ, 1 << 17, 1) +
                 request(READ, 0, 100000) + request(WRITE, (1 << 17) - 1, data=b"ab"))
    return {
        "all": bytes([3, 0, 0x5a, 1, 0]) + all_kinds + request(DISCONNECT),
        "pieces": bytes([1, 13, 0xc3, 0, 0]) + all_kinds,
        "read-only": bytes([4, 200, 0xff, 1, 0]) + all_kinds + request(DISCONNECT),
        "large": bytes([0, 0, 0x0f, 1, 200]) + request(WRITE, 65536, 100 << 10),
        "deaf": bytes([3, 0, 0xa5, 0, 0]) + 40 * request(READ, 0, 65536) + request(FLUSH),
    }


def tls_server():
    """The same, in pieces through TLS, with a key and with certificates; bytes that are no TLS, in
    its place; bits that are flipped on the way."""
    words = {name: each[1:][4:] for name, each in nbd_server().items()}
    seeds = {name: b"\1\0" + each for name, each in words.items()}
    for name, kind in ("certificates", 1), ("other-name", 9), ("other-authority", 17):
        seeds[name] = bytes([1, kind]) + words["go"]
    seeds["flipped"] = b"\1\2" + struct.pack("<HB", 60, 1) + words["go"]
    seeds["plain"] = b"\0\0" + go(b"disk") + request(READ, 0, 512)
    seeds["record"] = b"\0\0" + b"\x16\3\3\0\x20" + bytes(32)
    return seeds


# What a server says to a client.

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)


def option_reply(kind, data=b"", number=7):
    return struct.pack(">QIII", 0x3e889045565a9, number, kind, len(data)) + data


def opened(size=1 << 20, flags=1):
    return (option_reply(3, struct.pack(">HQH", 0, size, flags)) +
            option_reply(3, struct.pack(">HIII", 3, 1, 4096, 32 << 20)) + option_reply(1))


def client_handshake():
    """Bytes: what of TLS, how many flips and whose certificate; size of the pieces; the flips."""
    flip = struct.pack("<HB", 70, 1)
    refusals = {name: option_reply(0x80000000 + number) for number, name in
                enumerate(["unsupported", "policy", "invalid", "platform", "tls", "unknown"], 1)}
    seeds = {f"refused-{name}": b"\0\0" + GREETING + words for name, words in refusals.items()}
    return seeds | {
        "plain": b"\0\5" + GREETING + opened(),
        "no-size": b"\0\0" + GREETING + option_reply(1),
        "endless": b"\0\0" + GREETING + 50 * option_reply(3, b"\0\1"),
        "refuses-tls": b"\1\0" + GREETING + option_reply(0x80000001, number=5) + opened(),
        "no-tls": b"\1\0" + GREETING + option_reply(1, number=5) + b"\x16\3\3\0\x20" + bytes(32),
        "key": b"\2\1" + opened(),
        **{name: bytes([kind, 1]) + opened() for name, kind in
           [("certificates", 3), ("other-name", 19), ("other-authority", 35)]},
        "flipped": b"\6\1" + flip + opened(),
        "flipped-certificates": b"\7\1" + flip + opened()}


def answers():
    """Bytes: framed, with TLS; transmission flags. Then what happens; a request: offset / 4, flags, length; an answer:
    how many are skipped, the error."""
    def ask(verb, offset, length, flags=0):
        return bytes([verb]) + struct.pack("<HBH", offset // 4, flags, length)

    flush, batch, good = ask(3, 0, 0), b"\4", b"\5\0\0"
    each = ask(0, 4096, 512) + ask(1, 8192, 4096, 1) + ask(2, 0, 4096, 2) + flush
    large = ask(1, 4096, 100, 4) + ask(0, 4096, 100, 4) + 3 * good
    wrong = ask(0, 0, 512) + b"\7" + struct.pack("<HBHB", 1000, 1, 30, 1)
    whole = (each + 4 * good + large + batch + each + batch + good + b"\5\2\5" + 2 * good +
             ask(0, 260000, 60000) + ask(1, 0, 0))
    return {name: bytes([kind, 0x6d]) + words for kind, mode in enumerate(["", "-framed", "-tls", "-both"])
            for name, words in {"good" + mode: whole, "wrong" + mode: whole + wrong + each,
                                "deaf" + mode: 12 * ask(1, 0, 60000, 4) + 30 * good,
                                "nonsense" + mode: each + b"\x08\0\x20" + bytes(32),
                                "past" + mode: each + b"\x08\1\x20" + bytes(32)}.items()}


def link():
    """Parts, each when the client has said something."""
    def parts(*words):
        return b"".join(struct.pack("<H", len(each)) + each for each in words)

    def answer(text, seed):
        body = json.dumps(text, separators=(",", ":")).encode()
        return body + b"\0mdcrc32c" + struct.pack(">I", crc32c(body, seed))

    def simple(cookie, error=0, data=b""):
        return struct.pack(">IIQ", 0x67446698, error, cookie) + data

    request_sum = crc32c(b'{"request":"version"}', 0)
    good = answer({"node": "alpha", "ok": True, "protocol": 3, "version": "0.1.0"}, request_sum)
    refused = answer({"ok": False, "error": {"kind": "refused", "message": "not now",
                                             "remedy": "later"}}, request_sum)
    long = answer({"ok": True, "words": "x" * 9000}, request_sum)
    begun = [GREETING, opened(), simple(1)]

    def read(cookie, data):
        return simple(cookie, data=data.ljust(8192, b"\0"))

    return {"answer": parts(*begun, read(2, good), simple(3), read(4, refused)),
            "long": parts(*begun, simple(2, data=long[:8192]),
                          simple(3, data=long[8192:].ljust((1 << 20) - 8192, b"\0")[:60000])),
            "no-sum": parts(*begun, read(2, b'{"ok":true}')),
            "no-object": parts(*begun, read(2, answer([1], request_sum))),
            "failure": parts(GREETING, opened(), simple(1, 22)),
            "at-once": parts(GREETING + opened() + simple(1) + simple(2, 5)),
            "refusal": parts(GREETING, option_reply(0x80000002, b"not for you")),
            "oldstyle": parts(b"NBDMAGIC" + struct.pack(">QQI", 0x420281861253, 1 << 20, 0) +
                              bytes(124))}


# Control messages.

def generation(number, parent, reason, node="alpha"):
    return {"id": f"{number:02x}" * 16, "parent": f"{parent:02x}" * 16, "node": node,
            "began": "2026-03-01T12:30:05.250Z", "reason": reason}


def summary(**changes):
    return {"node": "alpha", "volume_id": ID["volume"], "size_bytes": 3 << 20, "role": "active",
            "state": "up-to-date", "unclean": True, "last_active": True,
            "lineage": [generation(4, 2, "peer-lost"), generation(2, 0, "created")],
            "session": ID["session"], "session_begun": ID["none"], "intent_bytes": 1 << 20,
            "changed_bytes": 4096, "last_update": "2026-03-01T12:30:05Z", "break_at": None,
            "steps": {"taken": 12, "offered": 13, "content": 12, "maps_from": 11}, **changes}


def record():
    return {"volume": ID["volume"], "size_bytes": 3 << 20, "state": "running", "source": "alpha",
            "repair": True, "rate": 65536, "started_at": "2026-03-01T12:30:05Z",
            "position_bytes": 1 << 20, "mismatched_bytes": 8192, "repaired_bytes": 4096,
            "ranges": [{"offset": 4096, "length": 8192, "unreadable": False, "repaired": True}],
            "unlisted_ranges": 0, "last_finished": None, "last_mismatched_bytes": 0,
            "last_repaired_bytes": 0}


def settings():
    return {"size": "3145728", "mode": "sync", "device": "", "peer_timeout": "5000ms",
            "on_peer_loss": "continue", "backing.alpha": "/b", "backing.beta": "/b",
            "address.alpha": "127.0.0.1:1", "address.beta": "127.0.0.1:2"}


def peer_status():
    return {"node": "beta", "version": "0.1.0", "protocol": 3, "time": "2026-03-01T12:30:05Z",
            "settings": {"r0": settings()},
            "volumes": {"r0": {"summary": summary(node="beta", role="standby"), "role": "standby",
                               "state": "in-sync", "why": "all is well", "behind_bytes": 0,
                               "engine_running": False, "resync": {"done_bytes": 1}}}}


def messages():
    return {
        "summary": summary(),
        "yields": summary(yields_to=ID["older"], lacking_bytes=4096, role="standby"),
        "failed": summary(state="failed", lineage=[generation(4, 2, "local-disk-failed"),
                                                   generation(2, 0, "created")]),
        "fresh": summary(state="new", role="standby", session=ID["none"], intent_bytes=0),
        "inconsistent": summary(state="inconsistent", role="standby", lacking_bytes=1 << 20),
        "beginning": summary(session_begun=ID["older"]),
        "agree": {"request": "agree", "volume": "r0", "node": "alpha", "summary": summary()},
        "peer-status": peer_status(),
        "record": record(),
        "regions": {"request": "differing-regions", "volume": "r0", "from": 1,
                    "runs": [[0, 2], [3, 4]], "next": 3},
        "digests": {"request": "block-digests", "volume": "r0", "key": ID["session"],
                    "regions": [0, 1], "digests": ["0" * 32 * 256, "1" * 32]},
        "error": {"ok": False, "error": {"kind": "refused", "message": "no", "remedy": "ask"}},
    }


def in_a_mailbox(lead):
    return {name: lead + json.dumps(each).encode() for name, each in messages().items()}


def peer_requests():
    def ask(name, **fields):
        return json.dumps({"request": name, "volume": "r0", **fields}).encode() + b"\0"

    session = {"session": ID["session"]}
    begin = ask("session-begin", source="alpha", resync=True, step=13, **session)
    name = ID["session"].encode()
    exports = b"".join(b">r0" + each + b"\0" for each in
                       [b"@" + name, b"/digest@" + name, b"/frames@" + name, b"/changes",
                        b"/frames/changes", b"/frames/digest@" + name])
    lineage = [generation(4, 2, "peer-lost"), generation(2, 0, "created")]
    return {
        "session": (ask("peer-status", protocol=3) +
                    ask("handshake", protocol=3, settings=settings(), summary=summary()) +
                    ask("handshake", protocol=3, settings="ours", summary=summary()) + begin +
                    exports + ask("generation", lineage=lineage, **session) +
                    ask("verify-record", record=record(), **session) +
                    ask("session-synced", lineage=lineage, step=13, **session) +
                    ask("session-step", step=14, **session) +
                    ask("session-end", reason="disconnect", **session)),
        "demote": begin + ask("session-end", reason="demote", **session),
        "handshakes": b"".join(ask("handshake", protocol=3, settings="ours", summary=each)
                               for each in [summary(role="standby"), summary(node="gamma"),
                                            summary(lineage=[generation(3, 0, "created")]),
                                            summary(size_bytes=1 << 20), summary(state="failed")]),
        "incomplete": (begin + ask("session-incomplete", lacking_bytes=4096, why="a bad disk",
                                   **session) + ask("agree", node="alpha", summary=summary())),
        "resolve": (ask("resolve-agree", node="alpha", generation=ID["older"]) +
                    ask("differing-regions") +
                    ask("block-digests", key=ID["session"], regions=[0, 1, 2])),
        "exports": begin + exports + b">control\0>other@x\0>r0@\0",
        "local": ask("status") + ask("create") + ask("switch", to="alpha") + ask("undo-drop"),
    }


# What is shown.

def status():
    volume = {"name": "r0", "role": "active", "state": "broken", "since": "2026-03-01T12:30:05Z",
              "why": "beta did not answer within 5.0 s.", "mode": "sync", "size_bytes": 10 << 30,
              "generation": ID["generation"], "device": "/dev/nbd0",
              "replica": {"state": "up-to-date", "backing": "/srv/r0.img", "media_errors": 1},
              "peers": [{"node": "beta", "link": "down", "role": "standby",
                         "replica_state": "stale", "behind_bytes": 4096,
                         "last_seen": "2026-03-01T12:33:00Z", "break_at": "2026-03-01T12:30:05Z",
                         "verify": record(),
                         "incomplete": {"bytes": 4096, "unlisted_ranges": 0, "cause": "a disk",
                                        "ranges": [{"offset_bytes": 8192, "length_bytes": 4096}]},
                         "resync": {"done_bytes": 1, "total_bytes": 2, "bytes_per_second": 1,
                                    "eta_seconds": 1}}],
              "rpo": {"seconds": 0, "bytes": 0}, "rto": {"seconds": 1.4, "phases": {"a": 0.2}}}
    side = {"node": "alpha", "role": "active", "replica_state": "up-to-date",
            "break_at": "2026-03-01T12:30:05Z", "last_write_at": "2026-03-01T12:31:05Z",
            "changed_bytes": 4096, "may_differ_bytes": 1 << 20,
            "lineage": [{"began_at": "2026-03-01T12:30:05Z", "words": "went on without beta"}] * 7}
    evidence = {"here": side, "there": {**side, "node": "beta", "last_write_at": None},
                "clock_skew_seconds": -90.5,
                "ancestor": {"generation": ID["older"], "words": "made",
                             "began_at": "2026-03-01T12:30:05Z"}}
    media = {"read_errors": 1, "write_errors": 2, "timeouts": 1, "repaired": 1,
             "ranges": [{"operation": "read", "offset_bytes": 4096, "length_bytes": 512,
                         "action": "peer told", "last": "2026-03-01T12:30:05Z"}]}
    peer = volume["peers"][0]
    split = {**volume, "state": "split-brain", "peers": [{**peer, "split_brain": evidence}],
             "replica": {**volume["replica"], "media": media},
             "undo": [{"id": "x", "saved_bytes": 4096, "made_at": "2026-03-01T12:30:05Z"}]}
    compared = {name: {**volume, "peers": [{**peer, "verify": {**record(), **changes}}]}
                for name, changes in {
                    "stopped": {"state": "stopped"}, "paused": {"state": "waiting"},
                    "finished": {"state": "finished", "repaired_bytes": 0,
                                 "last_finished": "2026-03-01T12:30:05Z",
                                 "last_mismatched_bytes": 8192,
                                 "ranges": [{"offset": 4096 * i, "length": 4096, "repaired": False,
                                             "unreadable": i == 3} for i in range(20)]},
                    "equal": {"state": "finished", "mismatched_bytes": 0}}.items()}
    whole = {"schema": 1, "node": "alpha", "volumes": [volume, {**volume, "name": "r1"}]}
    return {"volume": b"\x50" + json.dumps(volume).encode(),
            "split-brain": b"\x50" + json.dumps(split).encode(),
            **{name: b"\x50" + json.dumps(each).encode() for name, each in compared.items()},
            "status": b"\x50" + json.dumps(whole).encode()}


# Files.

CONFIG = b"""control_group = "mirror"
tls = "x509"
x509_dir = "/etc/mirrordisk/x509"
psk_file = "/etc/mirrordisk/cluster.psk"
i_know_this_network_is_private = false
[node.alpha]
address = "10.0.0.1:10809"
run_dir = "/run/a"
[node.beta]
address = "[fe80::1]:10809"
[volume.r0]
size = "10GiB"
mode = "sync"
device = "/dev/nbd0"
mount = "/srv/data"
mount_options = "noatime"
io_group = "kvm"
active_at_boot = "alpha"
hook_timeout = "60s"
peer_timeout = "250ms"
on_peer_loss = "stop"
verify_rate = "64MiB"
disk_timeout = "20s"
backing.alpha = "/srv/r0.img"
backing.beta = "/dev/vg0/r0"
"""


def patched(*patches):
    """An offset of two bytes, a length of one, and that many bytes."""
    return b"".join(struct.pack("<HB", at, len(data)) + data for at, data in patches)


def metadata():
    def patches(*each):
        return b"".join(struct.pack("<BHB", part, at, len(data)) + data for part, at, data in each)

    size = struct.pack("<Q", 1 << 40)
    return {"good": b"\0\0", "larger": b"\1\0" + patches((0, 40, size), (1, 40, size)),
            "map": b"\1\0" + patches((2, 16, b"\xff" * 40), (2, 4096, b"\xff" * 200)),
            "torn": b"\0\0" + patches((2, 100, b"\xff"), (0, 100, b"\xff")), "short": b"\0\5"}


def frames():
    header = b"\0\0" + b"\1\0" + struct.pack("<I", 4096) + b"\1"
    write = b"\0" + struct.pack("<H", 100) + b"d" * 100 + header
    return {"good": write + b"\1" + write + b"\0" + b"\2" + struct.pack("<HI", 4104, 0),
            "raw": b"\0" + struct.pack("<H", 4) + b"data" + b"\1" + b"MDF\xb1" + bytes(36) + b"\1",
            "others": b"\3" + bytes(8) + struct.pack("<H", 3) + b"abc" + b"\4" + bytes(12) + b"\5"}


EVENT = {"time": "2026-03-01T12:30:05.250Z", "node": "alpha", "volume": "r0", "id": "mirror-break",
         "severity": "warning", "text": "it broke", "cause": "a cable", "remedy": "look at it"}


def corpora():
    text = json.dumps(record()).encode()
    return {
        "answers": answers(),
        "change_map": {"some": struct.pack("<H", 100) + b"\x0c" + b"\xff\0\x81" * 5},
        "client_handshake": client_handshake(),
        "config": {"full": CONFIG, "empty": b"", "broken": b"[node.alpha\naddress=5",
                   "open": CONFIG.replace(b'"x509"', b'"off"'),
                   "same-paths": CONFIG + CONFIG[CONFIG.index(b"[volume"):].replace(b"r0]", b"r1]"),
                   "names": CONFIG.replace(b"r0]", b"r0.express]"),
                   "values": CONFIG.replace(b'"64MiB"', b"-5").replace(b'"noatime"', b'"a b"')},
        "control_reply": in_a_mailbox(bytes(4)),
        "control_request": in_a_mailbox(b"\1"),
        "frames": frames(),
        "link": link(),
        "metadata": metadata(),
        "nbd_server": nbd_server(),
        "peer_requests": peer_requests(),
        "psk_file": {"one": b"# comment\nkey-1:" + b"a5" * 32 + b"\n",
                     "two": b"a:" + b"00" * 16 + b"\nb:" + b"FF" * 64 + b"\n",
                     "broken": b"name\nx:zz\n"},
        "small_files": {"events": json.dumps(EVENT).encode() + b"\nno json\n",
                        "rto": b'{"seconds":1.4,"phases":{"engine":0.3}}\n'},
        "status_view": status(),
        "superblock": {"good": b"\0", "changed": b"\1" + patched((16, b"\x2b"), (48, b"\1\2\3\5")),
                       "damaged": b"\0" + patched((100, b"\xff"))},
        "loop_client": loop_client(),
        "tls_server": tls_server(),
        "undo_file": {"good": b"\0\0", "map": b"\1\0" + patched((10096, b"\1"), (10112, b"\xff" * 9)),
                      "short": b"\1\1"},
        "verify_record": {"good": b"\1" + text, "damaged": b"\0" + text},
    }


def main(arguments):
    root = pathlib.Path(arguments[0]) if arguments else HERE / "corpus"
    for target, seeds in corpora().items():
        folder = root / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1:])

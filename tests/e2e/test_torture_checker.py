# SPDX-License-Identifier: BSD-3-Clause
"""The torture program's own judgement: it accepts what is legal and finds what is not."""

import pathlib
import random
import struct
import sys

import pytest

from lib import environment

sys.path.append(str(environment.ROOT / "tests" / "torture"))

# pylint: disable=wrong-import-position
import checker  # noqa: E402
import excuses  # noqa: E402
import layout  # noqa: E402
import metafile  # noqa: E402
import plan  # noqa: E402
import registry  # noqa: E402
import stamps  # noqa: E402
from record import Record  # noqa: E402

pytestmark = pytest.mark.without_build
SEED = 7
SECTORS = 256


class Disk:
    """A replica in memory, and a record of what was written to it."""

    def __init__(self):
        self.record = Record(SEED, SECTORS)
        self.data = bytearray(SECTORS * stamps.SECTOR)
        self.counter = 0

    def submit(self, first, count, zero=False):
        self.counter += 1
        return self.record.submit((1, self.counter), first, count, zero)

    def apply(self, write):
        size = write.count * stamps.SECTOR
        begin = write.first * stamps.SECTOR
        self.data[begin:begin + size] = bytes(size) if write.zero else stamps.make(
            SEED, *write.name, write.first, write.count)

    def write(self, first, count, zero=False):
        write = self.submit(first, count, zero)
        self.apply(write)
        self.record.end(write, answered=True)
        return write

    def complaints(self, settle=False):
        found = []
        for sector in range(SECTORS):
            data = bytes(self.data[sector * stamps.SECTOR:(sector + 1) * stamps.SECTOR])
            complaint = self.record.complaint(sector, data, settle)
            if complaint:
                found.append(complaint)
        return found


@pytest.fixture
def disk():
    return Disk()


def test_what_was_answered_is_what_has_to_be_there(disk):
    disk.write(0, 8)
    disk.write(4, 8)
    disk.write(100, 1, zero=True)
    assert not disk.complaints()


def test_an_answered_write_that_is_missing_is_found(disk):
    disk.write(0, 8)
    before = bytes(disk.data)
    disk.write(2, 2)
    disk.data[:] = before
    complaints = disk.complaints()
    assert len(complaints) == 2
    assert "sector 2 holds write 1" in complaints[0] and "write 2" in complaints[0]


def test_a_lost_zero_request_and_a_lost_first_write_are_found(disk):
    disk.write(0, 1)
    before = bytes(disk.data)
    disk.write(0, 1, zero=True)
    disk.write(9, 1)
    disk.data[:] = before
    assert len(disk.complaints()) == 2


def test_a_write_without_an_answer_may_be_there_or_not(disk):
    disk.write(0, 1)
    lost = disk.submit(0, 1)
    assert not disk.complaints()
    disk.record.end(lost, answered=False)
    assert not disk.complaints()
    disk.apply(lost)
    assert not disk.complaints()


def test_once_seen_it_has_to_stay(disk):
    disk.write(0, 1)
    before = bytes(disk.data)
    lost = disk.submit(0, 1)
    disk.record.end(lost, answered=False)
    disk.apply(lost)
    assert not disk.complaints(settle=True)
    disk.data[:] = before
    assert len(disk.complaints()) == 1


def test_a_lost_write_that_comes_after_a_later_answered_one_is_found(disk):
    lost = disk.submit(0, 1)
    disk.record.end(lost, answered=False)
    disk.write(0, 1)
    disk.apply(lost)
    assert len(disk.complaints()) == 1


def test_of_two_writes_in_flight_together_either_may_be_last(disk):
    one, other = disk.submit(0, 4), disk.submit(2, 4)
    for write in (one, other):
        disk.apply(write)
        disk.record.end(write, answered=True)
    assert not disk.complaints()
    disk.apply(one)
    assert not disk.complaints()


def test_torn_foreign_and_displaced_sectors_are_found(disk):
    disk.write(0, 3)
    disk.data[600] ^= 1
    disk.data[0:512] = disk.data[1024:1536]
    disk.data[2000:2010] = b"not a test"
    complaints = "\n".join(disk.complaints())
    assert "sector 0 holds sector 2" in complaints
    assert "sector 1 is torn" in complaints
    assert "sector 3 is nobody's write" in complaints


def test_a_named_loss_covers_what_began_after_the_break_and_nothing_else(disk):
    disk.write(0, 1)
    before = bytes(disk.data)
    disk.record.expect_loss()
    between = disk.submit(1, 1)
    broken = disk.record.tick()
    disk.record.end(between, answered=True)
    disk.write(2, 1)
    disk.write(0, 1)
    disk.data[:] = before
    assert disk.record.accept_loss(broken) == 2
    assert not disk.complaints()
    disk.apply(between)
    assert not disk.complaints()
    # What was given up must not come back, and what was answered before must be there.
    disk.data[512 * 2:512 * 3] = stamps.make(SEED, 1, 3, 2, 1)
    disk.data[0:512] = bytes(512)
    assert len(disk.complaints()) == 2


def test_replicas_that_differ_are_named_by_sector(tmp_path):
    left, right = tmp_path / "left", tmp_path / "right"
    data = bytearray(1024 * 1024)
    left.write_bytes(data)
    data[512 * 130] = data[512 * 131] = data[-1] = 1
    right.write_bytes(data)
    assert checker.differences(left, right) == [
        "the replicas differ in sectors 130 to 131", "the replicas differ in sectors 2047 to 2047"]


def test_the_same_seed_gives_the_same_moves():
    moves = list(registry.all_moves().values())
    one, other = plan.Plan(3, moves), plan.Plan(3, list(reversed(moves)))
    rounds = [str(one.round(number)) for number in range(50)]
    assert [str(other.round(number)) for number in range(50)] == rounds
    first = one.round(7).moves[0].draw.random()
    assert other.round(7).moves[0].draw.random() == first
    different = plan.Plan(4, moves)
    assert [str(different.round(number)) for number in range(50)] != rounds
    assert {move.name for move in moves} == {
        planned.move.name for number in range(200) for planned in one.round(number).moves}


def test_the_same_seed_gives_the_same_arena_and_all_kinds_come_up():
    layouts = [layout.draw_layout(seed) for seed in range(100)]
    assert layouts == [layout.draw_layout(seed) for seed in range(100)]
    assert {drawn.disk_timeout > 0 for drawn in layouts} == {False, True}
    assert {drawn.faulty for drawn in layouts} == {("alpha",), ("beta",), ("alpha", "beta")}
    assert "hang and fail: none" in str(layouts[0].without_faulty_disks())


def superblock(sequence, *reasons):
    """A slot with a generation for each reason; the ids are their numbers in it."""
    slot = bytearray(metafile.SLOT)
    slot[:24] = struct.pack("<8sIIQ", b"MIRRDSK1", 1, 0, sequence)
    slot[51] = len(reasons)
    for number, reason in enumerate(reasons):
        at = 512 + 112 * number
        slot[at:at + 16] = bytes([number]) * 16
        slot[at + 40] = reason
    return bytes(slot)


@pytest.mark.parametrize("newest", [0, 1])
def test_only_the_slot_that_an_update_would_have_gone_to_is_torn(tmp_path, newest):
    slots = [superblock(8 + (number == newest), 0, 4) for number in (0, 1)]
    path = tmp_path / "meta"
    for number in range(100):
        path.write_bytes(b"".join(slots))
        metafile.MetaFile(path).tear(random.Random(number))
        data = path.read_bytes()
        torn = data[:metafile.SLOT], data[metafile.SLOT:]
        assert torn[newest] == slots[newest]
        assert torn[1 - newest] != slots[1 - newest]
        assert struct.unpack_from("<Q", torn[1 - newest], 16)[0] == 10


def test_only_the_maps_are_garbled(tmp_path):
    path = tmp_path / "meta"
    path.write_bytes(bytes(metafile.MAPS_AT + 64 * metafile.SECTOR))
    metafile.MetaFile(path).garble_maps(random.Random(1))
    data = path.read_bytes()
    assert len(data) == metafile.MAPS_AT + 64 * metafile.SECTOR
    assert not any(data[:metafile.MAPS_AT]) and any(data[metafile.MAPS_AT:])


class FakeNode:
    def __init__(self, directory):
        self.name = directory.name
        self.told = []
        self.running = True
        self.media_errors = 0
        self._meta = directory / "meta"
        directory.mkdir()
        self.replace_meta(0)

    def replace_meta(self, *reasons):
        self._meta.write_bytes(superblock(1) + superblock(2, *reasons))

    def events(self):
        return [{"id": name} for name in self.told]

    def is_running(self):
        return self.running

    def status(self):
        assert self.running
        return {"replica": {"media_errors": self.media_errors}}

    def meta(self):
        return self._meta


class FakeArena:
    def __init__(self, directory):
        self.nodes = [FakeNode(directory / name) for name in ("alpha", "beta")]


def test_errors_are_excused_only_when_a_disk_failed_and_the_mirror_was_broken(tmp_path):
    arena = FakeArena(tmp_path)
    judge = excuses.Excuses(arena)
    judge.forget()
    assert not judge.no_copy_was_left()
    arena.nodes[0].told.append("mirror-break")
    assert not judge.no_copy_was_left()
    arena.nodes[1].told.append("local-disk-failed")
    assert judge.no_copy_was_left()
    judge.forget()
    assert not judge.no_copy_was_left()
    arena.nodes[0].told.append("media-error")
    assert not judge.no_copy_was_left()


def test_a_disk_error_without_an_event_of_its_own_is_an_excuse(tmp_path):
    arena = FakeArena(tmp_path)
    arena.nodes[1].running = False
    judge = excuses.Excuses(arena)
    judge.forget()
    arena.nodes[0].told.append("mirror-break")
    assert not judge.no_copy_was_left()
    arena.nodes[0].media_errors = 1
    assert judge.no_copy_was_left()
    judge.forget()
    arena.nodes[0].told.append("mirror-break")
    assert not judge.no_copy_was_left()


def test_a_standby_has_the_say_only_after_the_active_told_it_of_its_disk(tmp_path):
    arena = FakeArena(tmp_path)
    heir = arena.nodes[1]
    judge = excuses.Excuses(arena)
    judge.forget()
    assert not judge.has_the_say(heir)
    heir.replace_meta(4, 0)
    assert judge.has_the_say(heir)
    judge.forget()
    assert not judge.has_the_say(heir)


def test_every_module_of_moves_is_known():
    text = pathlib.Path(registry.__file__).read_text(encoding="utf-8")
    for path in pathlib.Path(registry.__file__).parent.glob("moves_*.py"):
        assert f"import {path.stem}" in text, f"{path.name} is not imported in all_moves()"

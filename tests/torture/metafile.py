# SPDX-License-Identifier: BSD-3-Clause
"""A replica's metadata file, as docs/design.md and core/meta/superblock.cpp lay it out."""

import struct

SLOT = 8192
MAPS_AT = 65536
SECTOR = 512
_MAGIC = b"MIRRDSK1"
_SEQUENCE = struct.Struct("<Q")
_SEQUENCE_AT = 16
_LINEAGE_AT, _GENERATION, _ID, _REASON_AT = 512, 112, 16, 40
_COUNT_AT = 51
_LOCAL_DISK_FAILED = 4


class MetaFile:
    """`path` may be in use by a node, except for tear() and garble_maps()."""

    def __init__(self, path):
        self._path = path

    def failed_disks(self):
        """The ids of the generations that began when an active's replica was left out."""
        slot = max(self._slots(), key=_sequence)
        entries = [slot[_LINEAGE_AT + number * _GENERATION:][:_GENERATION]
                   for number in range(slot[_COUNT_AT])]
        return {entry[:_ID] for entry in entries if entry[_REASON_AT] == _LOCAL_DISK_FAILED}

    def tear(self, draw):
        """The next update of the superblock got so far, and no farther, when the node died."""
        slots = self._slots()
        newest = max((0, 1), key=lambda number: _sequence(slots[number]))
        torn = bytearray(slots[newest])
        _SEQUENCE.pack_into(torn, _SEQUENCE_AT, _sequence(torn) + 1)
        sectors = [number for number in range(SLOT // SECTOR) if draw.random() < 0.5]
        self._write([((1 - newest) * SLOT + number * SECTOR,
                      bytes(torn[number * SECTOR:][:SECTOR])) for number in {0, *sectors}])

    def garble_maps(self, draw):
        """Sectors of its maps are nobody's any more."""
        size = self._path.stat().st_size
        self._write([(at, draw.randbytes(SECTOR)) for at in range(MAPS_AT, size, SECTOR)
                     if draw.random() < 0.5])

    def _slots(self):
        with open(self._path, "rb") as file:
            data = file.read(2 * SLOT)
        return data[:SLOT], data[SLOT:]

    def _write(self, pieces):
        with open(self._path, "r+b") as file:
            for at, data in pieces:
                file.seek(at)
                file.write(data)


def _sequence(slot):
    return _SEQUENCE.unpack_from(slot, _SEQUENCE_AT)[0] if slot.startswith(_MAGIC) else 0

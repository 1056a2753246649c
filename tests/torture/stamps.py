# SPDX-License-Identifier: BSD-3-Clause
"""What every written sector says of itself: seed, writer, number of the write, place, CRC."""

import hashlib
import struct
import zlib

SECTOR = 512
ZEROES = bytes(SECTOR)
_HEADER = struct.Struct("<8sQIIQ")
_MAGIC = b"mirrtort"
_CRC = struct.Struct("<I")
_FILLER = SECTOR - _HEADER.size - _CRC.size


def make(seed, writer, counter, first, count):
    """The data of one write of `count` sectors from sector `first` on."""
    # The filler differs from write to write, so that a mixture of two fails its checksum.
    filler = hashlib.shake_128(struct.pack("<QIQ", seed, writer, counter)).digest(_FILLER)
    data = bytearray()
    for sector in range(first, first + count):
        body = _HEADER.pack(_MAGIC, seed, writer, sector & 0xFFFFFFFF, counter) + filler
        data += body
        data += _CRC.pack(zlib.crc32(body))
    return data


def parse(data, seed, sector):
    """(writer, counter) of a sector, None for zeroes; ValueError says what is wrong with it."""
    if data == ZEROES:
        return None
    magic, found_seed, writer, found_sector, counter = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"is nobody's write: {bytes(data[:16]).hex()}…")
    if (found_seed, found_sector) != (seed, sector):
        raise ValueError(f"holds sector {found_sector} of seed {found_seed}")
    if _CRC.pack(zlib.crc32(data[:-_CRC.size])) != bytes(data[-_CRC.size:]):
        raise ValueError(f"is torn: its header names write {counter} of writer {writer}")
    return writer, counter

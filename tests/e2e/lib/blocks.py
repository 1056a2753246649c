# SPDX-License-Identifier: BSD-3-Clause
"""Blocks that say what they are: seed, number, version, and a checksum over all of it."""

import hashlib
import struct
import zlib

SIZE = 4096
_HEADER = struct.Struct("<8sQQQ")
_MAGIC = b"mirrblk1"
_ZEROES = bytes(SIZE)


def make(seed, number, version):
    header = _HEADER.pack(_MAGIC, seed, number, version)
    filler = hashlib.blake2b(header, digest_size=64).digest()
    body = (header + filler * (SIZE // len(filler)))[:SIZE - 4]
    return body + struct.pack("<I", zlib.crc32(body))


def parse(data, seed, number):
    """The version in a block, 0 for zeroes; ValueError says what is wrong with it."""
    if data == _ZEROES:
        return 0
    magic, found_seed, found_number, version = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"is not a block of the test: {bytes(data[:16]).hex()}…")
    if (found_seed, found_number) != (seed, number):
        raise ValueError(f"holds block {found_number} of seed {found_seed}")
    if data != make(seed, number, version):
        raise ValueError(f"is torn: its header says version {version}")
    return version


class Ledger:
    """What may be in each block: the versions that were submitted, answered and flushed.

    Only one version of a block is in flight at a time, so a block holds a version that is not
    older than the last answered one and not newer than the last submitted one. A version that was
    a zero write is known by its number, since zeroes carry none.
    """

    def __init__(self, seed, count, first=0):
        self.seed = seed
        self.first = first
        self.count = count
        self.submitted = [0] * count
        self.answered = [0] * count
        self.flushed = [0] * count
        self._zero_versions = {}

    def submit(self, number, zero):
        index = number - self.first
        self.submitted[index] += 1
        version = self.submitted[index]
        if zero:
            self._zero_versions.setdefault(index, set()).add(version)
        return version

    def answer(self, number, version):
        self.answered[number - self.first] = version

    def allowed(self, number):
        index = number - self.first
        return range(self.answered[index], self.submitted[index] + 1)

    def _may_be_zero(self, index):
        if self.answered[index] == 0:
            return 0
        zeroes = [version for version in self._zero_versions.get(index, ())
                  if version >= self.answered[index]]
        return max(zeroes, default=None)

    def verify(self, read, settle=True):
        """Checks every block that `read(offset, size)` gives; returns a list of complaints.

        With `settle`, what was found is from now on the least that must be found: an answer that
        never came is decided by the first who looks.
        """
        complaints = []
        step = 256
        for start in range(0, self.count, step):
            many = min(step, self.count - start)
            data = memoryview(read((self.first + start) * SIZE, many * SIZE))
            for index in range(start, start + many):
                block = data[(index - start) * SIZE:(index - start + 1) * SIZE]
                complaint = self._verify_block(index, bytes(block), settle)
                if complaint:
                    complaints.append(complaint)
        return complaints

    def _verify_block(self, index, block, settle):
        number = self.first + index
        expected = f"versions {self.answered[index]} to {self.submitted[index]} may be there"
        try:
            version = parse(block, self.seed, number)
        except ValueError as error:
            return f"block {number} {error}; {expected}"
        if version == 0:
            version = self._may_be_zero(index)
            if version is None:
                return f"block {number} is zero; {expected}"
        elif not self.answered[index] <= version <= self.submitted[index]:
            return f"block {number} holds version {version}; {expected}"
        if settle:
            self.answered[index] = version
        return None


def file_reader(path):
    """A `read` for verify() on a backing file."""
    def read(offset, size):
        with open(path, "rb") as image:
            image.seek(offset)
            return image.read(size)
    return read

# SPDX-License-Identifier: BSD-3-Clause
"""Compares both replicas byte by byte, and what they hold with the record."""

import stamps

CHUNK = 64 * 1024
MOST = 10  # complaints worth reading


def image_complaints(record, path, settle):
    """What is wrong with a replica; the load must be paused."""
    complaints = []
    zeroes = bytes(stamps.SECTOR)
    with open(path, "rb") as image:
        for sector in range(record.sectors):
            if sector % (CHUNK // stamps.SECTOR) == 0:
                chunk = image.read(CHUNK)
            offset = sector * stamps.SECTOR % CHUNK
            data = chunk[offset:offset + stamps.SECTOR] or zeroes
            complaint = record.complaint(sector, data, settle)
            if complaint:
                complaints.append(f"{path.parent.name}: {complaint}")
    return _few(complaints)


def differences(left, right):
    """Where two replicas differ, as ranges of sectors."""
    ranges = []
    with open(left, "rb") as one, open(right, "rb") as other:
        start = 0
        while True:
            first, second = one.read(CHUNK), other.read(CHUNK)
            if not first and not second:
                break
            if first != second:
                _add_differences(ranges, start, first, second)
            start += CHUNK // stamps.SECTOR
    return _few([f"the replicas differ in sectors {first} to {last}" for first, last in ranges])


def _add_differences(ranges, start, first, second):
    for index in range(CHUNK // stamps.SECTOR):
        part = slice(index * stamps.SECTOR, (index + 1) * stamps.SECTOR)
        if first[part] == second[part]:
            continue
        if ranges and ranges[-1][1] == start + index - 1:
            ranges[-1][1] = start + index
        else:
            ranges.append([start + index, start + index])


def _few(complaints):
    if len(complaints) <= MOST:
        return complaints
    return complaints[:MOST] + [f"… and {len(complaints) - MOST} more"]

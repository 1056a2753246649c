# SPDX-License-Identifier: BSD-3-Clause
"""Which writes may legally be found in each sector, from what was submitted, answered and lost.

Ticks order the events. A write may be found in a sector unless another one that was answered
began after it had ended; a write whose connection was lost ended there, applied or not.
The thread of the load calls submit() and end(); the others call while the load is paused, except
tick(), which anyone may call.
"""

import itertools

import stamps

IN_FLIGHT = None


class Write:
    """A write, zero or trim request; `name` is None where zeroes are what it leaves."""

    __slots__ = ("name", "first", "count", "submitted", "ended", "answered", "zero")

    def __init__(self, name, first, count, submitted, zero):
        self.name = name
        self.first = first
        self.count = count
        self.submitted = submitted
        self.ended = IN_FLIGHT
        self.answered = False
        self.zero = zero

    def __str__(self):
        end = "in flight" if self.ended is IN_FLIGHT else (
            f"{'answered' if self.answered else 'lost'} at {self.ended}")
        what = "zeroes" if self.zero else "data"
        return (f"write {self.name[1]} of writer {self.name[0]} "
                f"({what}, from {self.submitted}, {end})")


def _initial():
    write = Write(("nobody", 0), 0, 0, 0, True)
    write.ended, write.answered = 0, True
    return write


class Record:
    """Owned by one run; `sectors` is the size of the volume."""

    def __init__(self, seed, sectors):
        self.seed = seed
        self.sectors = sectors
        self.flushed_before = 0  # what was answered before this tick was flushed afterwards
        self._ticks = itertools.count(1)
        self._held = [[_initial()] for _ in range(sectors)]
        self._keeping_since = None
        self._kept = []

    def tick(self):
        return next(self._ticks)

    # -- the load --------------------------------------------------------------------------------

    def submit(self, name, first, count, zero):
        write = Write(name, first, count, self.tick(), zero)
        for sector in range(first, first + count):
            self._held[sector].append(write)
        if self._keeping_since is not None:
            self._kept.append(write)
        return write

    def end(self, write, answered):
        write.ended = self.tick()
        write.answered = answered
        if answered and self._keeping_since is None:
            self._prune(range(write.first, write.first + write.count))

    def flushed(self, submitted):
        self.flushed_before = max(self.flushed_before, submitted)

    def _prune(self, sectors):
        held = self._held
        for sector in sectors:
            held[sector] = _still_possible(held[sector])

    # -- loss that was named ---------------------------------------------------------------------

    def expect_loss(self):
        """From here on answered writes may be given up, until it is known which ones."""
        self._keeping_since = self.tick()
        self._kept = []

    def accept_loss(self, began_before):
        """Gives up what began after that tick; what ended before expect_loss() stays required.

        Returns how many answered writes that are.
        """
        lost = sum(1 for write in self._kept
                   if write.answered and write.submitted > began_before)
        for sector, writes in enumerate(self._held):
            if writes[-1].submitted > began_before:
                self._held[sector] = [write for write in writes
                                      if write.submitted <= began_before]
        self._keeping_since = None
        return lost

    def forbid_loss(self):
        """Nothing was given up after all."""
        self._keeping_since = None
        self._prune(range(self.sectors))

    # -- checking --------------------------------------------------------------------------------

    def complaint(self, sector, data, settle):
        """Why this sector is wrong, or None. With `settle`, what is there has to stay."""
        writes = self._held[sector]
        try:
            name = stamps.parse(data, self.seed, sector)
        except ValueError as error:
            return f"sector {sector} {error}; {self._expected(writes)}"
        matching = [write for write in writes
                    if (write.zero if name is None else not write.zero and write.name == name)]
        if not matching:
            found = "zeroes" if name is None else f"write {name[1]} of writer {name[0]}"
            return f"sector {sector} holds {found}; {self._expected(writes)}"
        if settle and len(writes) > 1 and self._keeping_since is None:
            in_flight = [write for write in writes
                         if write.ended is IN_FLIGHT and write is not matching[-1]]
            self._held[sector] = [matching[-1], *in_flight]
        return None

    def is_settled(self, sector):
        return len(self._held[sector]) == 1

    def _expected(self, writes):
        described = [str(write) + (", flushed" if self._is_flushed(write) else "")
                     for write in writes[-6:]]
        return "there may be: " + "; ".join(described)

    def _is_flushed(self, write):
        return write.answered and write.ended < self.flushed_before


def _still_possible(writes):
    limit = max((write.submitted for write in writes if write.answered), default=0)
    return [write for write in writes if write.ended is IN_FLIGHT or write.ended >= limit]

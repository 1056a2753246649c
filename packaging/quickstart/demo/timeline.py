# SPDX-License-Identifier: BSD-3-Clause
"""What the person in front of the terminal sees: one line a step, with the time it happened."""

import os
import sys
import time

_COLOURS = {"alpha": "36", "beta": "35", "disk": "33", "bad": "1;31", "good": "1;32", "dim": "2",
            "bold": "1"}


class Timeline:
    def __init__(self):
        self._began = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._width = 0

    def paint(self, style, text):
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if self._colour else text

    def title(self, text):
        print("\n" + self.paint("bold", text), flush=True)

    def step(self, who, text, style=None):
        """One thing that happened; `who` is alpha, beta or disk."""
        self._wipe()
        seconds = time.monotonic() - self._began
        print(f"{seconds:7.2f} s  {self.paint(who, f'{who:6}')} "
              f"{self.paint(style, text) if style else text}", flush=True)

    def progress(self, text):
        """Replaces itself; only where somebody watches."""
        if self._colour:
            self._wipe()
            print(self.paint("dim", f"           {text}"), end="", flush=True)
            self._width = len(text) + 11

    def _wipe(self):
        if self._width:
            print("\r" + " " * self._width + "\r", end="")
            self._width = 0

    def elapsed(self):
        return time.monotonic() - self._began


def size(count):
    """Bytes for people: 13.4 MiB."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"

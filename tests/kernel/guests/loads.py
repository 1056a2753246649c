# SPDX-License-Identifier: BSD-3-Clause
"""inside/load.py as the host sees it: what was durable is remembered here, not in the guest."""

import pathlib

from lib.waiting import wait_for

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = "/usr/local/lib/test-load.py"


def install(node):
    node.write(PROGRAM, (HERE.parent / "inside" / "load.py").read_text(encoding="utf-8"))


class Load:
    """Writes that a filesystem of a guest must not lose. `kind` is files or sqlite."""

    def __init__(self, node, directory="/mnt", kind="files"):
        self._node = node
        self._directory = directory
        self._kind = kind
        self._command = None
        self.durable = 0
        self.longest = 0.0

    def start(self, node=None):
        """Begins, or goes on, on another node if one is given."""
        self._node = node or self._node
        self._command = self._node.begin(
            f"exec python3 -B {PROGRAM} {self._kind} {self._directory}")
        self.wait_for_progress(1)
        return self

    def seen(self):
        """The number of the last write that was told to be durable."""
        for line in self._command.lines():
            if line.startswith("longest "):
                self.longest = float(line.split()[1])
            else:
                self.durable = int(line)
        return self.durable

    def wait_for_progress(self, more=5, timeout=300):
        """Until so many further writes are durable."""
        goal = self.seen() + more

        def reached():
            if not self._command.running() and self.seen() < goal:
                raise RuntimeError(f"the load ended: {self._command.outcome()}")
            return self.seen() >= goal
        wait_for(reached, f"{more} further durable writes", timeout=timeout,
                 report=self._node.report)

    def stop(self, timeout=120):
        """It must have met no error."""
        self._command.end_input()
        outcome = self._command.wait(timeout)
        assert outcome.code == 0, outcome
        self.seen()

    def abandoned(self):
        """The guest is gone: what it told until then counts."""
        return self.seen()

    def check(self, node):
        """Everything that was durable is there, on that node."""
        assert self.durable > 0, "the load wrote nothing: this test shows nothing"
        node.run(f"python3 -B {PROGRAM} check-{self._kind} {self._directory} {self.durable}",
                 timeout=180)

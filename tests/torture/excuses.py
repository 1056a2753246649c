# SPDX-License-Identifier: BSD-3-Clause
"""What is no violation when a disk failed, and is one otherwise.

With `disk_timeout` a disk of a busy machine may be given up now and then, in the middle of any
move.
"""

from metafile import MetaFile

_DISK_EVENTS = {"local-disk-failed", "media-error"}


class Excuses:
    """By what happened since forget(); used by the run's thread."""

    def __init__(self, arena):
        self._arena = arena
        self._known_events = {}
        self._known_failures = set()
        self._known_errors = {}

    def forget(self):
        """The mirror is whole: nothing from before excuses anything."""
        nodes = self._arena.nodes
        self._known_events = {node.name: len(node.events()) for node in nodes}
        self._known_errors = {node.name: _disk_errors(node) for node in nodes}
        self._known_failures = set().union(*(self._failures(node) for node in nodes))

    def no_copy_was_left(self):
        """A request that neither replica can serve may be answered with an error."""
        news = {event["id"] for node in self._arena.nodes
                for event in node.events()[self._known_events.get(node.name, 0):]}
        # Of errors that follow each other closely not every one is an event.
        failed = bool(news & _DISK_EVENTS) or any(
            _disk_errors(node) > self._known_errors.get(node.name, 0) for node in self._arena.nodes)
        return failed and "mirror-break" in news

    def has_the_say(self, heir):
        """A standby that was told of the active's failed disk has the only copy."""
        return bool(self._failures(heir) - self._known_failures)

    @staticmethod
    def _failures(node):
        return MetaFile(node.meta()).failed_disks()


def _disk_errors(node):
    """0 also where the node can't say."""
    if not node.is_running():
        return 0
    return node.status()["replica"]["media_errors"] or 0

# SPDX-License-Identifier: BSD-3-Clause
"""A test that hangs fails where it hangs, and a run that is ended tidies up: the same for every suite
that has guests or nodes."""

import contextlib
import signal

from lib import environment


@contextlib.contextmanager
def of_test(request, seconds):
    """`seconds`, unless the test is marked with others; longer under a sanitizer."""
    marker = request.node.get_closest_marker("seconds")
    seconds = int((marker.args[0] if marker else seconds) * environment.slowness())

    def expire(_signal, _frame):
        raise TimeoutError(f"the test is not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def end_in_order():
    """SIGTERM, which a run gets that takes too long, ends it as Ctrl-C does: fixtures take away what
    they made. Called by pytest_configure of a conftest.py."""
    def end(_signal, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, end)

# SPDX-License-Identifier: BSD-3-Clause
"""How much is tested: `MIRRORDISK_KERNEL_TESTS=all` is for all tests, as hard as they can be; else
those that are not marked `long` are meant, and each costs less."""

import os

ALL = os.environ.get("MIRRORDISK_KERNEL_TESTS", "") == "all"

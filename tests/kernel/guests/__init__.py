# SPDX-License-Identifier: BSD-3-Clause
"""Virtual machines with a kernel that has nbd, and what the tests do with them."""

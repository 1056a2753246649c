# SPDX-License-Identifier: BSD-3-Clause
"""What the end-to-end tests share: two nodes on one machine, load on a volume, broken links."""

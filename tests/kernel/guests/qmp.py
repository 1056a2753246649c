# SPDX-License-Identifier: BSD-3-Clause
"""One command to a QEMU that runs."""

import json
import socket


def command(path, what, /, **arguments):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        with connection.makefile("rw", encoding="utf-8") as lines:
            _line(lines)
            _ask(lines, "qmp_capabilities", {})
            return _ask(lines, what, arguments)


def _ask(lines, what, arguments):
    lines.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        answer = _line(lines)
        if "error" in answer:
            raise RuntimeError(f"QEMU refuses {what}: {answer['error']['desc']}")
        if "return" in answer:
            return answer["return"]


def _line(lines):
    line = lines.readline()
    if not line:
        raise ConnectionError("QEMU has ended")
    return json.loads(line)

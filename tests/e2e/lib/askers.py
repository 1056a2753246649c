# SPDX-License-Identifier: BSD-3-Clause
"""Somebody else on this machine: a process with another user and groups, which asks for a test."""

import multiprocessing
import os
import traceback

import nbd

from lib import control

# Numbers without a name will do: the kernel and mirrord look at nothing else.
STRANGE_UID = 60123


def open_export(address, name):
    """An open handle; raises nbd.Error with the server's words."""
    handle = nbd.NBD()
    handle.set_export_name(name)
    if ":" in str(address):
        host, port = str(address).rsplit(":", 1)
        handle.connect_tcp(host, port)
    else:
        handle.connect_unix(str(address))
    return handle


def why_not_open(address, name):
    """Empty when the export can be opened."""
    try:
        open_export(address, name).shutdown()
    except nbd.Error as error:
        return str(error)
    return ""


def ask(address, request):
    """The reply; {"closed": reason} where not even the mailbox is opened."""
    try:
        return control.ask(address, request)
    except nbd.Error as error:
        return {"ok": False, "closed": str(error)}


def write_and_read(address, name, data):
    """What is read where it was written, or the error's words."""
    try:
        handle = open_export(address, name)
        handle.pwrite(data, 0)
        handle.flush()
        read = bytes(handle.pread(len(data), 0))
        handle.shutdown()
        return read
    except nbd.Error as error:
        return str(error)


class Asker:
    """Runs functions of this module as that user; end() when done."""

    def __init__(self, uid, gid, groups=()):
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs, uid, gid, list(groups)),
                                        daemon=True)
        self._process.start()
        theirs.close()

    def call(self, function, *arguments):
        self._pipe.send((function, arguments))
        assert self._pipe.poll(60), f"no answer to {function.__name__}{arguments}"
        done, answer = self._pipe.recv()
        assert done, answer
        return answer

    def end(self):
        self._pipe.close()
        self._process.join(10)

    @staticmethod
    def _serve(pipe, uid, gid, groups):
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        while True:
            try:
                function, arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((True, function(*arguments)))
            except Exception:  # pylint: disable=broad-except
                pipe.send((False, traceback.format_exc()))

# SPDX-License-Identifier: BSD-3-Clause
"""Somebody else on this machine: a process with another user and groups, which asks for a test."""

import json
import multiprocessing
import os
import traceback

import nbd

from lib import control, credentials

# Numbers without a name will do: the kernel and mirrord look at nothing else.
STRANGE_UID = 60123


class NotOpened(Exception):
    """With libnbd's words and the server's, which libnbd shows to its debugging only."""


def open_export(address, name):
    handle = nbd.NBD()
    handle.set_export_name(name)
    said = []
    handle.set_debug_callback(lambda context, message: said.append(message))
    handle.set_debug(True)
    try:
        if isinstance(address, credentials.Door):
            credentials.show(handle, address)
            handle.connect_tcp(*address.address.rsplit(":", 1))
        elif ":" in str(address):  # who knows no key
            handle.connect_tcp(*str(address).rsplit(":", 1))
        else:
            handle.connect_unix(str(address))
    except nbd.Error as error:
        raise NotOpened("\n".join([str(error), *said])) from error
    handle.set_debug(False)
    return handle


def why_not_open(address, name):
    """Empty when the export can be opened."""
    try:
        open_export(address, name).shutdown()
    except NotOpened as error:
        return str(error)
    return ""


def ask(address, request):
    """The reply; {"closed": reason} where not even the mailbox is opened."""
    try:
        handle = open_export(address, "control")
    except NotOpened as error:
        return {"ok": False, "closed": str(error)}
    reply = control.exchange(handle, json.dumps(request).encode())
    handle.shutdown()
    return reply


def write_and_read(address, name, data):
    """What is read where it was written, or the error's words."""
    try:
        handle = open_export(address, name)
        handle.pwrite(data, 0)
        handle.flush()
        read = bytes(handle.pread(len(data), 0))
        handle.shutdown()
        return read
    except (NotOpened, nbd.Error) as error:
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
        self._pipe.send(None)  # closing it would not do: forked processes have copies of this end
        self._process.join(10)
        self._pipe.close()

    @staticmethod
    def _serve(pipe, uid, gid, groups):
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        while True:
            asked = pipe.recv()
            if asked is None:
                return
            function, arguments = asked
            try:
                pipe.send((True, function(*arguments)))
            except Exception:  # pylint: disable=broad-except
                pipe.send((False, traceback.format_exc()))

# SPDX-License-Identifier: BSD-3-Clause
"""A TCP proxy in front of a node's mirrord: the link that can be cut, silenced and slowed."""

import random
import socket
import threading
import time

from lib import environment


class Proxy:
    """Listens on a port of its own and forwards to 127.0.0.1:`target_port`.

    open()      everything passes
    cut()       connections are reset, new ones too
    silence()   connections stay, nothing passes; what was sent is delivered after open()
    mute()      what is sent towards the node passes, its answers wait as in silence(): after a
                cut() they are lost, and what was asked for was done
    hold()      connections that are there stay silent until release(), new ones pass
    slow(rate)  each direction of each connection passes at most `rate` bytes a second

    flip(…)     beside these: now and then a bit of what passes is flipped; calm() ends it
    garble(…)   flips one bit, once, in what follows a given byte string
    """

    def __init__(self, target_port):
        self.target_port = target_port
        self.bytes_forward = 0   # towards the node
        self.bytes_backward = 0
        self.flips = 0
        self._flipping = {}      # direction → mean number of bytes from one flip to the next
        self._random = random.Random()
        self._needle = None
        self._only_known = False  # new connections are refused
        self._changed = threading.Condition()
        self._mode = "open"
        self._rate = None
        self._sockets = set()
        self._held = set()
        self._closed = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = environment.free_ports(1)[0]
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self):
        self._set("open")

    def silence(self):
        self._set("silent")

    def mute(self):
        self._set("mute")

    def slow(self, rate):
        self._set("open", rate)

    def cut(self):
        self._set("cut")
        self._reset_all()

    def flip(self, seed, forward=None, backward=None):
        """`forward` and `backward`: mean number of bytes from one flipped bit to the next."""
        with self._changed:
            self._random.seed(seed)
            self._flipping = {True: forward, False: backward}

    def calm(self):
        with self._changed:
            self._flipping = {}
            self._only_known = False

    def garble(self, needle, refuse_new=False):
        """Flips the last bit of the next `needle` towards the node. With `refuse_new`, no new
        connection comes through from then on until calm()."""
        with self._changed:
            self._needle = (bytes(needle), refuse_new)

    def hold(self):
        with self._changed:
            self._held = set(self._sockets)

    def release(self):
        with self._changed:
            self._held = set()
            self._changed.notify_all()

    def close(self):
        self._closed = True
        self.cut()
        # Without the shutdown the accept() of the other thread would keep the port.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def bytes_total(self):
        with self._changed:
            return self.bytes_forward + self.bytes_backward

    def _set(self, mode, rate=None):
        with self._changed:
            self._mode = mode
            self._rate = rate
            self._changed.notify_all()

    def _reset_all(self):
        with self._changed:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _reset(end)

    def _accept(self):
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with self._changed:
            # A silent network does not complete a handshake either.
            self._changed.wait_for(lambda: self._mode != "silent")
            if self._mode == "cut" or self._only_known:
                _reset(client)
                return
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            _reset(client)
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._sockets |= {client, server}
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()
        self._pump(client, server, True)

    def _tamper(self, data, forward, gap):
        """What passes instead of `data`, and the bytes that are left until the next flip."""
        with self._changed:
            if forward and self._needle and self._needle[0] in data:
                needle, self._only_known = self._needle
                self._needle = None
                data = bytearray(data)
                data[data.index(needle) + len(needle) - 1] ^= 1
                self.flips += 1
            mean = self._flipping.get(forward)
            if not mean:
                return data, None
            gap = self._random.randint(1, 2 * mean) if gap is None else gap
            if gap <= len(data):
                data = bytearray(data)
            start = 0
            while start + gap <= len(data):
                start += gap
                data[start - 1] ^= 1 << self._random.randrange(8)
                self.flips += 1
                gap = self._random.randint(1, 2 * mean)
            return data, gap - (len(data) - start)

    def _passes(self, source, forward):
        stopped = self._mode == "silent" or (self._mode == "mute" and not forward)
        return not stopped and source not in self._held

    def _pump(self, source, sink, forward):
        gap = None
        while True:
            try:
                data = source.recv(65536)
                with self._changed:
                    self._changed.wait_for(lambda: self._passes(source, forward))
                    rate = self._rate
                if rate:
                    time.sleep(len(data) / rate)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                data, gap = self._tamper(data, forward, gap)
                sink.sendall(data)
            except OSError:
                _reset(source)
                _reset(sink)
                return
            with self._changed:
                if forward:
                    self.bytes_forward += len(data)
                else:
                    self.bytes_backward += len(data)


def _reset(end):
    """Closes with RST, and wakes whoever waits on it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()

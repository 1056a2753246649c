# SPDX-License-Identifier: BSD-3-Clause
"""A guest: a QEMU process with two disks, a network to the other guest, and the agent.

A power cut is a SIGKILL of QEMU: what the guest's caches held is gone, what its disks were given
is there.
"""

import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from guests import image, qmp, saved
from guests.channel import Channel
from guests.extent import ALL
from lib import processes
from lib.waiting import accepts, wait_for

BOOT_SECONDS = 300
# One thread of QEMU for all processors of a guest, which then run in turn; "multi" gives each its
# own, so that they run at the same time. A processor that waits for a spin lock then takes QEMU's
# big lock at each `pause`; the one it waits for needs that to send an interrupt, and gets it
# milliseconds late. 10,000 bytes there and back through two pipes cost 31 s of the host's
# processor so, and 1.5 s with one thread; whoever is woken up in the guest costs such an interrupt.
THREADS = "multi" if ALL else "single"
EXCHANGE_SIZE = 64 << 20
# The processor's own counter is measured at boot, wrongly on a busy host; to read any other clock
# costs an emulated processor as much as a system call.
CLOCKS = {"right": "clocksource=hpet", "quick": "clocksource=tsc tsc=reliable"}
CLOCK_TOLERANCE = 0.25  # seconds; mirrorctl check tolerates 1
CLOCK_SETTER = """
import sys, time
print("listening", flush=True)
for line in sys.stdin:
    time.clock_settime(time.CLOCK_REALTIME, float(line))
    print("set", flush=True)
"""
# Two guests that go on from the same memory would draw the same numbers.
RESEED = """
import fcntl, sys
pool = open("/dev/urandom", "wb", 0)
pool.write(sys.stdin.buffer.read())
fcntl.ioctl(pool, 0x5207)  # RNDRESEEDCRNG
"""
# What a kernel says when a disk was lost to those who use it.
TROUBLE = re.compile(
    r"I/O error|EXT4-fs error|EXT4-fs \(.*\): ([Rr]emounting|shut down)|XFS .*([Cc]orruption|[Ss]hutdown|"
    r"[Ss]hutting down)|Kernel panic|\bBUG: |Oops: |blocked for more than|"
    r"Aborting journal|lost async page write|lost sync page write")


class Guest:
    """Files in `directory`: the disks stay, so that start() goes on where it was. The first start
    is no boot if `ready` and one like it was saved; else this one is."""

    def __init__(self, name, directory, address, ports, memory=384, disk="1G", processors=2,
                 clock="right", outlive=False, options=(), packages=(), spares=(),
                 ready=False, host_syncs=True):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.memory = memory
        self._processors = processors
        self._clock = CLOCKS[clock]
        self._image = None
        self._address = address
        self._ports = ports
        self._disk = disk
        self._outlive = outlive
        self._options = options  # more of QEMU's
        self._packages = packages  # besides those of every guest
        self._spares = spares  # bytes of empty disks: /dev/vdd and on
        self._ready = ready
        # Without: what the guest flushes goes to the host's page cache, and the host's disk is not
        # waited for. A SIGKILL of QEMU takes nothing from that cache, and QEMU's own cache of a
        # qcow2 file's tables is written at each flush all the same: after a power cut the disks
        # are what they would have been.
        self._cache = "writeback" if host_syncs else "unsafe"
        self._to_save = self._to_reseed = False
        self._process = None
        self._channel = None
        self._checked = 0
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def exchange(self):
        """A disk that the guest reads past its cache, so that the host can write to it anytime."""
        return self.directory / "exchange.img"

    @property
    def console(self):
        return self.directory / "console.log"

    # -- life ------------------------------------------------------------------------------------

    def launch(self):
        """Starts QEMU without waiting for the guest."""
        self._image = image.get(self._packages)
        if self._ready and not (self.directory / "root.qcow2").exists():
            if self._go_on():
                return
            self._to_save = True
        self._launch()

    def _go_on(self):
        """Whether there is a saved guest like this one, and it lives."""
        if not saved.disks_of(self._place(), self.directory):
            return False
        try:
            self._launch(["-incoming", "defer"])
            saved.go_on(self._place(), self.directory / "qmp")
        except (OSError, RuntimeError, AssertionError) as error:
            print(f"{self.name} does not go on, so it boots: {error}\n"
                  f"{_tail(self.directory / 'qemu.log')}")
            self.power_cut()
            saved.forget(self._place())
            for disk in saved.DISKS:
                (self.directory / disk).unlink()
            return False
        self._channel.ping()
        self._to_reseed = True
        return True

    def _place(self):
        return saved.place(self._command_line("HERE", ("OWN", "OTHER")), self._disk)

    def _launch(self, more=()):
        self._make_disks()
        for name in ("qmp", "agent"):
            (self.directory / name).unlink(missing_ok=True)
        with open(self.directory / "qemu.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command_line(self.directory, self._ports) + list(more),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=None if self._outlive else _die_with_parent)
        (self.directory / "pid").write_text(str(self._process.pid), encoding="ascii")
        wait_for(lambda: accepts(self.directory / "agent"), f"QEMU of {self.name}",
                 report=self.report)
        self._channel = Channel(self.name, self.directory / "agent")

    def start(self):
        self.launch()
        return self.wait_up()

    def attach(self):
        """Joins a guest that another process has started."""
        self._channel = Channel(self.name, self.directory / "agent")
        self._channel.ping()
        self._channel.wait_for_boot(BOOT_SECONDS)
        return self

    def wait_up(self, other_than=""):
        self._channel.wait_for_boot(BOOT_SECONDS, other_than, self._assert_alive)
        state = self.out("systemctl is-system-running --wait", timeout=BOOT_SECONDS, check=False)
        if self._to_reseed:
            self.run(f"python3 -c '{RESEED}'", data=os.urandom(64))
        if self._to_save and state == "running":
            self.run("sync")
            saved.save(self._place(), self.directory, self.directory / "qmp")
        self._to_save = self._to_reseed = False
        self._set_clock()
        return self

    def _set_clock(self):
        """To the host's time, as no network leads to a time server, and the clock that QEMU gives at
        boot has whole seconds. A guest on a busy host may take the time seconds late: it is told
        again until it confirms at once."""
        setter = self.begin(f"exec python3 -c '{CLOCK_SETTER}'")
        wait_for(setter.lines, f"{self.name} to listen for the time", timeout=60)

        def is_set_at_once():
            told = time.monotonic()
            setter.send(f"{time.time():.4f}\n".encode())
            wait_for(setter.lines, f"{self.name} to set its clock", timeout=60)
            return time.monotonic() - told < CLOCK_TOLERANCE
        wait_for(is_set_at_once, f"the clock of {self.name} to be set at once", timeout=120)
        setter.end_input()
        outcome = setter.wait(60)
        assert outcome.code == 0, str(outcome)

    def power_cut(self):
        """As when the plug is pulled."""
        processes.send(self.pid(), signal.SIGKILL)
        if self._process:
            self._process.wait()
        else:
            processes.wait_gone(self.pid())
        if self._channel:
            self._channel.close()

    def reboot(self):
        """As an operator does; back when the guest is up again."""
        before = self._channel.boot_id
        self.run("systemctl --no-block reboot")
        return self.wait_up(other_than=before)

    def is_running(self):
        try:
            return processes.is_alive(self.pid())
        except OSError:
            return False

    def pid(self):
        return int((self.directory / "pid").read_text(encoding="ascii"))

    # -- commands --------------------------------------------------------------------------------

    def begin(self, command):
        """A command that runs on; see channel.Command."""
        return self._channel.start(command)

    def run(self, command, timeout=60, check=True, data=None):
        """A command's Outcome; with `check` it must succeed. `data` is its standard input."""
        running = self.begin(command)
        if data is not None:
            running.send(data)
        running.end_input()
        outcome = running.wait(timeout)
        if check and outcome.code != 0:
            raise AssertionError(str(outcome))
        return outcome

    def out(self, command, **options):
        return self.run(command, **options).out.strip()

    def json(self, command, **options):
        """What a command prints; `status` has an answer whatever its exit code."""
        outcome = self.run(command, check=False, **options)
        try:
            return json.loads(outcome.out)
        except ValueError:
            raise AssertionError(str(outcome)) from None

    def write(self, path, text):
        # Durable: the next thing that happens may be a power cut.
        self.run(f"mkdir -p $(dirname {path}) && cat > {path} && sync {path}", data=text.encode())

    def unpack(self, archive, where="/"):
        """A tar archive; much faster than write(), which goes through the agent."""
        with open(self.exchange, "r+b") as exchange:
            exchange.write(archive)
        self.run(f"mkdir -p {where} && dd if=/dev/vdc iflag=direct bs=64K status=none "
                 f"count={len(archive) // 65536 + 1} | tar x --keep-directory-symlink -C {where}",
                 timeout=180)

    # -- network ---------------------------------------------------------------------------------

    def link(self, up):
        """Pulls the network cable, or puts it back."""
        qmp.command(self.directory / "qmp", "set_link", name="nic", up=up)

    # -- what went wrong -------------------------------------------------------------------------

    def complaints(self):
        """Lines of the console, since the last call, that a disk in order never causes."""
        text = self.console.read_text(encoding="utf-8", errors="replace")
        fresh, self._checked = text[self._checked:], len(text)
        return [line for line in fresh.splitlines() if TROUBLE.search(line)]

    def report(self):
        """For a failed test."""
        parts = [f"--- {self.name}: end of the console\n{_tail(self.console)}",
                 f"--- {self.name}: QEMU\n{_tail(self.directory / 'qemu.log')}"]
        if self._channel and self.is_running():
            try:
                journal = self.out("journalctl -b --no-pager -n 150 -o short-monotonic; "
                                   "mirrorctl status; tail -n 30 /var/lib/mirrordisk/events.jsonl",
                                   check=False, timeout=30)
                parts.append(f"--- {self.name}: journal\n{journal}")
            except Exception as error:  # pylint: disable=broad-except
                parts.append(f"--- {self.name}: no journal: {error}")
        return "\n".join(parts)

    # -- QEMU ------------------------------------------------------------------------------------

    def _assert_alive(self):
        if not self.is_running():
            raise AssertionError(f"QEMU of {self.name} ended\n{self.report()}")
        if "Kernel panic" in _tail(self.console):
            raise AssertionError(f"{self.name} cannot boot\n{self.report()}")

    def _make_disks(self):
        root, data = self.directory / "root.qcow2", self.directory / "data.img"
        if not root.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                            self._image.root, root], check=True)
        with open(self.exchange, "ab") as exchange:
            exchange.truncate(EXCHANGE_SIZE)
        for number, size in enumerate(self._spares):
            with open(self.directory / f"spare{number}.img", "ab") as spare:
                spare.truncate(size)
        if not data.exists():
            subprocess.run(["mkfs.ext4", "-q", "-F", data, self._disk], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _command_line(self, here, ports):
        own, other = ports
        return [
            "nice", "-n", "5", "qemu-system-x86_64", "-nodefaults", "-display", "none",
            "-machine", "q35", "-accel", f"tcg,thread={THREADS}", "-cpu", "Nehalem",
            "-smp", str(self._processors), "-m", str(self.memory),
            "-kernel", self._image.kernel, "-initrd", self._image.ramdisk,
            "-append", " ".join([
                "console=ttyS0 rw loglevel=6 panic=1 mitigations=off random.trust_cpu=on",
                # The timer's ticks do not come in time when the kernel looks for them, and then
                # it panics.
                self._clock, "no_timer_check net.ifnames=0 nosoftlockup",
                "rcupdate.rcu_cpu_stall_suppress=1 systemd.show_status=no",
                "module_blacklist=sr_mod,cdrom,serio_raw,evdev,pcspkr", f"systemd.hostname={self.name}",
                f"test.address={self._address}/24"]),
            "-drive", f"file={here}/root.qcow2,if=virtio,format=qcow2,cache={self._cache}",
            "-drive", f"file={here}/data.img,if=virtio,format=raw,cache={self._cache}",
            "-drive", f"file={here}/exchange.img,if=virtio,format=raw,cache={self._cache}",
            *(word for number in range(len(self._spares)) for word in (
                "-drive",
                f"file={here}/spare{number}.img,if=virtio,format=raw,cache={self._cache}")),
            "-netdev", f"dgram,id=net,local.type=inet,local.host=127.0.0.1,local.port={own},"
                       f"remote.type=inet,remote.host=127.0.0.1,remote.port={other}",
            "-device", f"virtio-net-pci,id=nic,netdev=net,mac=52:54:00:77:00:{_last(self._address)}",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={here}/agent,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=mirrordisk-tests",
            "-chardev", f"file,id=console,path={here}/console.log,append=on",
            "-serial", "chardev:console",
            "-qmp", f"unix:{here}/qmp,server=on,wait=off",
            "-device", "virtio-rng-pci", *self._options,
        ]


def _last(address):
    return f"{int(address.rsplit('.', 1)[1]):02x}"


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _tail(path, size=6000):
    try:
        return path.read_bytes()[-size:].decode(errors="replace")
    except OSError as error:
        return str(error)

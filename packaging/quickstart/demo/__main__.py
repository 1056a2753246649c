# SPDX-License-Identifier: BSD-3-Clause
"""./quickstart demo: a mirrored disk, the death of a machine, a failover, and the way back."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import content
import disk
import machine
from timeline import Timeline, size


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP."""


class Demo:
    def __init__(self, options, resources):
        self.show = Timeline()
        os.umask(0o022)  # a configuration that others can write would be refused
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="mirrordisk-demo-"))
        resources.callback(self._remove_directory, options.keep_logs)
        self.processes = machine.Processes()
        self.alpha = machine.Machine("alpha", self.directory, options.build, self.processes)
        self.beta = machine.Machine("beta", self.directory, options.build, self.processes)
        device = None if options.fuse else disk.free_kernel_device()
        machine.write_config(self.directory / "mirrordisk.toml", (self.alpha, self.beta), device)
        self.disks = {node: disk.Disk(node, device) for node in (self.alpha, self.beta)}
        for attached in self.disks.values():
            resources.callback(attached.power_off)
        resources.callback(self.processes.kill)
        self.figures = []

    def _remove_directory(self, keep):
        if keep:
            print(f"logs and state are in {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    # -- the story -------------------------------------------------------------------------------

    def play(self):
        self.show.title("A volume of 256 MiB, mirrored between alpha and beta")
        self.set_up()
        self.show.title("An application works on alpha")
        self.fill()
        self.show.title("alpha dies")
        self.crash()
        self.show.title("beta takes over")
        self.fail_over()
        self.show.title("alpha comes back")
        self.rejoin()
        self.show.title("Back to alpha: a planned switch")
        self.switch_back()
        self.sum_up()

    def set_up(self):
        self.alpha.ctl("keygen")
        self.show.step("alpha", "made the key of both nodes: their connections are encrypted")
        for node in (self.alpha, self.beta):
            node.start()
            self.show.step(node.name, f"mirrord is running, listens on {node.address}")
        self.alpha.ctl("create", "r0")
        self.show.step("alpha", "volume r0 created on both nodes, as sparse files")
        self.alpha.ctl("promote", "r0")
        self.show.step("alpha", "promoted: alpha is active, beta is its standby")
        self.wait_in_sync(self.alpha)
        mounted = self.disks[self.alpha]
        mounted.attach()
        self.show.step("disk", f"r0 is {mounted.device} (through {mounted.way})")
        mounted.format()
        mounted.mount()
        self.show.step("disk", "ext4 made and mounted")

    def fill(self):
        began = time.monotonic()
        place = self.disks[self.alpha].mountpoint
        files, total = content.copy_documents(place / "doc")
        os.sync()
        seconds = time.monotonic() - began
        self.show.step("alpha", f"{files} files, {size(total)}, copied from {content.DOCUMENTS} "
                       f"and synced to both nodes in {seconds:.1f} s")
        self.expected = content.checksums(place / "doc")
        self.database = content.Database(self.alpha, place / "ledger.db")
        self.database.wait_commits(200)
        self.show.step("alpha", "a database commits row after row, each one synced on both nodes")

    def crash(self):
        died = time.monotonic()
        killed = self.alpha.kill()
        self.database.end()
        self.committed = self.database.acknowledged()
        self.show.step("alpha", f"SIGKILL to everything: {killed} processes gone "
                       f"in the middle of commit {self.committed + 1}", "bad")
        self.disks[self.alpha].power_off()
        self.died = died

    def fail_over(self):
        refused = self.beta.ctl("promote", "r0", check=False)
        if refused.returncode == 0:
            raise machine.StepFailed("beta became active without being told that alpha is dead")
        self.show.step("beta", "a plain promote is refused: " + one_line(refused.stderr))
        began = time.monotonic()
        self.beta.ctl("promote", "r0", "--force", "--yes")
        seconds = time.monotonic() - began
        self.show.step("beta", f"promote --force: active after {seconds:.2f} s", "good")
        self.figures.append(("promotion of beta", f"{seconds:.2f} s"))
        mounted = self.disks[self.beta]
        mounted.attach()
        mounted.mount()
        self.show.step("disk", "mounted once: ext4 replays its journal, as after any power cut")
        mounted.unmount()
        mounted.check()
        self.show.step("disk", "fsck -fn: the filesystem is clean", "good")
        mounted.mount()
        self.compare(self.beta)
        self.figures.append(("from the crash to compared data", f"{time.monotonic() - self.died:.1f} s"))
        self.database = content.Database(self.beta, mounted.mountpoint / "ledger.db")
        self.database.wait_commits(50)
        self.show.step("beta", "the database continues here, on one copy")

    def rejoin(self):
        self.alpha.start()
        self.show.step("alpha", "mirrord is running again, finds that beta has continued, and is its standby")
        began = time.monotonic()
        self.wait_in_sync(self.beta)
        seconds = time.monotonic() - began
        self.show.step("beta", f"resync done in {seconds:.1f} s: only changed blocks were sent, "
                       "while the database kept running", "good")
        self.figures.append(("resync of alpha", f"{seconds:.1f} s"))

    def switch_back(self):
        self.database.wait_commits(20)
        self.database.end()
        self.committed += self.database.acknowledged()
        self.disks[self.beta].unmount()
        self.disks[self.beta].detach()
        self.show.step("beta", "application stopped, filesystem unmounted")
        began = time.monotonic()
        self.beta.ctl("switch", "r0", "--to", "alpha")
        seconds = time.monotonic() - began
        self.show.step("alpha", f"switch: alpha is active again after {seconds:.2f} s", "good")
        self.figures.append(("planned switch", f"{seconds:.2f} s"))
        mounted = self.disks[self.alpha]
        mounted.attach()
        mounted.check()
        mounted.mount()
        self.compare(self.alpha)
        mounted.unmount()
        mounted.detach()
        self.alpha.ctl("demote", "r0")
        machine.run("cmp", self.alpha.backing, self.beta.backing)
        self.show.step("disk", "cmp: the two replicas are equal, byte by byte", "good")

    # -- parts -----------------------------------------------------------------------------------

    def compare(self, node):
        place = self.disks[node].mountpoint
        wrong = content.differing(self.expected, content.checksums(place / "doc"))
        if wrong:
            raise machine.StepFailed(f"{len(wrong)} files differ, the first is {wrong[0]}")
        self.show.step(node.name, f"all {len(self.expected)} files have the right SHA-256", "good")
        rows = content.rows(place / "ledger.db")
        # The commit that was under way may have reached the disk without being acknowledged.
        if rows < self.committed:
            raise machine.StepFailed(f"{self.committed - rows} acknowledged commits are lost")
        self.show.step(node.name, f"the database is sound: all {self.committed} acknowledged "
                       "commits are there, lost: none", "good")
        self.committed = rows

    def wait_in_sync(self, node):
        def reached():
            status = node.status()
            resync = status["peers"][0]["resync"]
            if resync:
                self.show.progress(f"{size(resync['done_bytes'])} of "
                                   f"{size(resync['total_bytes'])}")
            return status["state"] == "in-sync"
        machine.wait_until(reached, f"r0 to be in-sync on {node.name}", 60)

    def sum_up(self):
        self.show.title("In short")
        for what, figure in self.figures:
            print(f"   {what:32} {figure}")
        print(f"   {'lost':32} nothing")
        print(f"   {'the whole demo':32} {self.show.elapsed():.1f} s")


def one_line(text):
    return " ".join(text.split())


def interrupt(number, _frame):
    raise Interrupted(signal.Signals(number).name)


def parse_options():
    parser = argparse.ArgumentParser(prog="./quickstart demo", description=__doc__)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--fuse", action="store_true",
                        help="use nbdfuse and a loop device even if the kernel has nbd")
    parser.add_argument("--keep-logs", action="store_true", help="keep the logs and show where")
    return parser.parse_args()


def main():
    options = parse_options()
    if os.geteuid() != 0:
        print("quickstart: the demo mounts a filesystem: run it as root", file=sys.stderr)
        return 1
    if (options.fuse or not disk.free_kernel_device()) and (why := disk.explain_impossible()):
        print(f"quickstart: {why}", file=sys.stderr)
        return 1
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, interrupt)
    with contextlib.ExitStack() as resources:
        try:
            demo = Demo(options, resources)
            demo.play()
            code = 0
        except Interrupted as reason:
            print(f"\ninterrupted by {reason}: tidying up", file=sys.stderr)
            code = 130
        except Exception as error:  # pylint: disable=broad-except
            print(f"\nthe demo failed: {error}", file=sys.stderr)
            show_logs(demo if "demo" in locals() else None)
            code = 1
        for number in signals:  # from here on everything must be taken away
            signal.signal(number, signal.SIG_IGN)
    return code


def show_logs(demo):
    for node in (demo.alpha, demo.beta) if demo else ():
        with contextlib.suppress(OSError):
            tail = node.log.read_text(errors="replace").splitlines()[-25:]
            print(f"--- {node.name}:\n" + "\n".join(tail), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

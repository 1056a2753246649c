# SPDX-License-Identifier: BSD-3-Clause
"""Two nodes, alpha and beta, on this machine; everything that they leave is taken away again."""

import pathlib
import shutil
import subprocess
import tempfile
import uuid

from lib import credentials, environment, processes
from lib.node import Node
from lib.proxy import Proxy
from lib.waiting import wait_for

MIB = 1024 * 1024


class Cluster:
    """A context manager. `volumes` maps a name to its keys in the config file."""

    def __init__(self, volumes=None, proxied=False, tls=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="mirrordisk-e2e-"))
        self.marker = uuid.uuid4().hex
        self.keep = False
        self.mounts = []
        self.loops = []
        self.proxies = {}
        self.volumes = {}
        self.alpha = Node("alpha", self.directory / "alpha", self.marker)
        self.beta = Node("beta", self.directory / "beta", self.marker)
        self.nodes = (self.alpha, self.beta)
        self.tls = tls or environment.tls()
        self._give_credentials()
        self._give_addresses(proxied)
        for name, keys in (volumes or {"r0": {}}).items():
            self.add_volume(name, **keys)
        self.write_config()

    def add_volume(self, name, **keys):
        """To the configuration that write_config() writes."""
        self.volumes[name] = {
            "size": "64MiB",
            "mode": "sync",
            "peer_timeout": f"{int(2 * environment.slowness())}s",
            "backing.alpha": str(self.alpha.directory / f"{name}.img"),
            "backing.beta": str(self.beta.directory / f"{name}.img"),
        } | keys

    def _give_credentials(self):
        if self.tls == "psk":
            credentials.write_key(self.alpha.key_file)
            self.copy_key(self.alpha, self.beta)
        elif self.tls == "x509":
            authority = credentials.Authority(self.directory / "ca")
            for node in self.nodes:
                authority.sign(node.directory / "x509", node.name)
        for node in self.nodes:
            node.tls = self.tls

    def copy_key(self, source, target):
        """As the person does whom `mirrorctl keygen` told to."""
        fresh = target.key_file.with_suffix(".copy")
        shutil.copy2(source.key_file, fresh)
        fresh.rename(target.key_file)

    def _give_addresses(self, proxied):
        ports = environment.free_ports(len(self.nodes))
        for node, port in zip(self.nodes, ports):
            node.address = f"127.0.0.1:{port}"
            if proxied:
                node.listen = node.address
                self.proxies[node.name] = Proxy(port)
                node.address = f"127.0.0.1:{self.proxies[node.name].port}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    # -- config ----------------------------------------------------------------------------------

    def config_text(self, **overrides):
        """The file; `overrides` maps a volume to keys that replace or (None) remove its own."""
        lines = [] if self.tls == "psk" else [f'tls = "{self.tls}"', ""]
        for node in self.nodes:
            lines += [f"[node.{node.name}]", f'address = "{node.address}"',
                      f'run_dir = "{node.run_dir}"', f'state_dir = "{node.state_dir}"', ""]
        for name, keys in self.volumes.items():
            lines.append(f"[volume.{name}]")
            for key, value in (keys | overrides.get(name, {})).items():
                if value is not None:
                    lines.append(f'{key} = "{value}"')
            lines.append("")
        return "\n".join(lines)

    def write_config(self, text=None):
        for node in self.nodes:
            node.config.write_text(text or self.config_text(), encoding="utf-8")

    # -- life ------------------------------------------------------------------------------------

    def start(self):
        for node in self.nodes:
            node.start()
        return self

    def create(self, volume="r0"):
        self.alpha.ctl("create", volume)
        return self

    def start_active(self, node=None, volume="r0"):
        """Up, created, active on `node`, and both replicas equal."""
        self.start().create(volume)
        node = node or self.alpha
        node.ctl("promote", volume)
        self.wait_in_sync(node, volume)
        return self

    def start_all_active(self, node=None):
        """As start_active(), with all volumes."""
        self.start()
        node = node or self.alpha
        for name in self.volumes:
            node.ctl("create", name)
            node.ctl("promote", name)
        for name in self.volumes:
            self.wait_in_sync(node, name)
        return self

    def other(self, node):
        return self.beta if node is self.alpha else self.alpha

    def active(self, volume="r0"):
        return next((node for node in self.nodes if node.engine_pid(volume)), None)

    def resume(self, node, volume="r0", peer_knows=True):
        """Starts a node that was killed while active, and that nobody replaced: it goes on when
        its peer says so; a person decides that where the peer is away, or knows nothing."""
        node.start()
        if not (peer_knows and self.other(node).is_running()):
            def promoted():
                # mirrord itself asks the peer first, and is asked to be waited for meanwhile.
                outcome = node.ctl("promote", volume, check=False)
                if outcome.code != 0 and "another operation" not in outcome.err:
                    raise RuntimeError(str(outcome))
                return outcome.code == 0
            self.wait(promoted, f"{volume} to be promoted on {node.name}")

        def serves():
            status = node.status(volume)
            assert status["role"] == "active" and node.socket(volume).exists(), status["why"]
            return node.engine_pid(volume)
        self.wait(serves, f"{node.name} to go on with {volume} by itself")

    def kill_everything(self):
        for node in self.nodes:
            node.kill_everything()

    def close(self):
        for proxy in self.proxies.values():
            proxy.close()
        for node in self.nodes:
            if node.daemon is not None:
                node.go_on()
        processes.kill_marked(self.marker)
        for node in self.nodes:
            if node.daemon is not None:
                node.daemon.wait(20)
        for mount in reversed(self.mounts):
            subprocess.run(["umount", "--lazy", str(mount)], check=False)
        for loop in self.loops:
            subprocess.run(["losetup", "--detach", loop], check=False)
        reports = self.sanitizer_reports()
        if self.keep or reports:
            print(f"\nlogs and state are kept in {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        assert not reports, reports

    def sanitizer_reports(self):
        return "\n".join(path.read_text(errors="replace")
                         for node in self.nodes for path in node.sanitizer_reports())

    # -- waiting and comparing -------------------------------------------------------------------

    def logs(self):
        return "\n".join(node.log_tail() for node in self.nodes)

    def wait(self, condition, what, timeout=30.0):
        return wait_for(condition, what, timeout, report=self.logs)

    def wait_state(self, node, state, volume="r0", timeout=60.0):
        def reached():
            status = node.status(volume)
            assert status["state"] == state, f"{status['state']}: {status['why']}"
            return True
        self.wait(reached, f"{volume} on {node.name} to be {state}", timeout)

    def wait_in_sync(self, node, volume="r0", timeout=60.0):
        self.wait_state(node, "in-sync", volume, timeout)

    def wait_event(self, node, event_id, count=1, timeout=30.0):
        return self.wait(lambda: (found := node.events(event_id))[count - 1:] and found,
                         f"event {event_id} on {node.name}", timeout)

    def backing(self, node, volume="r0"):
        return pathlib.Path(self.volumes[volume][f"backing.{node.name}"])

    def assert_replicas_equal(self, volume="r0"):
        """Byte by byte; nobody may be writing."""
        files = [str(self.backing(node, volume)) for node in (self.alpha, self.beta)]
        done = subprocess.run(["cmp", *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"

    # -- small disks ----------------------------------------------------------------------

    def use_loop_devices(self, size, volume="r0"):
        """Block devices of that many bytes instead of files; before start()."""
        for node in self.nodes:
            file = self.directory / f"{node.name}.disk"
            with file.open("wb") as disk:
                disk.truncate(size)
            self.volumes[volume][f"backing.{node.name}"] = self.make_loop_device(file)
        del self.volumes[volume]["size"]
        self.write_config()

    def make_loop_device(self, file):
        """Detached when the cluster is closed."""
        made = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True,
                              text=True, check=True)
        self.loops.append(made.stdout.strip())
        return self.loops[-1]

    def mount_tmpfs(self, name, mib):
        """A full disk is easily made of a small one."""
        point = self.directory / name
        point.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "mirrordisk-test",
                        str(point)], check=True)
        self.mounts.append(point)
        return point

# SPDX-License-Identifier: BSD-3-Clause
"""The root filesystem, kernel and initial ramdisk of the guests: made once, then kept in a cache.

The distribution is the one of this machine, since the programs under test were linked to its
libraries; packages come from where this machine's apt gets them.
"""

import dataclasses
import fcntl
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = """
    systemd systemd-sysv udev kmod iproute2 procps psmisc mount util-linux e2fsprogs xfsprogs
    python3 sqlite3 fio qemu-utils libnbd-bin nbdkit busybox-static
    libfmt9 libnbd0 libxxhash0 libtomlplusplus3 libnl-3-200 libnl-genl-3-200 libseccomp2 libmnl0
""".split()
KERNEL = "linux-image-cloud-amd64"
MODULES = "virtio_pci virtio_blk virtio_console virtio_net virtio_rng".split()
ROOT_SIZE = "3G"
LAYOUT = 2  # another number when _make() makes something else of the same parts
KEPT_DAYS = 14

INIT = """#!/bin/sh
# The disk with the root filesystem, and nothing else: the rest is systemd's.
/busybox mkdir -p /proc /sys /dev /root
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sysfs /sys
/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /busybox insmod /modules/$module.ko; done
/busybox mount -t ext4 /dev/vda /root
/busybox mount --move /dev /root/dev
/busybox umount /sys
/busybox umount /proc
exec /busybox switch_root /root /sbin/init
"""

FILES = {
    "etc/fstab": "/dev/vdb /srv ext4 defaults 0 0\n",
    "etc/systemd/system/test-agent.service": """[Unit]
Description=runs what the tests on the host ask for
DefaultDependencies=no
After=systemd-remount-fs.service
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/test-agent.py
Restart=always
RestartSec=100ms
OOMScoreAdjust=-1000
[Install]
WantedBy=sysinit.target
""",
    "etc/systemd/system/test-network.service": """[Unit]
Description=the address that the kernel's command line gives
DefaultDependencies=no
After=systemd-udevd.service
Before=network.target network-online.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip link set lo up; ip link set eth0 up; \\
    ip address add $(sed -n "s/.*test\\\\.address=\\\\([^ ]*\\\\).*/\\\\1/p" /proc/cmdline) dev eth0'
[Install]
WantedBy=network-online.target multi-user.target
""",
    # Of some 400 devices, the disks and the network are of use; each costs a process without KVM.
    "etc/systemd/system/systemd-udev-trigger.service.d/tests.conf": """[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=net
""",
    "etc/hosts": "127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n",
    "etc/systemd/journald.conf.d/tests.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n",
}
MASKED = """getty@tty1.service serial-getty@ttyS0.service getty.target apt-daily.timer
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    fstrim.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service
    systemd-networkd.service systemd-resolved.service systemd-logind.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-pstore.service
    systemd-hwdb-update.service systemd-machine-id-commit.service systemd-firstboot.service
    modprobe@loop.service modprobe@dm_mod.service kmod-static-nodes.service
    proc-sys-fs-binfmt_misc.automount dev-hugepages.mount sys-kernel-tracing.mount
    sys-kernel-debug.mount dev-mqueue.mount modprobe@drm.service modprobe@fuse.service
    modprobe@configfs.service modprobe@efi_pstore.service systemd-random-seed.service
    systemd-sysusers.service
    """.split()
# They run at each boot and daemon-reload, a package's or `systemctl enable`'s; the one of fstab does
# something here.
GENERATORS = """systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator
    systemd-getty-generator systemd-gpt-auto-generator systemd-hibernate-resume-generator
    systemd-integritysetup-generator systemd-rc-local-generator systemd-run-generator
    systemd-system-update-generator systemd-sysv-generator systemd-veritysetup-generator
    """.split()


@dataclasses.dataclass(frozen=True)
class Image:
    directory: pathlib.Path

    @property
    def root(self):
        return self.directory / "root.img"

    @property
    def kernel(self):
        return self.directory / "vmlinuz"

    @property
    def ramdisk(self):
        return self.directory / "initrd"


def why_not():
    """Why no guest can be had on this machine, or ''."""
    if platform.machine() != "x86_64":
        return f"the guests are x86_64, this machine is {platform.machine()}"
    if _os_release().get("ID") != "debian":
        return "the guests' root filesystem is made by mmdebstrap: only on Debian"
    if os.geteuid() != 0:
        return "making a root filesystem needs root"
    for program in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4", "cpio"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return ""


def cache_directory():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    cache = cache / "mirrordisk" / "kernel-guest"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def get(more=()):
    """The image, made if it is not in the cache; takes a minute or two then. `more` are packages
    besides those that the tests need: an image of its own."""
    cache = cache_directory()
    packages = [*PACKAGES, *more]
    image = Image(cache / _key(packages))
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.directory.exists():
            _make(cache, image, packages)
        image.directory.touch()
        _sweep(cache)
    return image


def _sweep(cache):
    """Images and saved guests that nobody has used for long: those of other versions of this
    file."""
    for old in cache.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(old)


def _key(packages):
    """Of all that goes into the image."""
    parts = [LAYOUT, _suite(), packages, KERNEL, MODULES, ROOT_SIZE, INIT, FILES, MASKED,
             GENERATORS, (HERE / "agent.py").read_text(encoding="utf-8")]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _os_release():
    lines = pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _suite():
    return _os_release().get("VERSION_CODENAME", "")


def _sources():
    """Debian's own repositories as this machine's apt has them, as lines of a sources.list."""
    fields = "$(CREATED_BY)|$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listed = subprocess.run(["apt-get", "indextargets", "--format", fields], check=True,
                            capture_output=True, text=True).stdout
    lines = set()
    for target in listed.splitlines():
        created_by, origin, uri, release, component = target.split("|")
        if (created_by, origin, component) == ("Packages", "Debian", "main"):
            if release.split("-")[0] == _suite():
                lines.add(f"deb {uri} {release} {component}\n")
    return "".join(sorted(lines))


def _make(cache, image, packages):
    print("making the guests' root filesystem; it is kept in", cache, flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as made:
        made = pathlib.Path(made)
        made.chmod(0o755)
        root = made / "root"
        _install(root, made, packages)
        _configure(root)
        version = _take_kernel(root, made)
        _make_ramdisk(root, made, version)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, made / "root.img", ROOT_SIZE],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(root)
        result = made / "result"
        result.mkdir()
        for name in ("root.img", "vmlinuz", "initrd"):
            (made / name).rename(result / name)
        result.rename(image.directory)


def _install(root, made, packages):
    sources = made / "sources.list"
    sources.write_text(_sources(), encoding="ascii")
    proxies = subprocess.run(["apt-config", "dump", "--format", '%F "%v";%n',
                              "Acquire::http::Proxy", "Acquire::https::Proxy"],
                             check=True, capture_output=True, text=True).stdout
    options = [f"--aptopt={line}" for line in proxies.splitlines() if '""' not in line]
    excluded = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
    options += [f"--dpkgopt=path-exclude={path}" for path in excluded]
    options.append("--dpkgopt=force-unsafe-io")  # what is half made is thrown away
    log = made / "log"
    with open(log, "wb") as output:
        done = subprocess.run(
            ["mmdebstrap", "--variant=apt", "--include=" + ",".join(packages), *options,
             f"--customize-hook=cd {made} && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download "
             f'"$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends {KERNEL}'
             " | sed -n 's/.*Depends: //p')\"",
             _suite(), str(root), str(sources)], stdout=output, stderr=subprocess.STDOUT,
            check=False)
    if done.returncode != 0:
        raise RuntimeError("mmdebstrap failed:\n" + log.read_text(errors="replace")[-4000:])


def _configure(root):
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "usr/local/lib/test-agent.py").write_bytes((HERE / "agent.py").read_bytes())
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    generators = root / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for generator in GENERATORS:
        (generators / generator).symlink_to("/dev/null")
    for unit, targets in {"test-agent.service": ["sysinit"],
                          "test-network.service": ["network-online", "multi-user"]}.items():
        for target in targets:
            wanted = units / f"{target}.target.wants"
            wanted.mkdir(exist_ok=True)
            (wanted / unit).symlink_to(f"/etc/systemd/system/{unit}")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("", encoding="ascii")
    for kept in (root / "etc/dpkg/dpkg.cfg.d").glob("*mmdebstrap*"):
        kept.unlink()
    (root / "etc/modules-load.d").mkdir(exist_ok=True)


def _take_kernel(root, made):
    package = next(made.glob("linux-image-*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, made / "kernel"], check=True)
    vmlinuz = next((made / "kernel/boot").glob("vmlinuz-*"))
    version = vmlinuz.name.removeprefix("vmlinuz-")
    vmlinuz.rename(made / "vmlinuz")
    (root / "usr/lib/modules").mkdir(exist_ok=True)
    (made / "kernel/lib/modules" / version).rename(root / "usr/lib/modules" / version)
    subprocess.run(["depmod", "-b", root, version], check=True)
    return version


def _make_ramdisk(root, made, version):
    tree = made / "ramdisk"
    (tree / "modules").mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "busybox")
    listed = subprocess.run(["modprobe", "-d", root, "-S", version, "--show-depends", "--all",
                             *MODULES], check=True, capture_output=True, text=True).stdout
    modules = [pathlib.Path(line.split()[1]) for line in listed.splitlines()
               if line.startswith("insmod")]
    for path in modules:
        shutil.copy(path, tree / "modules")
    order = " ".join(dict.fromkeys(path.stem for path in modules))
    (tree / "init").write_text(INIT.format(modules=order), encoding="ascii")
    (tree / "init").chmod(0o755)
    (tree / "bin").mkdir()
    (tree / "bin/sh").symlink_to("/busybox")
    with open(made / "initrd", "wb") as archive:
        subprocess.run("find . | cpio --quiet -o -H newc", shell=True, cwd=tree, stdout=archive,
                       check=True)

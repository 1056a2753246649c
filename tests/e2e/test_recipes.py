# SPDX-License-Identifier: BSD-3-Clause
"""docs/recipes.md, and the examples for Ansible and cloud-init, as far as they can be run here."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree

import nbd
import pytest

from lib import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
ROLE = ROOT / "packaging/examples/ansible/roles/mirrordisk"
PLAY = ROOT / "packaging/examples/ansible/site.yml"
CLOUD_INIT = ROOT / "packaging/examples/cloud-init.yaml"
MIB = 1024 * 1024


def blocks(kind, below=None):
    """The code blocks of that kind, of the page or of one heading."""
    text = PAGE if below is None else PAGE.partition(f"\n## {below}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# -- the page ----------------------------------------------------------------------------------------


def test_every_script_of_the_page_is_one():
    scripts = blocks("sh")
    assert len(scripts) >= 8
    for script in scripts:
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        if script.startswith("#!") and shutil.which("shellcheck"):
            # SC2015: "a && b || c" is meant as it stands.
            done = subprocess.run(["shellcheck", "--exclude=SC2015", "-"], input=script,
                                  capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{script}\n{done.stdout}"


def test_the_configurations_of_the_page_are_accepted(cluster):
    for number, text in enumerate(blocks("toml")):
        [(name, keys)] = tomllib.loads(text)["volume"].items()
        assert name == "r0"
        good = cluster.alpha.config.read_text(encoding="utf-8")
        known = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()
                        if key != "io_group")  # a group of other machines
        file = cluster.alpha.directory / f"recipe-{number}.toml"
        file.write_text(good.rstrip("\n") + "\n" + known, encoding="utf-8")
        said = cluster.alpha.ctl("check", "--config", file, check=False)
        assert "no mistakes" in said.out, str(said)


def qemu_io(image):
    """Writes a pattern at 1 MiB, and reads it again."""
    for command in ("write -P 0x5a 1M 64k", "flush", "read -P 0x5a 1M 64k"):
        done = subprocess.run(["qemu-io", "-c", command, image], capture_output=True,
                              text=True, check=False, timeout=60)
        assert done.returncode == 0 and "fail" not in done.stdout, done.stdout + done.stderr


def by_the_disk_of_libvirt(run_dir, text):
    disk = ElementTree.fromstring(text)
    source = disk.find("source")
    socket = pathlib.Path(source.find("host").attrib["socket"])
    assert disk.attrib["type"] == "network" and socket.parent == pathlib.Path("/run/mirrordisk")
    return "json:" + json.dumps({
        "driver": disk.find("driver").attrib["type"],
        "file": {"driver": source.attrib["protocol"],
                 "server": {"type": source.find("host").attrib["transport"],
                            "path": str(run_dir / socket.name)}}})


def by_arguments_for_qemu(run_dir, text):
    space = "{http://libvirt.org/schemas/domain/qemu/1.0}"
    arguments = [each.attrib["value"] for each in ElementTree.fromstring(text).iter(f"{space}arg")]
    assert arguments[0::2] == ["-blockdev", "-device"] and "drive=r0" in arguments[3]
    keys = dict(part.split("=", 1) for part in arguments[1].split(","))
    assert keys.pop("node-name") == "r0"
    keys["server.path"] = str(run_dir / pathlib.Path(keys["server.path"]).name)
    return "json:" + json.dumps(keys | {"reconnect-delay": int(keys["reconnect-delay"])})


@pytest.mark.parametrize("number, image_of", enumerate([by_the_disk_of_libvirt, by_arguments_for_qemu]))
def test_qemu_uses_the_volume_by_what_the_guests_xml_says(cluster, number, image_of):
    texts = blocks("xml")
    assert len(texts) == 2
    qemu_io(image_of(cluster.alpha.run_dir, texts[number]))
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    with cluster.backing(cluster.beta).open("rb") as replica:
        replica.seek(MIB)
        assert replica.read(64 * 1024) == b"\x5a" * 64 * 1024


def test_the_address_moves_with_the_volume(tmp_path):
    [hook] = blocks("sh", "An address that moves with the volume")
    file = tmp_path / "90-address"
    file.write_text(hook, encoding="utf-8")
    file.chmod(0o700)
    shown = "ip -oneline address show dev lo to 192.0.2.10"
    script = f"""set -eu
ip link set lo up
for occasion in after-promote demote-cancelled; do
    {file} $occasion
    [ -n "$({shown})" ]
done
MIRRORDISK_VOLUME=other {file} before-demote
[ -n "$({shown})" ]
for occasion in before-demote after-demote; do
    {file} $occasion
    [ -z "$({shown})" ]
done
"""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "MIRRORDISK_VOLUME": "r0", "INTERFACE": "lo"}, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip("no network namespace can be made here")
    assert done.returncode == 0, done.stdout + done.stderr


def write(node, byte):
    handle = nbd.NBD()
    handle.connect_uri(node.uri())
    for offset in range(0, 8 * MIB, MIB):
        handle.pwrite(bytes([byte]) * MIB, offset)
    handle.flush()
    handle.shutdown()


def first_bytes(node, count=8 * MIB):
    handle = nbd.NBD()
    handle.connect_uri(node.uri())
    found = b"".join(bytes(handle.pread(MIB, offset)) for offset in range(0, count, MIB))
    handle.shutdown()
    return found


def test_a_snapshot_taken_before_a_resync_is_a_way_back(cluster):
    alpha, beta = cluster.alpha, cluster.beta
    write(alpha, 1)
    beta.kill_everything()
    cluster.wait_state(alpha, "broken")
    write(alpha, 2)
    # As the recipe does it with lvcreate and cp -a.
    kept = cluster.directory / "kept"
    kept.mkdir()
    shutil.copy2(cluster.backing(beta), kept / "r0.img")
    shutil.copytree(beta.state_dir / "r0", kept / "r0")
    beta.start()
    cluster.wait_in_sync(alpha)
    alpha.kill_everything()
    beta.kill_everything()
    # lvconvert --merge, and the folder in place of the other.
    shutil.copy2(kept / "r0.img", cluster.backing(beta))
    shutil.rmtree(beta.state_dir / "r0")
    shutil.copytree(kept / "r0", beta.state_dir / "r0")
    beta.start()
    plain = beta.ctl("promote", "r0", check=False)
    assert plain.code == 1, str(plain)
    priced = beta.ctl("promote", "r0", "--force", "--dry-run")
    assert "loss" in priced.out, str(priced)
    beta.ctl("promote", "r0", "--force", "--yes")
    assert first_bytes(beta) == b"\x01" * 8 * MIB
    alpha.start()
    cluster.wait_state(beta, "diverged")
    beta.ctl("resolve", "r0", "--keep", "beta", "--yes")
    cluster.wait_in_sync(beta)
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


# -- Ansible and cloud-init --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def yaml():
    return pytest.importorskip("yaml", reason="python3-yaml is not installed")


def check_config(tmp_path, text):
    file = tmp_path / "mirrordisk.toml"
    file.touch(0o600)
    file.write_text(text, encoding="utf-8")
    done = subprocess.run([str(environment.MIRRORCTL), "check", "--config", str(file), "--node",
                           "alpha"], capture_output=True, text=True, check=False, timeout=60)
    assert "no mistakes" in done.stdout, f"{text}\n{done.stdout}{done.stderr}"


def test_the_role_writes_a_configuration_that_is_accepted(yaml, tmp_path):
    jinja2 = pytest.importorskip("jinja2", reason="python3-jinja2 is not installed")
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    [play] = yaml.safe_load(PLAY.read_text(encoding="utf-8"))
    world = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined,
                               keep_trailing_newline=True)
    world.filters["to_json"] = json.dumps
    template = world.from_string((ROLE / "templates/mirrordisk.toml.j2").read_text(encoding="utf-8"))
    text = template.render(defaults | play["vars"])
    check_config(tmp_path, text)
    read = tomllib.loads(text)
    assert read["volume"]["r0"]["backing"] == {"alpha": "/srv/r0.img", "beta": "/srv/r0.img"}
    check_config(tmp_path, template.render(
        defaults | play["vars"] | {"mirrordisk_settings": {"control_group": "root"}}))


def test_the_role_is_what_ansible_reads(yaml):
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text(encoding="utf-8"))
    handlers = yaml.safe_load((ROLE / "handlers/main.yml").read_text(encoding="utf-8"))
    for task in tasks + handlers:
        modules = [key for key in task if key.startswith("ansible.builtin.")]
        assert len(modules) == 1 and task["name"], task
        # A command says itself whether it changes something.
        if modules == ["ansible.builtin.command"]:
            command = task["ansible.builtin.command"]
            assert "creates" in command or "changed_when" in task or "when" in task, task
    told = {task["notify"] for task in tasks if "notify" in task}
    assert told == {handler["name"] for handler in handlers}


def test_no_key_is_shown_by_the_role(yaml):
    for task in yaml.safe_load((ROLE / "tasks/main.yml").read_text(encoding="utf-8")):
        if "cluster.psk" in json.dumps(task) and "keygen" not in json.dumps(task.get(
                "ansible.builtin.command", "")):
            assert task["no_log"] is True, task


def test_what_the_role_goes_by_makes_a_volume_once(make_cluster, yaml):
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text(encoding="utf-8"))
    commands = [task["ansible.builtin.command"]["cmd"] for task in tasks
                if "ansible.builtin.command" in task]
    look = next(command for command in commands if " status " in command)
    make = next(command for command in commands if " create " in command)
    cluster = make_cluster().start()

    def state():
        words = look.replace("{{ item.key }}", "r0").split()[1:]
        return json.loads(cluster.alpha.ctl(*words, check=False).out)["volumes"][0]["state"]
    assert state() == "new"
    cluster.alpha.ctl(*make.replace("{{ item.item.key }}", "r0").split()[1:])
    assert state() != "new"
    assert cluster.alpha.ctl("create", "r0", check=False).code == 1
    cluster.alpha.ctl("check")
    cluster.assert_replicas_equal()


def test_a_first_boot_by_cloud_init_writes_a_configuration_that_is_accepted(yaml, tmp_path):
    text = CLOUD_INIT.read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    data = yaml.safe_load(text)
    [file] = data["write_files"]
    assert file["path"] == "/etc/mirrordisk/mirrordisk.toml" and file["permissions"] == "0644"
    check_config(tmp_path, file["content"])
    assert all(isinstance(word, str) for command in data["runcmd"] for word in command)


def test_mirrord_starts_without_keys_as_on_a_first_boot(make_cluster):
    cluster = make_cluster(tls="psk")
    cluster.alpha.key_file.unlink()
    cluster.alpha.start()
    checked = cluster.alpha.ctl("check", "--json", check=False)
    assert "keygen" in json.dumps(checked.json), str(checked)

# SPDX-License-Identifier: BSD-3-Clause
"""What the packages put where, and whether it works from there."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

UNITS = ["mirrord.service", "mirrordisk@.service", "mirrordisk-shutdown.service",
         "mirrordisk-verify.service", "mirrordisk-verify.timer"]
ESSENTIALS = [
    "/s?bin/mirrord", "/s?bin/mirrorctl", "/nbdkit/plugins/nbdkit-mirror-plugin.so",
    *(f"/lib/systemd/system/{re.escape(unit)}" for unit in UNITS),
    "/usr/lib/modules-load.d/mirrordisk.conf", "/usr/lib/firewalld/services/mirrordisk.xml",
    "/usr/libexec/mirrordisk/package-steps", "/etc/mirrordisk/hooks.d/README",
    "/etc/mirrordisk/events.d/README", "/event-mail", "/event-webhook",
    "/bash-completion/completions/mirrorctl", "/zsh/(site-functions|vendor-completions)/_mirrorctl",
    "/fish/vendor_completions.d/mirrorctl.fish", "/man8/mirrorctl.8.gz", "/man8/mirrord.8.gz",
    "/man5/mirrordisk.toml.5.gz", "/man7/mirrordisk-protocol.7.gz", "/man1/nbdkit-mirror-plugin.1.gz",
    "/mirrordisk.toml", "/hardened.conf", "/unprivileged.conf", "/report-failure.conf",
    "/mirrordisk-report@.service", "/apparmor/mirrordisk", "/selinux/mirrordisk.te",
    "/selinux/mirrordisk.fc", "/recipes.md(.gz)?", "/ansible/site.yml",
    "/ansible/roles/mirrordisk/tasks/main.yml", "/cloud-init.yaml", "/README.md(.gz)?",
    "/first-setup.md(.gz)?", "/promises.md(.gz)?", "/status-fields.md(.gz)?",
    "/scenarios.md(.gz)?", "/SECURITY.md(.gz)?",
]


@pytest.mark.parametrize("path", ESSENTIALS)
def test_the_packages_have(installed_machine, path):
    listed = installed_machine.file_list()
    assert any(re.search(path + "$", line) for line in listed), "\n".join(listed)


def test_state_is_for_its_owner_alone_from_the_beginning(installed_machine):
    found = installed_machine.scratch.must("stat", "-c", "%a %U %F", "/var/lib/mirrordisk")
    assert found.strip() == "700 root directory"


def test_no_program_is_run_by_having_been_installed(installed_machine):
    assert "mirrord" not in installed_machine.scratch.must(
        "sh", "-c", "cat /proc/[0-9]*/comm")


def test_the_programs_run(installed_machine):
    scratch = installed_machine.scratch
    assert re.match(r"mirrord \d", scratch.must("mirrord", "--version"))
    assert re.match(r"mirrorctl \d", scratch.must("mirrorctl", "--version"))
    # The path with which mirrord starts an engine is compiled into it.
    [plugin] = [line for line in installed_machine.file_list() if line.endswith("plugin.so")]
    assert "name=mirror" in scratch.must("nbdkit", plugin, "--dump-plugin").splitlines()
    scratch.must("grep", "-qF", plugin, scratch.must("sh", "-c", "command -v mirrord").strip())


def test_nbdkit_finds_the_plugin_of_the_deb_by_name(installed_machine):
    if installed_machine.kind != "deb":
        pytest.skip("the rpm's plugin is where Fedora's nbdkit looks")
    scratch = installed_machine.scratch
    assert "name=mirror" in scratch.must("nbdkit", "mirror", "--dump-plugin").splitlines()


def test_the_daemon_starts_at_boot_and_the_monthly_comparison_only_on_request(installed_machine):
    if installed_machine.kind != "deb":
        pytest.skip("systemctl preset needs Fedora's presets")
    wanted = installed_machine.scratch.must("sh", "-c", "ls /etc/systemd/system/*.wants")
    assert "mirrord.service" in wanted
    assert "mirrordisk" not in wanted


def test_systemd_finds_no_mistake_in_the_units(installed_machine):
    units = [unit.replace("@.", "@r0.") for unit in UNITS]
    said = installed_machine.scratch.run("systemd-analyze", "verify", "--man=no", *units)
    ours = [line for line in said.stdout.splitlines() if "mirror" in line]
    assert said.returncode == 0 and not ours, said.stdout


@pytest.mark.parametrize("example", ["hardened.conf", "unprivileged.conf"])
def test_systemd_finds_no_mistake_in_the_examples_for_the_unit(installed_machine, example):
    scratch = installed_machine.scratch
    scratch.must("sh", "-c", "mkdir -p /etc/systemd/system/mirrord.service.d; "
                 f"cp $(find /usr/share/doc/mirrordisk* -name {example}) /etc/systemd/system/mirrord.service.d/")
    said = scratch.run("systemd-analyze", "verify", "--man=no", "mirrord.service")
    scratch.must("rm", "-r", "/etc/systemd/system/mirrord.service.d")
    ours = [line for line in said.stdout.splitlines() if "mirror" in line]
    assert said.returncode == 0 and not ours, said.stdout


def test_systemd_finds_no_mistake_in_the_example_that_reports_a_failure(installed_machine):
    scratch = installed_machine.scratch
    scratch.must("sh", "-c", "cd /etc/systemd/system; mkdir -p mirrordisk-verify.service.d; "
                 "cp $(find /usr/share/doc/mirrordisk* -name report-failure.conf) mirrordisk-verify.service.d/; "
                 "cp $(find /usr/share/doc/mirrordisk* -name 'mirrordisk-report@.service') .")
    said = scratch.run("systemd-analyze", "verify", "--man=no", "mirrordisk-verify.service",
                       "mirrordisk-report@mirrordisk-verify.service.service")
    scratch.must("sh", "-c", "cd /etc/systemd/system; rm -r mirrordisk-verify.service.d mirrordisk-report@.service")
    ours = [line for line in said.stdout.splitlines() if "mirror" in line]
    assert said.returncode == 0 and not ours, said.stdout


def test_a_mirrord_that_hangs_is_ended_by_the_watchdog(installed_machine):
    show = installed_machine.scratch.must(
        "sh", "-c", "cat /lib/systemd/system/mirrord.service /usr/lib/systemd/system/mirrord.service "
        "2>/dev/null || :")
    assert {"WatchdogSec=2min", "Type=notify", "Restart=always"} <= set(show.splitlines())


def test_the_daemons_unit_has_no_option_that_hides_its_mounts(installed_machine):
    show = installed_machine.scratch.must(
        "sh", "-c", "cat /lib/systemd/system/mirrord.service /usr/lib/systemd/system/mirrord.service "
        "2>/dev/null || :")
    options = {line.partition("=")[0] for line in show.splitlines() if re.match("[A-Z]", line)}
    assert "KillMode" in options
    hiding = re.compile("Private|Protect|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root|Exec"
                        "Paths|Dynamic|NoNewPrivileges|RuntimeDirectory")
    assert not [option for option in options if hiding.match(option)]


def test_the_firewalld_service_names_the_port(installed_machine):
    text = installed_machine.scratch.must("cat", "/usr/lib/firewalld/services/mirrordisk.xml")
    port = ElementTree.fromstring(text).find("port")
    assert port.attrib == {"protocol": "tcp", "port": "10809"}

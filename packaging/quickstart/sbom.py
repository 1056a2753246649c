#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes which libraries the packages were built with, as a CycloneDX bill of materials.

    sbom.py --output FILE --version VERSION PACKAGE.deb|PACKAGE.rpm…

The programs in the packages are looked at: the libraries that they load, direct or not, and the
distribution's packages that these are from. What consists of headers alone is compiled in, and
found in no program: it is in a list here. Run on the machine that has built the packages. The
same packages on the same machine give the same file.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import uuid

# Compiled in: (the header that shows where the package is).
COMPILED_IN = ["CLI/CLI.hpp", "nlohmann/json.hpp", "tl/expected.hpp", "toml++/toml.h"]
# Started, not linked.
STARTED = ["nbdkit"]


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    return done.stdout if done.returncode == 0 else ""


class Debian:
    """Versions are those of source packages: security notices name these."""

    def __init__(self):
        release = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
        self._distribution = re.search(r'^ID="?([\w-]+)', release, re.MULTILINE)[1]

    @staticmethod
    def owners(paths):
        """The packages that these are from. One question: dpkg reads all its lists for each. It
        knows some files by their path before /bin and /lib became links to those in /usr."""
        known = {os.path.realpath(path) for path in paths}
        known |= {path.removeprefix("/usr") for path in known}
        done = subprocess.run(["dpkg-query", "-S", *sorted(known)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
        return {line.split(": ")[0].split(",")[0] for line in done.stdout.splitlines()
                if not line.startswith("diversion ")}

    def component(self, package):
        form = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}"
        name, version, architecture, source, source_version = output_of(
            "dpkg-query", "-W", "-f", form, package).split("\t")
        return name, version, f"pkg:deb/{self._distribution}/{name}@{version}?arch={architecture}", {
            "source": source, "source_version": source_version}


class Rpm:
    @staticmethod
    def owners(paths):
        found = [output_of("rpm", "-qf", "--qf", "%{NAME}\n", os.path.realpath(path)) for path in paths]
        return {name.strip() for name in found if name}

    @staticmethod
    def component(package):
        form = "%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}"
        name, version, architecture, source = output_of("rpm", "-q", "--qf", form, package).split("\t")
        return name, version, f"pkg:rpm/{name}@{version}?arch={architecture}", {"source": source}


def unpack(package, folder):
    if package.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    else:
        content = subprocess.run(["rpm2cpio", package], check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["cpio", "-id", "--quiet"], cwd=folder, input=content, check=True)


def programs_in(folder):
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def libraries_of(program):
    """Paths of all that is loaded with it."""
    return re.findall(r"(?:=> )?(/\S+) \(0x", output_of("ldd", str(program)))


def used_files(packages):
    used = set()
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            unpack(package, folder)
            for program in programs_in(folder):
                used.update(libraries_of(program))
    return used


def include_path(header):
    for folder in ("/usr/include", "/usr/local/include"):
        if os.path.exists(f"{folder}/{header}"):
            return f"{folder}/{header}"
    return None


def entries(system, packages):
    """The packages of the distribution, each with how it is used."""
    files = {"linked": used_files(packages), "compiled in": map(include_path, COMPILED_IN),
             "started": map(shutil.which, STARTED)}
    how = {package: use for use, paths in files.items()
           for package in system.owners([path for path in paths if path])}
    for package in sorted(how):
        name, version, purl, properties = system.component(package)
        yield {"type": "library" if how[package] != "started" else "application",
               "bom-ref": purl, "name": name, "version": version, "purl": purl,
               "properties": [{"name": f"mirrordisk:{key}", "value": value}
                              for key, value in {"use": how[package], **properties}.items()]}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def document(version, packages, components):
    ref = f"mirrordisk@{version}"
    made = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
                                           datetime.timezone.utc)
    content = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application", "bom-ref": ref, "name": "mirrordisk", "version": version,
                "licenses": [{"license": {"id": "BSD-3-Clause"}}],
                "components": [
                    {"type": "file", "bom-ref": package.name, "name": package.name,
                     "hashes": [{"alg": "SHA-256", "content": digest(package)}]}
                    for package in packages]}},
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": [part["bom-ref"] for part in components]}],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {"serialNumber": f"urn:uuid:{number}", **content}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("packages", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    system = Debian() if shutil.which("dpkg-query") and output_of("dpkg-query", "-W", "libc6") else Rpm()
    packages = sorted(options.packages)
    components = list(entries(system, packages))
    if not components:
        sys.exit("sbom.py: no library of the packages belongs to a package of this machine")
    text = json.dumps(document(options.version, packages, components), indent=2) + "\n"
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

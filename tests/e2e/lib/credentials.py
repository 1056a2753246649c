# SPDX-License-Identifier: BSD-3-Clause
"""Keys and certificates of test clusters, and how a stock client shows them."""

import collections
import contextlib
import datetime
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import urllib.parse

import nbd

# What is needed to connect to a node as a peer: of a Node, for another process.
Door = collections.namedtuple("Door", "address tls key_file")

def _moment(seconds):
    """So far from now, as certtool reads it."""
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return then.strftime("%Y-%m-%d %H:%M:%S UTC")


CERTTOOL = ("certtool", "--sec-param", "medium")


def write_key(path, name=None, secret=None):
    """A file with one key, as `mirrorctl keygen` makes it."""
    name = name or f"test-{secrets.token_hex(3)}"
    path.write_text(f"{name}:{secret or secrets.token_hex(32)}\n", encoding="ascii")
    path.chmod(0o600)


def key_name(path):
    """Of the key that is used."""
    lines = [line for line in path.read_text(encoding="ascii").splitlines()
             if line and not line.startswith("#")]
    return lines[0].split(":")[0]


class Authority:
    """A CA in a directory, which signs certificates of nodes."""

    def __init__(self, directory, name="test CA"):
        self._use(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._certtool("--generate-privkey", "--outfile", self._key)
        template = self._template("ca", f'cn = "{name}"\nca\ncert_signing_key\nexpiration_days = 3\n')
        self._certtool("--generate-self-signed", "--load-privkey", self._key, "--template",
                       template, "--outfile", self.certificate)

    @classmethod
    def at(cls, directory):
        """The one that was made there."""
        found = cls.__new__(cls)
        found._use(directory)
        return found

    def _use(self, directory):
        self.directory = directory
        self._key, self.certificate = directory / "ca-key.pem", directory / "ca-cert.pem"

    def sign(self, directory, node, name=None, expired=False, purposes=("client", "server"),
             seconds=None):
        """NODE-cert.pem and NODE-key.pem in `directory`, for `name`, beside the CA's; good for
        so many seconds."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca-cert.pem").write_bytes(self.certificate.read_bytes())
        key, certificate = directory / f"{node}-key.pem", directory / f"{node}-cert.pem"
        self._certtool("--generate-privkey", "--outfile", key)
        key.chmod(0o600)
        lines = [f'cn = "{name or node}"', f'dns_name = "{name or node}"', "signing_key",
                 "encryption_key", *(f"tls_www_{purpose}" for purpose in purposes)]
        lines += (['activation_date = "2020-01-01 00:00:00"',
                   'expiration_date = "2020-01-02 00:00:00"'] if expired
                  else [f'expiration_date = "{_moment(seconds)}"'] if seconds
                  else ["expiration_days = 2"])
        template = self._template(f"{node}-{name}", "\n".join(lines) + "\n")
        self._certtool("--generate-certificate", "--load-privkey", key, "--load-ca-certificate",
                       self.certificate, "--load-ca-privkey", self._key, "--template", template,
                       "--outfile", certificate)

    @classmethod
    def at(cls, directory):
        """The one that was made there."""
        made = cls.__new__(cls)
        made.directory = directory
        made._key, made.certificate = directory / "ca-key.pem", directory / "ca-cert.pem"
        return made

    def revoke_none(self, path, expired=False):
        """A list of revoked certificates without one."""
        text = "expiration_days = 2\ncrl_number = 1\n"
        if expired:
            text = ('crl_this_update_date = "2020-01-01 00:00:00"\n'
                    'crl_next_update_date = "2020-01-02 00:00:00"\ncrl_number = 1\n')
        self._certtool("--generate-crl", "--load-ca-certificate", self.certificate,
                       "--load-ca-privkey", self._key, "--template", self._template("crl", text),
                       "--outfile", path)

    def revoke(self, directory, certificate):
        """ca-crl.pem in `directory`, with that certificate in it."""
        template = self._template("crl", "crl_next_update = 2\ncrl_number = 1\n")
        fresh = directory / "ca-crl.new"
        self._certtool("--generate-crl", "--load-ca-privkey", self._key, "--load-ca-certificate",
                       self.certificate, "--load-certificate", certificate, "--template", template,
                       "--outfile", fresh)
        fresh.rename(directory / "ca-crl.pem")

    def _template(self, name, text):
        path = self.directory / f"{name}.template"
        path.write_text(text, encoding="utf-8")
        return path

    @staticmethod
    def _certtool(*arguments):
        subprocess.run([*CERTTOOL, *map(str, arguments)], check=True, capture_output=True)


def show(handle, node, key_file=None):
    """Has a libnbd handle prove itself to that node."""
    if node.tls == "psk":
        key_file = key_file or node.key_file
        handle.set_tls(nbd.TLS_REQUIRE)
        handle.set_tls_psk_file(str(key_file))
        handle.set_tls_username(key_name(key_file))


def uri(node, export):
    """For nbdinfo, nbdcopy and fio."""
    quoted = urllib.parse.quote(export, safe="@/")
    if node.tls == "off":
        return f"nbd://{node.address}/{quoted}"
    return (f"nbds://{key_name(node.key_file)}@{node.address}/{quoted}"
            f"?tls-psk-file={node.key_file}")


def _parts(uri):
    """(address, export, key's name, key's file) of such a URI; None for anything else."""
    parsed = urllib.parse.urlsplit(str(uri))
    if parsed.scheme not in ("nbd", "nbds"):
        return None
    query = dict(urllib.parse.parse_qsl(parsed.query))
    export = urllib.parse.unquote(parsed.path.lstrip("/"))
    return (f"{parsed.hostname}:{parsed.port}", export, parsed.username, query.get("tls-psk-file"))


@contextlib.contextmanager
def for_qemu(*uris):
    """The words that give QEMU's tools the key of such a URI: they take a directory."""
    keyed = [parts for parts in map(_parts, uris) if parts and parts[3]]
    if not keyed:
        yield []
        return
    with tempfile.TemporaryDirectory() as directory:
        target = pathlib.Path(directory) / "keys.psk"
        shutil.copy2(keyed[0][3], target)
        yield ["--object", f"tls-creds-psk,id=key,endpoint=client,dir={directory},"
                           f"username={keyed[0][2]}"]


def image_options(uri):
    """A file, or an NBD URI, for --image-opts."""
    parts = _parts(uri)
    if parts:
        host, port = parts[0].rsplit(":", 1)
        key = ",tls-creds=key" if parts[3] else ""
        return (f"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host={host},"
                f"file.server.port={port},file.export={parts[1]}{key.replace(',', ',file.')}")
    if str(uri).startswith("nbd+unix:"):
        parsed = urllib.parse.urlsplit(str(uri))
        path = dict(urllib.parse.parse_qsl(parsed.query))["socket"]
        return (f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={path},"
                f"file.export={parsed.path.lstrip('/')}")
    return f"driver=raw,file.driver=file,file.filename={uri}"

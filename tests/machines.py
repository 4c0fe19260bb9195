"""Several machines on one: a Redis with TLS and users, and a network namespace with its own link.

The namespace has its own addresses and routes and reaches this machine over one virtual cable,
which can be cut. Needs root and iproute2; Redis is Debian's, because the bundled one has no TLS.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.config import PROJECT_DIR
from shared.connection import connect

USERS = PROJECT_DIR / "deploy" / "redis" / "users.acl"


def require(program: str, package: str) -> str:
    """The path of a program; skips by name where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program}: install it (on Debian: apt-get install {package})")
    return found


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Link:
    """A network namespace and its cable to this machine."""

    namespace: str
    cable: str
    here: str  # this machine's address on the cable

    def inside(self, command: list[str]) -> list[str]:
        """The command line that runs a command in the namespace."""
        return ["nsenter", f"--net=/var/run/netns/{self.namespace}", *command]

    def cut(self) -> None:
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        _ip("link", "set", self.cable, "up")


@contextmanager
def link() -> Iterator[Link]:
    """Make a namespace; skips by name where this user or system may not."""
    require("ip", "iproute2")
    name = f"moodline-{secrets.token_hex(3)}"
    cable = f"ml{secrets.token_hex(4)}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        net = f"10.{secrets.randbelow(50) + 200}.{secrets.randbelow(250)}"
        try:
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"virtual cables cannot be made here: {error.stderr.strip()}")
        _ip("address", "add", f"{net}.1/24", "dev", cable)
        _ip("link", "set", cable, "up")
        for command in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{net}.2/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            _ip("-n", name, *command)
        yield Link(name, cable, f"{net}.1")
    finally:
        _ip("netns", "del", name)  # its end of the cable goes with it, and so does ours


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@dataclass(frozen=True)
class TlsRedis:
    """A Redis that speaks TLS alone, with the users of ``deploy/redis/users.acl``."""

    host: str
    port: int
    ca: Path
    password: str

    def url(self, role: str) -> str:
        address = f"{self.host}:{self.port}/0?ssl_ca_certs={self.ca}"
        user = role if role == "admin" else f"moodline-{role}"
        return f"rediss://{user}:{self.password}@{address}"

    @contextmanager
    def admin(self) -> Iterator[redis.Redis]:
        client = redis.Redis.from_url(self.url("admin"), decode_responses=True)
        try:
            yield client
        finally:
            client.close()

    def refusals(self) -> list[str]:
        """What users asked for and may not, as ``user: command or key``."""
        with self.admin() as client:
            return sorted(
                {
                    f"{row['username']}: {row['object']} ({row['context']})"
                    for row in client.acl_log()
                }
            )


@contextmanager
def tls_redis(folder: Path, host: str) -> Iterator[TlsRedis]:
    """Run Debian's Redis on `host`, with certificates of its own."""
    binary = require("redis-server", "redis-server")
    folder.mkdir(parents=True)
    certificates(folder, host)
    password = secrets.token_hex(16)
    users = folder / "users.acl"
    lines = USERS.read_text().splitlines()
    users.write_text(
        "\n".join(
            line if line.startswith("user default ") else line.replace(" off ", f" on >{password} ")
            for line in lines
        )
        + "\n"
    )
    port = free_port()
    command = [
        *(binary, "--port", "0", "--tls-port", str(port), "--bind", host),
        *("--tls-cert-file", str(folder / "server.pem")),
        *("--tls-key-file", str(folder / "server.key")),
        *("--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-auth-clients", "no"),
        *("--aclfile", str(users), "--save", "", "--appendonly", "no"),
        *("--tcp-keepalive", "10", "--dir", str(folder)),
    ]
    server = TlsRedis(host, port, folder / "ca.pem", password)
    with process(command, folder / "redis.log"):

        def answers() -> bool:
            client = connect(server.url("admin"))
            with contextlib.suppress(redis.ConnectionError), contextlib.closing(client):
                return bool(client.ping())
            return False

        wait_until(answers, 10, "Redis with TLS")
        yield server


def certificates(folder: Path, host: str) -> None:
    """Write ca.pem, and server.pem with server.key for `host`, good for a day."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Moodline's test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    server = (
        builder(name, key.public_key())
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def process(
    command: list[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the block lasts; `environment` alone is what it sees."""
    with log.open("ab") as out:
        running = subprocess.Popen(
            command,
            cwd=PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=None if environment is None else {"PATH": os.environ["PATH"], **environment},
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def part(*arguments: str) -> list[str]:
    """The command line of a part of Moodline."""
    return [sys.executable, "-m", "moodline", *arguments]

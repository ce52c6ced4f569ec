"""The S3 server of the local stack: seaweedfs, with credentials on every port."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deployments.local.credentials import Credentials, write_private
from deployments.local.ports import HOST
from deployments.local.program import Program
from tasks.bucket.log_store import PREFIX

AUTHORITY = "authority.pem"  # file of the certificate
NAME = "object-store"
BUCKET = "models"
S3_PORT = "s3"
PORTS = (
    S3_PORT,
    "s3-grpc",
    "s3-master",
    "s3-master-grpc",
    "s3-volume",
    "s3-volume-grpc",
    "s3-filer",
    "s3-filer-grpc",
    "s3-admin",
)
# seaweedfs takes the port 10,000 above this one too, whatever it is told.
COMPANIONS = {"s3-admin": 10_000}

_PUT = "put-predictions"
_ROLES = ("volume", "master", "filer", "s3", "admin", "worker", "client")
_LIFETIME = datetime.timedelta(days=3650)


def program(bin_folder: Path, folder: Path, ports: Mapping[str, int]) -> Program:
    """Describe the S3 server.

    Args:
        bin_folder: Folder of its executable.
        folder: The folder of `prepare`; also its working directory.
        ports: Its ports, by name.
    """
    return Program(
        name=NAME,
        argv=(
            str(bin_folder / "weed"),
            "-logtostderr",
            "mini",
            "-dir=data",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-disableHttp",  # of master and filer, who know no credentials
            "-s3.config=identities.json",
            "-s3.iam=false",
            f"-bucket={BUCKET}",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3-grpc']}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.localSocket=s3.sock",
            f"-master.port={ports['s3-master']}",
            f"-master.port.grpc={ports['s3-master-grpc']}",
            f"-volume.port={ports['s3-volume']}",
            f"-volume.port.grpc={ports['s3-volume-grpc']}",
            f"-filer.port={ports['s3-filer']}",
            f"-filer.port.grpc={ports['s3-filer-grpc']}",
            "-filer.localSocket=filer.sock",
            "-webdav=false",
            "-admin.ui=false",
            f"-admin.port={ports['s3-admin']}",
        ),
        directory=folder,
        # It holds 250 MB of buffers as soon as it was written to. Nearer to that, it would collect
        # garbage all the time: a tenth of a core, for nothing.
        environment={"GOMEMLIMIT": "384MiB"},
        health=f"http://{HOST}:{ports['s3']}/healthz",
        priority=10,
    )


def prepare(folder: Path, credentials: Credentials) -> None:
    """Write what the S3 server reads at its start: identities, signing keys, certificates.

    Without them its other ports would let every user of this machine read and write every object:
    HTTP calls between its parts are signed, gRPC calls need a certificate of this stack.

    Args:
        folder: Folder of the server.
        credentials: The secrets of the stack.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    actions = ("Read", "List")
    identities: list[dict[str, object]] = [
        {
            "name": name,
            "credentials": [{"accessKey": identity.key_id, "secretKey": identity.secret}],
            "actions": [f"{action}:{BUCKET}" for action in allowed],
        }
        for name, identity, allowed in (
            ("read-write", credentials.read_write, (*actions, "Write", "Tagging")),
            ("read", credentials.read, actions),
        )
    ]
    # A policy, unlike an action, tells putting from deleting.
    identities.append({
        "name": _PUT,
        "credentials": [{"accessKey": credentials.put.key_id, "secretKey": credentials.put.secret}],
        "actions": [],
        "policyNames": [_PUT],
    })  # fmt: skip
    statement = {
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{BUCKET}/{PREFIX}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    content = {"identities": identities, "policies": [{"name": _PUT, "content": policy}]}
    write_private(folder / "identities.json", json.dumps(content, indent=2))
    if not (folder / "certificate.pem").exists():
        _write_certificates(folder)
    write_private(folder / "security.toml", _security(folder, credentials.signing))


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the Unix sockets that a killed S3 server left in the folder for temporary files.

    Args:
        ports: Its ports, by name; it names the sockets after them.
    """
    grpc = [port for name, port in ports.items() if name in PORTS and name.endswith("-grpc")]
    grpc.append(ports["s3-admin"] + COMPANIONS["s3-admin"])
    # Hard-coded in seaweedfs. Only their owner can open them: supervisord's umask sees to it.
    for folder in {Path("/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108
        for port in grpc:
            for socket in folder.glob(f"seaweedfs-*-grpc-{port}.sock"):
                with contextlib.suppress(OSError):
                    socket.unlink()


def _security(folder: Path, signing: str) -> str:
    tables = [f'[{table}]\nkey = "{signing}"\n' for table in (
        "jwt.signing",
        "jwt.signing.read",
        "jwt.filer_signing",
        "jwt.filer_signing.read",
    )]  # fmt: skip
    certificate, key = (json.dumps(str(folder / name)) for name in ("certificate.pem", "key.pem"))
    tables.append(f"[grpc]\nca = {json.dumps(str(folder / AUTHORITY))}\n")
    tables += [f"[grpc.{role}]\ncert = {certificate}\nkey = {key}\n" for role in _ROLES]
    return "\n".join(tables)


def _write_certificates(folder: Path) -> None:
    """Make a certificate that only this stack has, and the authority that vouches for it alone."""
    # Valid even if the clock, which may be wrong now, is set back later.
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway")])
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])

    def draft(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .issuer_name(authority_name)
            .subject_name(subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + _LIFETIME)
        )

    authority = (
        draft(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        draft(name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = serialization.Encoding.PEM
    write_private(folder / "key.pem", private.decode())
    write_private(folder / AUTHORITY, authority.public_bytes(pem).decode())
    write_private(folder / "certificate.pem", certificate.public_bytes(pem).decode())

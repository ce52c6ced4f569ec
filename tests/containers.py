"""A real registry, and base images put into it without any other registry."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import importlib.util
import io
import json
import marshal
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import httpx
import pytest
from filelock import FileLock

from tasks.core.tls import ssl_context
from tasks.images.layers import Layer
from tasks.images.reference import Reference, parse_reference
from tasks.images.registry import Manifest, Repository, sha256

SECONDS = 30.0
_KEEPER = Path(__file__).with_name("engine_keeper.py")


def needs(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def end_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a program with a block of code, whatever happens in it."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def run_registry(folder: Path, **http: Any) -> Iterator[str]:
    """Run Debian's docker-registry on loopback; yield `host:port`."""
    needs("docker-registry")
    port = free_port()
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "tls": http.get("tls", {})},
    }
    if "auth" in http:
        configuration["auth"] = http["auth"]
    (folder / "registry.yml").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.yml")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    with end_with(process):
        wait_for_port(port, process, folder / "log")
        yield f"127.0.0.1:{port}"


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program listens."""
    deadline = time.monotonic() + SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a program answers a request with 200."""
    deadline = time.monotonic() + SECONDS
    while httpx.get(url, trust_env=False, verify=ssl_context()).status_code != 200:
        assert process.poll() is None, f"the program behind {url} ended"
        assert time.monotonic() < deadline, f"{url} does not answer with 200"
        time.sleep(0.02)


@dataclass(frozen=True)
class BaseImage:
    """An image of one layer, to be pushed anywhere."""

    layer: Layer
    platform: str
    environment: Mapping[str, str]

    @classmethod
    def of(
        cls, archive: Path, platform: str = "linux/amd64", environment: Mapping[str, str] = {}
    ) -> BaseImage:
        """Make an image of an archive of a file system."""
        content, packed = archive.read_bytes(), archive.with_suffix(".tar.gz")
        if not packed.exists():  # several workers may want it, of the same archive
            partial = packed.with_name(f"{os.getpid()}-{packed.name}")
            partial.write_bytes(gzip.compress(content, 1, mtime=0))
            partial.replace(packed)
        digest = sha256(packed.read_bytes())
        layer = Layer(digest, packed.stat().st_size, sha256(content), packed)
        return cls(layer, platform, environment)

    def push(self, where: str, repository: Repository | None = None) -> Reference:
        """Put it into a registry as an OCI image, which official images are."""
        reference = parse_reference(where)
        repository = repository or Repository(reference)
        system, architecture = self.platform.split("/")
        config = json.dumps(
            {
                "os": system,
                "architecture": architecture,
                "config": {"Env": [f"{k}={v}" for k, v in self.environment.items()]},
                "rootfs": {"type": "layers", "diff_ids": [self.layer.diff_id]},
            }
        ).encode()
        repository.upload(self.layer)
        repository.write(config)
        manifest = Manifest.of(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "size": len(config),
                    "digest": sha256(config),
                },
                "layers": [
                    {
                        **self.layer.describe(),
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    }
                ],
            }
        )
        repository.put(manifest, reference.tag)
        return reference.at(manifest.digest)


@contextlib.contextmanager
def run_engine(shared: Path) -> Iterator[str]:
    """Use the Docker engine of this host, or run one; yield its URL.

    All workers of a run share one.

    Args:
        shared: Folder of the workers that share it.
    """
    usual = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if _engine_answers(usual):
        yield usual
        return
    needs("dockerd", "ip")
    if os.geteuid():
        pytest.skip("no Docker engine runs, and only root can start one")
    address, users = shared / "engine", shared / "engine.users"
    with users.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
        with FileLock(shared / "engine.lock"):
            if not (address.exists() and _engine_answers(address.read_text())):
                address.write_text(_start_engine(users))
        yield address.read_text()


def _start_engine(users: Path) -> str:
    # Not below pytest's folder: sockets have short names.
    folder = Path(tempfile.mkdtemp(prefix="slipway-engine-"))
    url, log = f"unix://{folder}/docker.sock", users.with_name("engine.log")
    with log.open("wb") as file:
        subprocess.run(
            [sys.executable, str(_KEEPER), str(folder), str(users)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=True,
        )  # fmt: skip
    while not _engine_answers(url):
        if not folder.exists():
            pytest.skip(f"dockerd does not start here: {_end_of(log)}")
        time.sleep(0.1)
    return url


def _engine_answers(url: str) -> bool:
    path = url.removeprefix("unix://")
    if path == url:
        return True  # somebody's own setting
    with socket.socket(socket.AF_UNIX) as probe:  # which clients leave open when nobody is there
        if probe.connect_ex(path):
            return False
    transport = httpx.HTTPTransport(uds=path, verify=ssl_context())
    with httpx.Client(base_url="http://engine", transport=transport, trust_env=False) as client:
        return client.get("/_ping").status_code == 200


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-800:]


# The Debian release whose python3 is that Python.
_SUITES = {"3.11": "bookworm", "3.13": "trixie"}


def debian_with_python(path: Path, python: str) -> Path:
    """Make an archive of the file system of a small Debian with Python."""
    needs("mmdebstrap")
    if os.geteuid():
        pytest.skip("only root can make a Debian base image")
    if python not in _SUITES:
        pytest.skip(f"no release of Debian has Python {python}")
    if not path.exists():
        partial = path.with_name(f"partial-{path.name}")
        # What official slim images have as well, and nothing else.
        packages = "python3,ca-certificates,base-passwd,libc-bin,libstdc++6"
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=extract", f"--include={packages}",
             _SUITES[python], str(partial)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"no Debian can be had here: {made.stderr[-400:]}")
        _add_byte_code(partial, f"usr/lib/python{python}")
        partial.replace(path)
    return path


def _add_byte_code(archive: Path, library: str) -> None:
    """Add byte code of the modules of Python that are imported here to an archive.

    A container that may not write would compile them at each start, for half a second.
    """
    names = {f"{library}/{name.replace('.', '/')}" for name in sys.modules}
    with tarfile.open(archive) as content:
        sources = {
            entry.name.removeprefix("./"): cast("IO[bytes]", content.extractfile(entry)).read()
            for entry in content
            if entry.isfile() and entry.name.removeprefix("./").endswith(".py")
        }
    with tarfile.open(archive, "a") as content:
        for name, source in sources.items():
            module = name.removesuffix(".py")
            if module.removesuffix("/__init__") in names:
                path = importlib.util.cache_from_source(name)
                entry = tarfile.TarInfo(path)
                code = compile(source, f"/{name}", "exec", dont_inherit=True)
                # Flag 1: compared with no source.
                byte_code = (
                    importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8) + marshal.dumps(code)
                )
                entry.size = len(byte_code)
                content.addfile(entry, io.BytesIO(byte_code))

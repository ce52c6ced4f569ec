"""The properties of containers on the worker's host."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from obstore.store import MemoryStore

from deployments.local.containers import ModelContainers
from tasks.bucket.shipper import ship
from tasks.core.errors import TransientError
from tasks.images.image import LABEL
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.monitoring.shadow import compare
from tasks.package import statement
from tasks.package.package import Package
from tasks.package.signature import SIGNATURE, SIGNERS, read_digests
from tasks.package.statement import BUNDLE_TYPE, Signer
from tasks.platforms.base.shadow import ShadowRules
from tasks.platforms.docker.engine import Engine
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.host.host_target import GatewaySettings
from tests.code.platforms.places import DockerPlace, Progress
from tests.containers import free_port
from tests.stand_ins.faults import Faults, Kind
from tests.stand_ins.relay import Relay
from tests.stand_ins.serve import serving

R = TypeVar("R")


async def wait_for_records(home: Path) -> None:
    """Wait until the host can read, and ship, what the container's user has written."""
    async with asyncio.timeout(30):
        while not (files := list((home / "spool" / "wine" / "docker").glob("*/*.jsonl"))):
            await asyncio.sleep(0.1)
    record = json.loads(files[0].read_bytes().splitlines()[0])
    assert (record["type"], record["source"]) == ("slipway.proof", "/wine/docker")
    store = MemoryStore()
    assert ship(home / "spool", store) > 0
    assert not any(file.exists() for file in files)


async def test_container_of_scikit_learn_model_has_few_rights_and_is_small(
    docker_place: DockerPlace,
    make_package: Callable[..., Package],
    bundles: Path,
    home: Path,
) -> None:
    await docker_place.target().remove()
    progress = await docker_place.deploy(
        make_package("scikit-learn", saved=bundles / "wine"), until="preflight"
    )
    # What shares engine and repository leaves the image alone: a container runs it already.
    await docker_place.target(name="docker-eu").tidy()
    assert (await docker_place.snapshot())["images"] != []
    await progress.complete()
    (name,) = await docker_place.servers()
    container = docker_place.client.containers.get(name)
    may, has = container.attrs["HostConfig"], container.attrs["Config"]
    assert may["ReadonlyRootfs"]
    assert may["CapDrop"] == ["ALL"]
    assert may["SecurityOpt"] == ["no-new-privileges:true"]
    assert (may["Memory"], may["NanoCpus"], may["PidsLimit"]) == (2**30, 10**9, 256)
    assert may["PortBindings"]["8080/tcp"][0]["HostIp"] == "127.0.0.1"
    assert may["RestartPolicy"]["Name"] == "unless-stopped"
    assert has["User"] == "65532:65532"
    assert "@sha256:" in has["Image"]
    written = container.exec_run(["python3", "-c", "open('/app/written', 'w')"])
    assert b"Read-only file system" in written.output
    healthy = container.exec_run(has["Healthcheck"]["Test"][1:])
    assert healthy.exit_code == 0, healthy.output
    assert container.image.attrs["Size"] < 350e6
    await wait_for_records(home)


async def test_image_of_a_signed_model_that_was_changed_does_not_start(
    docker_place: DockerPlace, make_package: Callable[..., Package], registry_folder: Path
) -> None:
    package = make_package("signed")
    key = ec.generate_private_key(ec.SECP256R1())
    signature = statement.sign("wine", await read_digests(package.workspace), key)
    signer = Signer("a worker", key.public_key())
    attachments = {f"wine{SIGNATURE}": signature.encode(), SIGNERS: signer.pem}
    progress = await docker_place.deploy(
        replace(package, attachments=attachments), until="preflight"
    )  # which boots the very image, signature and all
    image = progress.staged.image
    assert _attached(docker_place.repository, image.reference.version, BUNDLE_TYPE) == signature

    for files in (_swap_model(package), {"serving/app.py": b""}):
        container = docker_place.client.containers.create(str(image.reference))
        try:
            assert container.put_archive("/app", _archive(files))
            container.start()
            assert container.wait()["StatusCode"] == 3
            refusal = f"{next(iter(files))} is not the file that was signed; it was not loaded"
            assert refusal.removeprefix("model/") in container.logs().decode()
        finally:
            container.remove(force=True)

    # In the registry, too: the digest of the image names those of its layers.
    (manifest,) = image.manifests.values()
    digest = manifest.document["layers"][-1]["digest"].removeprefix("sha256:")
    blobs = registry_folder / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"
    blob = blobs / digest[:2] / digest / "data"
    content = blob.read_bytes()
    for container in docker_place.containers():
        if progress.staged.release in container.name:
            container.remove(force=True)
    docker_place.client.images.remove(str(image.reference), force=True)
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(TransientError, match=r"Docker could not pull .*: .*verif"):
            await docker_place.target().release(progress.staged, "v1")
    finally:
        blob.write_bytes(content)
    await docker_place.target().rollback(progress.staged)


def _swap_model(package: Package) -> dict[str, bytes]:
    """Return another model, and all records of a release as if it had always been that."""
    folder, content = package.workspace.path / "model", b"somebody else's"
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest()
    runtime = json.loads((folder / "wine.runtime.json").read_text())
    runtime["artifacts"]["model/wine"] = {"size": len(content), "md5": md5, "sha256": sha256}
    mlem = yaml.safe_load((folder / "wine.mlem").read_text())
    mlem["artifacts"]["data"].update(hash=md5, size=len(content))
    return {
        "model/wine": content,
        "model/wine.mlem": yaml.safe_dump(mlem).encode(),
        "model/wine.runtime.json": json.dumps(runtime).encode(),
        "model/release.json": json.dumps({"name": "wine", "md5": md5}).encode(),
    }


def _attached(repository: Repository, digest: str, kind: str) -> str:
    index = repository.manifest(digest.replace(":", "-"))
    assert index
    (entry,) = (
        manifest for manifest in index.document["manifests"] if manifest["artifactType"] == kind
    )
    artifact = repository.manifest(entry["digest"])
    assert artifact
    return repository.read(artifact.document["layers"][0]["digest"]).decode()


def _archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


async def test_release_follows_its_own_shadow(
    docker_place: DockerPlace, models: list[Package]
) -> None:
    live = await docker_place.ensure_live(models)
    new = next(model for model in models if model is not live)
    target = docker_place.target(shadow=ShadowRules(requests=5))
    staged = await target.preflight(new, new.workspace.path / "model" / "wine", "v1")
    with docker_place.traffic(live) as traffic:
        records = await target.shadow(staged, ())
        assert len(await docker_place.servers()) == 1
        await Progress(target, staged).complete()
    assert traffic.failures == []
    assert records
    report = compare(records, tolerance=0.0)
    assert report.rows >= 5
    assert (report.different, report.lost) == (0, 0)
    await docker_place.assert_live(new)  # its container has another port and version


async def test_containers_stop_and_start_with_the_stack(docker_place: DockerPlace) -> None:
    before = await docker_place.servers()
    host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
    assert isinstance(docker_place.environment, DockerEnvironment)
    containers = ModelContainers(docker_place.environment, host.gateway, host.gateway_api)
    containers.stop()
    assert await docker_place.servers() == []
    containers.resume()
    assert await docker_place.servers() == before
    async with asyncio.timeout(docker_place.environment.ready_seconds):
        while not ((live := await docker_place.target().status()) and live.healthy):
            await asyncio.sleep(0.2)


async def test_only_containers_of_own_environment_are_stopped(docker_place: DockerPlace) -> None:
    (live,) = await docker_place.servers()
    container = docker_place.client.containers.get(live)
    ends_when_asked = "import signal; signal.signal(15, exit); signal.pause()"

    def left(**says: str) -> str:
        labels = {
            **container.labels,
            "io.slipway.release": "20260101T000000-a-b",
            **{f"io.slipway.{name}": value for name, value in says.items()},
        }
        started = docker_place.client.containers.run(
            container.attrs["Config"]["Image"],
            entrypoint=["python3", "-c", ends_when_asked],
            labels=labels,
            detach=True,
        )
        return str(started.name)

    ours = left()
    # Of another environment, and of one of this name behind the proxy of another stack.
    others = {left(environment="docker-eu"), left(proxy="another")}
    try:
        await docker_place.target().tidy()
        there = {container.name for container in docker_place.client.containers.list()}
        assert ours not in there
        assert {live, *others} <= there
    finally:
        for name in others:
            docker_place.client.containers.get(name).remove(force=True)


async def test_missing_engine_names_next_step(docker_place: DockerPlace) -> None:
    target = docker_place.target(engine=f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match="the Docker engine does not answer") as refusal:
        await target.tidy()
    assert refusal.value.state == "what is live goes on serving"  # the traffic has moved already
    assert "group `docker`" in refusal.value.next_step


# Calls that hang have a shorter time-out here, so they are tried by themselves.
@pytest.mark.parametrize("kinds", [("429", "500", "drop"), ("hang",)], ids="-".join)
def test_engine_is_left_clean_although_each_call_fails(
    kinds: tuple[Kind, ...],
    engine: str,
    registry: str,
    models: list[Package],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "hang" in kinds:
        monkeypatch.setattr("tasks.platforms.docker.engine._SECONDS", 1.0)
    repository = f"{registry}/python"
    manifest = Repository(parse_reference(repository)).manifest(f"{models[0].minor_python}-slim")
    assert manifest
    image, name = f"{repository}@{manifest.digest}", f"slipway-faults-{len(kinds)}"
    labels = {"faults": "-".join(kinds)}
    options = {
        "command": ["python3", "-c", "print('hello', flush=True); import time; time.sleep(600)"],
        "labels": {f"{LABEL}.{key}": value for key, value in labels.items()},
        "stop_signal": "SIGKILL",  # the first process of a container ignores the usual one
    }
    errors: list[TransientError] = []

    def again(step: Callable[[], R]) -> R:
        for _ in range(20):
            try:
                return step()
            except TransientError as error:
                errors.append(error)
        return step()

    def error(code: int) -> dict[str, str]:
        # An engine has a message, a proxy in front of it something of its own.
        return {"message": "no"} if code == 500 else {"error": "later"}

    faults = Faults(Relay(engine), hang_seconds=1.5, error=error)
    with serving(faults) as url:
        docker = Engine(url.replace("http://", "tcp://"))
        faults.fail_each_call(*kinds)
        again(docker.version)
        again(lambda: docker.pull(image, None))
        again(lambda: docker.start(name, image, options, None))
        (container,) = again(lambda: docker.containers(labels))
        assert not again(lambda: docker.has_ended(container))
        assert again(lambda: docker.last_lines(container)) in {"", "hello"}
        again(lambda: docker.stop(container))
        again(lambda: docker.resume(container))
        again(lambda: docker.remove(container))
        again(lambda: docker.remove_images(repository))
        assert again(lambda: docker.containers(labels)) == []
    assert len(errors) >= 8
    assert all(error.state and error.next_step for error in errors)

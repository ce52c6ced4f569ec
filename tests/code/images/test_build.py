from __future__ import annotations

import io
import json
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.images.build import Image, ImageSpec, build_image, copy_layer
from tasks.images.layers import Layer
from tasks.images.reference import parse_reference
from tasks.images.registry import Login, Manifest, Repository
from tasks.images.retention import retire, tag_of
from tests.certificates import self_signed
from tests.code.images.conftest import PYTHON, MakePackage
from tests.containers import BaseImage, free_port, run_registry

NUMBER = PYTHON.replace(".", "")
# `htpasswd -nbB tester secret`
_PASSWORDS = "tester:$2y$05$06ewQFn/vNXsxHcxpNIKIeMhFOVtufeIoGrcGB69oa9HQa9DhIneG\n"


async def _build(package: Any, spec: ImageSpec, login: Login | None = None) -> Image:
    file = package.workspace.path / "model" / "wine"
    return await build_image(package, file, spec, login)


def _repository(image: Image) -> Repository:
    return Repository(image.reference)


def _config(image: Image, platform: str = "linux/amd64") -> dict[str, Any]:
    digest = image.manifests[platform].document["config"]["digest"]
    return dict(json.loads(_repository(image).read(digest)))


def _files(image: Image, platform: str = "linux/amd64") -> dict[str, bytes]:
    results = {}
    for layer in image.manifests[platform].document["layers"]:
        with tarfile.open(fileobj=io.BytesIO(_repository(image).read(layer["digest"]))) as archive:
            for entry in archive:
                if (file := archive.extractfile(entry)) is not None:
                    results[entry.name] = file.read()
    return results


async def test_second_build_gives_the_same_image(
    make_package: MakePackage, spec: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package(b"one model")
    first = await _build(package, spec)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))  # as on another worker
    assert await _build(package, spec) == first


async def test_new_model_changes_only_the_last_layer(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    first = await _build(make_package(b"one model"), spec)
    other = await _build(make_package(b"another model"), spec)
    (before,), (after,) = first.manifests.values(), other.manifests.values()
    layers = [item.document["layers"] for item in (before, after)]
    assert layers[0][:-1] == layers[1][:-1]
    assert layers[0][-1] != layers[1][-1]
    assert layers[0][-1]["size"] < 2000


async def test_image_has_model_serving_code_and_labels(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    package = make_package(b"one model")
    image = await _build(package, spec)
    assert image.reference.digest
    assert image.reference.tag is None
    files = _files(image)
    assert files["app/model/wine"] == b"one model"
    assert json.loads(files["app/model/release.json"])["commit"] == package.commit
    names = set(files)
    assert "app/serving/__main__.py" in names
    assert f"app/serving/__pycache__/__main__.cpython-{NUMBER}.pyc" in names
    assert "app/packages/threadpoolctl.py" in names
    assert not {name for name in names if name.startswith(("app/packages/pip", "app/packages/bin"))}
    # Flag 1: compared with nothing, so that times and hashes of sources do not matter.
    assert files[f"app/packages/__pycache__/threadpoolctl.cpython-{NUMBER}.pyc"][4:8] == b"\1\0\0\0"

    config = _config(image)
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Entrypoint"] == ["python3", "-m", "serving"]
    assert config["config"]["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
    assert f"PYTHON_VERSION={PYTHON}.99" in config["config"]["Env"]
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "wine"
    assert labels["org.opencontainers.image.revision"] == package.commit
    assert labels["io.slipway.md5"] == package.md5
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert len(config["history"]) == 3


async def test_large_packages_have_no_tests_and_sources(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    image = await _build(make_package(b"one model", joblib="1.6.0"), spec)
    files = {name for name in _files(image) if name.startswith("app/packages/joblib/")}
    assert "app/packages/joblib/memory.pyc" in files
    assert not {name for name in files if "/test/" in name or name.endswith(".py")}


async def test_other_processor_gets_its_own_wheels(
    make_package: MakePackage, spec: ImageSpec, registry: str, base_archive: Path
) -> None:
    arm = BaseImage.of(base_archive, "linux/arm64", {"PYTHON_VERSION": f"{PYTHON}.99"})
    arm.push(f"{registry}/arm:{PYTHON}")
    package = make_package(b"one model")
    changed = replace(spec, base=f"{registry}/arm:{{python}}", platforms=("linux/arm64",))
    image = await _build(package, changed)
    assert _config(image, "linux/arm64")["architecture"] == "arm64"
    (library,) = [
        content
        for name, content in _files(image, "linux/arm64").items()
        if "httptools/parser/parser." in name and name.endswith(".so")
    ]
    assert library[18:20] == b"\xb7\0"  # the ELF header's number for AArch64


async def test_one_list_names_all_platforms(
    make_package: MakePackage, spec: ImageSpec, registry: str, base_archive: Path
) -> None:
    entries = []
    for platform in ("linux/amd64", "linux/arm64"):
        base = BaseImage.of(base_archive, platform, {"PYTHON_VERSION": f"{PYTHON}.99"})
        pushed = base.push(f"{registry}/both:{platform[-5:]}")
        system, architecture = platform.split("/")
        result = Repository(pushed).manifest(pushed.version)
        assert result
        made_for = {"os": system, "architecture": architecture}
        entries.append({**result.describe(), "platform": made_for})
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }
    Repository(parse_reference(f"{registry}/both")).put(Manifest.of(index), PYTHON)
    platforms = ("linux/amd64", "linux/arm64")
    changed = replace(spec, base=f"{registry}/both:{{python}}", platforms=platforms)
    image = await _build(make_package(b"one model"), changed)
    pushed_list = _repository(image).manifest(image.reference.version)
    assert pushed_list
    made_for = [entry["platform"]["architecture"] for entry in pushed_list.document["manifests"]]
    assert made_for == ["amd64", "arm64"]
    assert [entry["digest"] for entry in pushed_list.document["manifests"]] == [
        manifest.digest for manifest in image.manifests.values()
    ]


async def test_bill_of_materials_and_signature_are_attached_to_the_image(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    signature = {"wine.sig": b"{}", "signers.pem": b"keys"}
    package = replace(make_package(b"one model"), attachments=signature)
    image = await _build(package, spec)
    await _build(package, spec)  # attaches nothing twice
    repository = _repository(image)
    index = repository.manifest(image.reference.version.replace(":", "-"))
    assert index
    documents = {}
    for entry in index.document["manifests"]:
        artifact = repository.manifest(entry["digest"])
        assert artifact
        assert artifact.document["subject"]["digest"] == image.reference.digest
        content = repository.read(artifact.document["layers"][0]["digest"])
        documents[entry["artifactType"]] = json.loads(content)
    assert len(index.document["manifests"]) == 2
    assert documents["application/vnd.dev.sigstore.bundle.v0.3+json"] == {}
    bill = documents["application/vnd.cyclonedx+json"]
    files = _files(image)
    assert files["app/model/wine.sig"] == b"{}"
    assert files["app/model/signers.pem"] == b"keys"
    assert bill["specVersion"] == "1.6"
    results = {part["name"]: part for part in bill["components"]}
    assert results["threadpoolctl"]["purl"] == "pkg:pypi/threadpoolctl@3.6.0"
    assert results["wine"]["type"] == "machine-learning-model"
    assert {entry["content"] for entry in results["wine"]["hashes"]} == {
        package.md5,
        package.sha256,
    }


def test_two_deploys_copy_one_layer_at_once(registry: str, base_archive: Path) -> None:
    base = BaseImage.of(base_archive)
    base.push(f"{registry}/base:1")
    source = Repository(parse_reference(f"{registry}/base"))
    layer = replace(base.layer, path=None)
    other = Repository(parse_reference(f"{registry}/other"))
    copying = threading.Thread(target=copy_layer, args=(source, other, layer))

    class Overtaken(Repository):
        """Another deploy has the time to copy the layer before this one sends it."""

        def upload(self, layer: Layer) -> bool:
            copying.start()
            copying.join(1.0)
            return super().upload(layer)

    mine = Overtaken(parse_reference(f"{registry}/mine"))
    assert copy_layer(source, mine, layer)
    copying.join()
    assert mine.has(layer.digest)
    assert other.has(layer.digest)


# What is refused


async def test_missing_base_image_is_rejected(
    make_package: MakePackage, spec: ImageSpec, registry: str
) -> None:
    changed = replace(spec, base=f"{registry}/nothing:{{python}}")
    with pytest.raises(ConfigurationError, match=r"base image .*/nothing:\d\.\d+ does not exist"):
        await _build(make_package(b"one model"), changed)


async def test_base_image_for_another_platform_is_rejected(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    changed = replace(spec, platforms=("linux/arm64",))
    with pytest.raises(ConfigurationError, match=r"is for linux/amd64, not linux/arm64"):
        await _build(make_package(b"one model"), changed)


async def test_base_image_with_another_python_is_rejected(
    make_package: MakePackage, spec: ImageSpec, registry: str, base_archive: Path
) -> None:
    BaseImage.of(base_archive, environment={"PYTHON_VERSION": "3.10.9"}).push(f"{registry}/old:1")
    changed = replace(spec, base=f"{registry}/old:1")
    with pytest.raises(ConfigurationError, match=r"has Python 3\.10\.9; .* saved with 3\.\d+\.\d+"):
        await _build(make_package(b"one model"), changed)


async def test_package_without_a_wheel_is_terminal(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    with pytest.raises(TerminalError, match="cannot be installed"):
        await _build(make_package(b"one model", threadpoolctl="0.0.0"), spec)


async def test_unreachable_registry_is_transient(
    make_package: MakePackage, spec: ImageSpec
) -> None:
    changed = replace(spec, repository=f"127.0.0.1:{free_port()}/wine")
    with pytest.raises(TransientError, match="ConnectionError"):
        await _build(make_package(b"one model"), changed)


async def test_password_is_sent_over_tls_only_and_never_shown(
    make_package: MakePackage,
    spec: ImageSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "passwords").write_text(_PASSWORDS)
    auth = {"htpasswd": {"realm": "wine", "path": str(tmp_path / "passwords")}}
    package, login = make_package(b"one model"), Login("tester", SecretStr("secret"))
    with run_registry(tmp_path, auth=auth) as plain:
        changed = replace(spec, repository=f"{plain}/wine")
        with pytest.raises(ConfigurationError, match="requires a password over plain HTTP"):
            await _build(package, changed, login)

    made = self_signed(tmp_path)
    tls = {"certificate": made["certificate"], "key": made["key"]}
    with run_registry(tmp_path, auth=auth, tls=tls) as host:
        # Only registries on this host are spoken to in clear, so this one needs another name.
        monkeypatch.setattr("tasks.images.reference.Reference.on_loopback", False)
        reference = parse_reference(f"{host}/wine")
        with pytest.raises(TerminalError, match="has no certificate that this host trusts"):
            Repository(reference, login).tags()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", made["certificate"])
        wrong = Login("tester", SecretStr("guess-me"))
        with pytest.raises(
            TerminalError, match=r"push was denied \(401\): as user tester"
        ) as raised:
            Repository(reference, wrong).try_push()
        assert "guess-me" not in f"{raised.value} {wrong!r}"
        repository = Repository(reference, login)
        repository.try_push()
        assert not list((tmp_path / "data").rglob("startedat"))  # of an upload under way
        digest = repository.write(b"something")
        assert repository.read(digest) == b"something"


async def test_image_of_another_environment_stays(
    make_package: MakePackage, spec: ImageSpec, registry: str
) -> None:
    changed = replace(spec, repository=f"{registry}/short-lived")
    image = await _build(make_package(b"one model"), changed)
    (manifest,) = image.manifests.values()
    repository = _repository(image)
    repository.put(manifest, tag_of("production", manifest.digest))
    retire(repository, "test", keep=[])  # production has it as well
    retire(repository, "production", keep=[manifest.digest])
    assert repository.manifest(manifest.digest)
    assert len(repository.tags()) == 3


async def test_old_images_go_with_their_attachments(
    make_package: MakePackage, spec: ImageSpec, registry: str
) -> None:
    changed = replace(spec, repository=f"{registry}/shorter-lived")
    image = await _build(make_package(b"one model"), changed)
    other = await _build(make_package(b"another model"), changed)
    repository = _repository(image)
    (manifest,), (current,) = image.manifests.values(), other.manifests.values()
    retire(repository, "test", keep=[current.digest])
    assert repository.tags() == [
        current.digest.replace(":", "-"), tag_of("test", current.digest)
    ]  # fmt: skip
    assert repository.manifest(manifest.digest) is None
    assert repository.drop(manifest.digest)  # gone is gone


async def test_image_stays_while_a_list_names_it(
    make_package: MakePackage, spec: ImageSpec, registry: str
) -> None:
    changed = replace(spec, repository=f"{registry}/listed")
    image = await _build(make_package(b"one model"), changed)
    repository = _repository(image)
    (manifest,) = image.manifests.values()
    old, new = (
        Manifest.of(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [manifest.describe()],
                "annotations": {"made": made},
            }
        )
        for made in ("before", "after")
    )
    for item in (old, new):
        repository.put(item, tag_of("test", item.digest))
    retire(repository, "test", keep=[manifest.digest, new.digest])
    assert repository.manifest(old.digest) is None
    assert repository.manifest(manifest.digest)
    retire(repository, "test", keep=[new.digest])
    assert repository.manifest(manifest.digest)
    assert repository.manifest(manifest.digest.replace(":", "-"))  # its bill of materials
    retire(repository, "test", keep=[])
    assert repository.tags() == []

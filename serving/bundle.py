"""Read a model's bundle from its folder, verify its bytes, and only then unpickle the model."""

import atexit
import base64
import hashlib
import importlib
import json
import os
import pickle
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from serving.signature import SignatureError, verify_release

CHUNK_BYTES = 1 << 20
RELEASE = "SLIPWAY_RELEASE"  # what a deployer knows of a release beyond release.json, as JSON
PLAIN_PICKLE = {"sklearn", "sklearn_pipeline"}  # the model types MLEM writes as one plain pickle


class BundleError(Exception):
    """The bundle cannot be served; the message says which file and why."""


@dataclass(frozen=True)
class Digest:
    """Size and hashes of a file."""

    size: int  # bytes
    md5: str
    sha256: str


@dataclass
class Bundle:
    """A model's files, parsed; the model itself is loaded by `load_model`."""

    folder: Path
    name: str
    mlem: dict[str, Any]
    runtime: dict[str, Any]
    golden: dict[str, Any]
    release: dict[str, Any]
    digest: Digest | None = None  # of the file really loaded
    model: Any = None  # loaded already, for processes that share it

    @property
    def model_file(self) -> Path:
        """The pickled model."""
        return self.folder / self.name


def read_bundle(folder: Path, environment: Mapping[str, str] = os.environ) -> Bundle:
    """Read a bundle's descriptions; nothing is executed and the model's bytes are not touched.

    Args:
        folder: a flat folder with `<name>`, `<name>.mlem`, `<name>.golden.json`,
            `<name>.runtime.json` and, where a deployer wrote it, `release.json`.
        environment: variables; `SLIPWAY_RELEASE` adds to `release.json`, for a bundle in an image,
            which does not know yet where it will be released.

    Returns:
        The bundle, not yet loaded.

    Raises:
        BundleError: a file is missing, is not what it should be, or names another model.
    """
    paths = sorted(folder.glob("*.mlem"))
    if len(paths) != 1:
        raise BundleError(f"{folder}: expected one *.mlem file, found {len(paths)}")
    name = paths[0].name.removesuffix(".mlem")
    try:
        mlem = yaml.safe_load(paths[0].read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f"{paths[0].name}: not readable as YAML: {error}") from error
    if not isinstance(mlem, dict) or mlem.get("object_type") != "model":
        raise BundleError(f"{paths[0].name}: not the metadata of an MLEM model")
    kind = _read_model_type(mlem)
    if kind not in PLAIN_PICKLE:
        raise BundleError(
            f"{paths[0].name}: models of type {kind!r} cannot be served; "
            f"known are {', '.join(sorted(PLAIN_PICKLE))}"
        )
    bundle = Bundle(
        folder=folder,
        name=name,
        mlem=mlem,
        runtime=_read_json(folder / f"{name}.runtime.json"),
        golden=_read_json(folder / f"{name}.golden.json"),
        release=_read_release(folder, environment),
    )
    if not bundle.model_file.is_file():
        raise BundleError(f"{name}: the model file is missing")
    for description in (bundle.runtime, bundle.release):
        if description.get("name", name) != name:
            raise BundleError(f"{name}: described as another model, {description['name']!r}")
    return bundle


def load_model(bundle: Bundle) -> Any:
    """Verify the model's bytes, make its own code importable, and unpickle it.

    Args:
        bundle: as `read_bundle` returned it; its `digest` is set here.

    Returns:
        The fitted estimator.

    Raises:
        BundleError: the bytes are not those recorded, or the model cannot be unpickled.
    """
    with bundle.model_file.open("rb") as file:  # one open file: what is hashed is what is loaded
        bundle.digest = digest_of(file)
        _verify(bundle, bundle.digest)
        try:
            verify_release(bundle.folder, bundle.name, bundle.digest.sha256)
        except SignatureError as error:
            raise BundleError(f"{bundle.name}: {error}; it was not loaded") from error
        _unpack_code(bundle)
        file.seek(0)
        try:
            return pickle.load(file)
        except Exception as error:
            raise BundleError(
                f"{bundle.name}: cannot be unpickled: {type(error).__name__}: {error}"
            ) from error


def digest_of(file: IO[bytes]) -> Digest:
    """Hash a file from where it stands to its end.

    Args:
        file: open for reading bytes.

    Returns:
        Its size, MD5 and SHA-256.
    """
    size, md5, sha256 = 0, hashlib.md5(usedforsecurity=False), hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        size += len(chunk)
        md5.update(chunk)
        sha256.update(chunk)
    return Digest(size, md5.hexdigest(), sha256.hexdigest())


def _verify(bundle: Bundle, actual: Digest) -> None:
    """Compare the model file with every record of it: runtime.json, .mlem and release.json."""
    artifacts = bundle.runtime.get("artifacts") or {}
    recorded = [r for path, r in artifacts.items() if PurePosixPath(path).name == bundle.name]
    if len(recorded) != 1 or not {"size", "sha256"} <= recorded[0].keys():
        raise BundleError(f"{bundle.name}.runtime.json: has no size and SHA-256 of the model file")
    mlem = (bundle.mlem.get("artifacts") or {}).get("data") or {}
    checks = (
        ("size", recorded[0]["size"], actual.size, f"{bundle.name}.runtime.json"),
        ("SHA-256", recorded[0]["sha256"], actual.sha256, f"{bundle.name}.runtime.json"),
        ("MD5", recorded[0].get("md5"), actual.md5, f"{bundle.name}.runtime.json"),
        ("size", mlem.get("size"), actual.size, f"{bundle.name}.mlem"),
        ("MD5", mlem.get("hash"), actual.md5, f"{bundle.name}.mlem"),
        ("MD5", bundle.release.get("md5"), actual.md5, "release.json"),
    )
    for what, expected, value, source in checks:
        if expected is not None and expected != value:
            raise BundleError(
                f"{bundle.name}: the model file is not the one recorded: "
                f"{what} {value}, but {source} says {expected}; it was not loaded"
            )


def _unpack_code(bundle: Bundle) -> None:
    """Write the user's own modules, which travel inside the .mlem, where Python finds them."""
    sources: dict[str, bytes] = {}
    for requirement in bundle.mlem.get("requirements") or []:
        if isinstance(requirement, Mapping) and requirement.get("type") == "custom":
            sources.update(_decode_sources(requirement))
    if not sources:
        return
    root = Path(tempfile.mkdtemp(prefix="slipway-model-code-")).resolve()
    atexit.register(shutil.rmtree, root, ignore_errors=True)  # not before: imports may come late
    for part, source in sources.items():
        path = (root / part).resolve()
        if not path.is_relative_to(root):
            raise BundleError(f"{bundle.name}.mlem: code outside its own folder: {part!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()


def _decode_sources(requirement: Mapping[str, Any]) -> dict[str, bytes]:
    """Decode one MLEM custom requirement into {relative path: source}."""

    def inflate(text: str) -> bytes:
        return zlib.decompress(base64.b64decode(text))

    try:
        source = inflate(requirement["source64zip"])
        if requirement.get("is_package"):
            return {path: inflate(text) for path, text in json.loads(source).items()}
        return {requirement["name"].replace(".", "/") + ".py": source}
    except (KeyError, ValueError, zlib.error) as error:
        raise BundleError(f"code that travels with the model cannot be read: {error}") from error


def _read_model_type(mlem: Mapping[str, Any]) -> str:
    processors = mlem.get("processors") or {}
    return str((processors.get("model") or {}).get("type"))


def _read_release(folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    path = folder / "release.json"
    written = _read_json(path) if path.exists() else {}
    return written | _parse_json(RELEASE, environment.get(RELEASE) or "{}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return _parse_json(path.name, path.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{path.name}: is missing") from None


def _parse_json(name: str, text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{name}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{name}: must be a JSON object")
    return content

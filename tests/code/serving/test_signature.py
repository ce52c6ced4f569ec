"""A server verifies the signature that its deployer has verified, with code of its own."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from serving import signature
from serving.bundle import BundleError, load_model, read_bundle
from tasks.package import statement
from tasks.package.statement import Signer
from tests.code.serving.trap import Trap


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release with a signature and the key that its deployer allows, and code of a server."""
    folder, code = tmp_path / "bundle", tmp_path / "serving"
    folder.mkdir()
    code.mkdir()
    monkeypatch.setattr(signature, "CODE", code)
    content = pickle.dumps(Trap(tmp_path / "loaded"))
    sha256 = hashlib.sha256(content).hexdigest()
    mlem = {"object_type": "model", "processors": {"model": {"type": "sklearn"}}}
    record = {"size": len(content), "sha256": sha256}
    files = {
        "m.mlem": yaml.safe_dump(mlem),
        "m.runtime.json": json.dumps({"artifacts": {"model/m": record}}),
        "m.golden.json": "{}",
        "m.provenance.json": "{}",
    }
    (folder / "m").write_bytes(content)
    for name, text in files.items():
        (folder / name).write_text(text)
    (code / "app.py").write_text("pass\n")
    (code / "uv.lock").write_text("locked\n")
    signed = [(f"model/{name}", folder / name) for name in ("m", *files)]
    signed += [(f"serving/{name}", code / name) for name in ("app.py", "uv.lock")]
    digests = {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in signed}
    digests |= {"serving/.hidden": "0" * 64, "params.yaml": "0" * 64}  # what a release leaves out
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "m.sig").write_text(statement.sign("m", digests, key))
    other = ec.generate_private_key(ec.SECP384R1())
    keys = [Signer("", signer.public_key()).pem for signer in (other, key)]
    (folder / "signers.pem").write_bytes(b"".join(keys))
    return folder


def test_release_that_is_as_it_was_signed_is_loaded(bundle: Path, tmp_path: Path) -> None:
    load_model(read_bundle(bundle))
    assert (tmp_path / "loaded").exists()


def test_release_of_a_deployer_that_requires_no_signature_is_loaded(bundle: Path) -> None:
    (bundle / "signers.pem").unlink()
    (bundle / "m.golden.json").write_text("[]")
    assert signature.verify_release(bundle, "m", "0" * 64) is None


def _change(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text('{"changed": true}')


def _forge(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "m.sig").write_text(statement.sign("m", {}, key))


def _swap_payload(folder: Path) -> None:
    bundle = json.loads((folder / "m.sig").read_text())
    other = statement.sign("m", {}, ec.generate_private_key(ec.SECP256R1()))
    bundle["dsseEnvelope"]["payload"] = json.loads(other)["dsseEnvelope"]["payload"]
    (folder / "m.sig").write_text(json.dumps(bundle))


@pytest.mark.parametrize(
    ("attack", "fault"),
    [
        (_change("m.golden.json"), r"model/m\.golden\.json is not the file that was signed"),
        (_change("m.provenance.json"), r"model/m\.provenance\.json is not the file"),
        (_change("../serving/app.py"), r"serving/app\.py is not the file that was signed"),
        (_change("../serving/more.py"), r"serving/more\.py is not the file that was signed"),
        (lambda folder: (folder / "../serving/uv.lock").unlink(), r"serving/uv\.lock is not"),
        (lambda folder: (folder / "m.sig").unlink(), r"m\.sig cannot be read"),
        (_forge, r"the key that signed m \(.*\) is not allowed"),
        (_swap_payload, "the signature of m is of other bytes"),
        (lambda folder: (folder / "signers.pem").write_text(""), "is not allowed"),
    ],
)
def test_release_that_is_not_as_it_was_signed_is_never_unpickled(
    bundle: Path, tmp_path: Path, attack: Callable[[Path], object], fault: str
) -> None:
    attack(bundle)
    with pytest.raises(BundleError, match=f"{fault}.*; it was not loaded"):
        load_model(read_bundle(bundle))
    assert not (tmp_path / "loaded").exists()

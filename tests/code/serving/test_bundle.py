"""A bundle is refused before anything of it is executed unless every byte is as recorded."""

import base64
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

from serving.bundle import BundleError, load_model, read_bundle
from tests.code.serving.running import ROOT, clean_environment
from tests.code.serving.trap import Trap

FAILED = 3


@pytest.fixture
def make(tmp_path):
    """Writes a bundle around any content; `change` edits its descriptions."""

    def writer(content: bytes, change=lambda mlem, runtime, release: None) -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        (folder / "m").write_bytes(content)
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        mlem = {
            "object_type": "model",
            "artifacts": {"data": {"uri": "m", "size": len(content), "hash": md5}},
            "processors": {"model": {"type": "sklearn"}},
        }
        record = {"size": len(content), "md5": md5, "sha256": sha256}
        runtime = {"format": 1, "name": "m", "artifacts": {"model/m": record}}
        release = {"name": "m", "md5": md5}
        change(mlem, runtime, release)
        (folder / "m.mlem").write_text(yaml.safe_dump(mlem))
        (folder / "m.runtime.json").write_text(json.dumps(runtime))
        (folder / "m.golden.json").write_text("{}")
        (folder / "release.json").write_text(json.dumps(release))
        return folder

    return writer


def test_loaded_file_is_the_hashed_one(make):
    content = pickle.dumps([1, 2])
    bundle = read_bundle(make(content))
    assert bundle.digest is None
    assert load_model(bundle) == [1, 2]
    assert bundle.digest.sha256 == hashlib.sha256(content).hexdigest()


def test_variable_overrides_the_release_file(make):
    folder = make(pickle.dumps(1))
    written = read_bundle(folder, {}).release
    variables = {"SLIPWAY_RELEASE": '{"version": "v7"}'}
    assert read_bundle(folder, variables).release == {**written, "version": "v7"}
    with pytest.raises(BundleError, match="SLIPWAY_RELEASE: not valid JSON"):
        read_bundle(folder, {"SLIPWAY_RELEASE": "{"})


def wrong_size(mlem, runtime, release):
    runtime["artifacts"]["model/m"]["size"] += 1


def wrong_sha256(mlem, runtime, release):  # md5 and size made to match
    runtime["artifacts"]["model/m"]["sha256"] = "0" * 64


def wrong_md5_in_mlem(mlem, runtime, release):
    mlem["artifacts"]["data"]["hash"] = "0" * 32


def wrong_md5_in_release(mlem, runtime, release):
    release["md5"] = "0" * 32


def nothing_recorded(mlem, runtime, release):
    runtime["artifacts"] = {}


def other_name(mlem, runtime, release):
    runtime["artifacts"] = {"model/other": runtime["artifacts"]["model/m"]}


@pytest.mark.parametrize(
    "change",
    [
        wrong_size,
        wrong_sha256,
        wrong_md5_in_mlem,
        wrong_md5_in_release,
        nothing_recorded,
        other_name,
    ],
)
def test_changed_bytes_are_never_unpickled(make, tmp_path, change):
    mark = tmp_path / "executed"
    folder = make(pickle.dumps(Trap(mark)), change)
    with pytest.raises(BundleError, match=r"^m.*(not the one recorded|has no size and SHA-256)"):
        load_model(read_bundle(folder))
    assert not mark.exists()


def package(files: dict[str, str]) -> dict[str, object]:
    def pack(content: str) -> str:
        return base64.b64encode(zlib.compress(content.encode())).decode()

    source = pack(json.dumps({path: pack(content) for path, content in files.items()}))
    return {"type": "custom", "name": "p", "is_package": True, "source64zip": source}


def test_code_inside_the_model_is_importable(make, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    content = b"cslipway_travelled.deep\nVALUE\n."

    def change(mlem, runtime, release):
        files = {"slipway_travelled/__init__.py": "", "slipway_travelled/deep.py": "VALUE = 7"}
        mlem["requirements"] = [{"module": "numpy"}, package(files)]

    assert load_model(read_bundle(make(content, change))) == 7


def test_code_cannot_be_written_outside_its_folder(make, tmp_path):
    def change(mlem, runtime, release):
        mlem["requirements"] = [package({"../../escaped.py": "x = 1"})]

    with pytest.raises(BundleError, match="outside its own folder"):
        load_model(read_bundle(make(pickle.dumps(1), change)))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "m.mlem").unlink(), "expected one .*mlem file, found 0"),
        (lambda f: (f / "m.mlem").write_text("a: [b"), "not readable as YAML"),
        (lambda f: (f / "m.mlem").write_text("a: b"), "not the metadata of an MLEM model"),
        (lambda f: (f / "m.runtime.json").unlink(), "m.runtime.json: is missing"),
        (lambda f: (f / "m.golden.json").write_text("{"), "m.golden.json: not valid JSON"),
        (lambda f: (f / "m.golden.json").write_text("[]"), "must be a JSON object"),
        (lambda f: (f / "m").unlink(), "the model file is missing"),
        (lambda f: (f / "release.json").write_text('{"name": "n"}'), "described as another model"),
    ],
)
def test_damaged_bundle_names_the_file(make, damage, sentence):
    folder = make(b"")
    damage(folder)
    with pytest.raises(BundleError, match=sentence):
        read_bundle(folder)


def test_models_other_than_plain_pickles_are_refused(make):
    def change(mlem, runtime, release):
        mlem["processors"]["model"]["type"] = "xgboost"

    with pytest.raises(BundleError, match="models of type 'xgboost' cannot be served"):
        read_bundle(make(b"", change))


def start_and_fail(runtime, folder) -> str:
    done = subprocess.run(
        [str(runtime), "-m", "serving", "--bundle", str(folder), "--port", "0"],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == FAILED
    return done.stderr


@pytest.fixture
def wine(bundles, tmp_path):
    return Path(shutil.copytree(bundles / "wine", tmp_path / "wine"))


def test_server_with_a_swapped_model_does_not_start(runtime, wine):
    content = (wine / "wine").read_bytes()
    (wine / "wine").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    last = start_and_fail(runtime, wine).strip().splitlines()
    assert any("the model file is not the one recorded" in line for line in last)


def test_server_with_other_predictions_does_not_start(runtime, wine):
    path = wine / "wine.golden.json"
    golden = json.loads(path.read_text())
    golden["outputs"]["predict"][2] = 9
    path.write_text(json.dumps(golden))
    output = start_and_fail(runtime, wine)
    assert "golden prediction 3 of predict differs: expected 9, got 0" in output
    assert "Traceback" not in output


def test_server_that_cannot_import_its_model_reports_it(runtime, bundles, tmp_path):
    folder = Path(shutil.copytree(bundles / "moody", tmp_path / "moody"))
    mlem = yaml.safe_load((folder / "moody.mlem").read_text())
    mlem["requirements"] = [r for r in mlem["requirements"] if r.get("type") != "custom"]
    (folder / "moody.mlem").write_text(yaml.safe_dump(mlem))
    assert "cannot be unpickled: ModuleNotFoundError" in start_and_fail(runtime, folder)

"""The default pipeline under DVC: what it leaves behind, and what reruns when something changes."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tasks.training.evidence import parse_evaluation
from tests.code.model import support

SMALL = {"params": {}, "grid": {}, "probabilities": False}


@pytest.fixture(scope="session")
def wine() -> Path:
    return support.trained_wine()


def test_pipeline_leaves_reports_to_git_and_bytes_to_dvc(wine: Path) -> None:
    status = support.run("git", "status", "--short", "--untracked-files=all", cwd=wine).stdout
    assert sorted(line.split()[1] for line in status.splitlines()) == [
        "dvc.lock",
        "model/wine.golden.json",
        "model/wine.mlem",
        "model/wine.runtime.json",
        "reports/cv.json",
        "reports/data.json",
        "reports/evaluation.json",
        "reports/metrics.json",
    ]
    assert json.loads(support.dvc("status", "--json", cwd=wine).stdout) == {}


def test_metadata_has_hashes_schema_and_versions(wine: Path) -> None:
    content = (wine / "model/wine").read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    mlem = YAML(typ="safe").load(wine / "model/wine.mlem")
    assert mlem["artifacts"]["data"] == {"hash": md5, "size": len(content), "uri": "wine"}
    assert set(mlem["processors"]["model"]["methods"]) == {"predict", "predict_proba"}
    runtime = json.loads((wine / "model/wine.runtime.json").read_text())
    assert runtime["artifacts"]["model/wine"] == {
        "size": len(content),
        "md5": md5,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert runtime["classes"] == [0, 1, 2]
    assert {"numpy", "pandas", "scikit-learn", "scipy", "joblib"} <= set(runtime["packages"])
    assert set(runtime["hashes"]) == set(runtime["packages"])
    assert not {"mlem", "pydantic", "packaging"} & set(runtime["packages"])


def test_gate_finds_the_test_split_in_the_lock(wine: Path) -> None:
    model = parse_evaluation({}, "", (wine / "dvc.lock").read_text())
    split = (wine / "data/test.csv").read_bytes()
    assert model.split == hashlib.md5(split, usedforsecurity=False).hexdigest()


def test_metrics_and_plots_are_known_to_dvc(wine: Path) -> None:
    shown = json.loads(support.dvc("metrics", "show", "--json", cwd=wine).stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    assert set(metrics) == {"accuracy", "balanced_accuracy", "f1_macro", "log_loss"}
    support.dvc("plots", "show", "--out", ".dvc/tmp/plots", cwd=wine)
    page = (wine / ".dvc/tmp/plots/index.html").read_text()
    assert "xy_count" in page, "not the confusion matrix"


def test_same_inputs_give_the_same_bytes_elsewhere(wine: Path, tmp_path: Path) -> None:
    again = support.workspace(tmp_path / "elsewhere")
    # A process for each stage, as always: what else a process has imported shows in its pickles.
    for stage in ("fetch", "process", "train", "save"):
        code = f"from model import params, {stage}; params.run({stage}.main)"
        support.model_python("-c", code, cwd=again)
    for name in ("model/wine", "model/wine.mlem", "model/wine.golden.json", "reports/cv.json"):
        assert (again / name).read_bytes() == (wine / name).read_bytes(), name


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"gate": {"minimum": 0.5}}, {"fetch"}),
        ({"save": {"golden": 20}}, {"fetch", "save"}),
        ({"train": {"cv": 3}}, {"fetch", "train", "evaluate"}),  # train.metrics are evaluate's
        ({"data": {"test_size": 0.3}}, {"fetch", "process"}),
        ({"seed": 1}, {"fetch", "process", "train", "save", "evaluate"}),
    ],
)
def test_changed_parameter_reruns_only_the_stages_that_use_it(
    wine: Path, changes: dict[str, dict[str, float]], stages: set[str]
) -> None:
    before = (wine / "params.yaml").read_bytes()
    try:
        support.change_params(wine, **changes)
        changed = json.loads(support.dvc("status", "--json", cwd=wine).stdout)
    finally:
        (wine / "params.yaml").write_bytes(before)
    assert set(changed) == stages


def test_refused_parameters_change_nothing(wine: Path) -> None:
    paths = [p for p in wine.rglob("*") if p.is_file() and not {".git", ".dvc"} & set(p.parts)]
    before = {p: p.read_bytes() for p in paths if "__pycache__" not in p.parts}
    support.change_params(wine, data={"target": "cultivar"})
    refused = support.dvc("repro", cwd=wine, check=False)
    (wine / "params.yaml").write_bytes(before[wine / "params.yaml"])
    assert refused.returncode != 0
    assert "params.yaml: data.target: 'cultivar' is not a column of" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert {p: p.read_bytes() for p in before if p.exists()} == before


def test_own_data_works_in_a_fresh_clone(tmp_path: Path) -> None:
    mine = support.workspace(
        tmp_path / "mine",
        name="mine",
        data={"source": "data/source/my.csv", "target": "y", "separator": ";"},
        train={"estimator": "sklearn.linear_model.LogisticRegression"} | SMALL,
    )
    rows = [f"{i % 7};{i * 0.5};{'yes' if i % 2 else 'no'}" for i in range(60)]
    (mine / "data/source/my.csv").write_text("\n".join(["a;b;y", *rows]) + "\n")
    support.dvc("config", "--local", "cache.dir", str(tmp_path / "cache"), cwd=mine)
    support.dvc("add", "--quiet", "data/source/my.csv", cwd=mine)
    support.dvc("repro", "--quiet", "process", cwd=mine)
    support.commit(mine)
    assert json.loads(support.dvc("status", "--json", "process", cwd=mine).stdout) == {}

    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(mine), str(clone)], check=True)
    support.dvc("config", "--local", "cache.dir", str(tmp_path / "cache"), cwd=clone)
    support.dvc("checkout", "--quiet", "data/source/my.csv.dvc", "process", "-d", cwd=clone)
    again = support.dvc("repro", "process", cwd=clone).stdout
    assert "Running stage" not in again
    assert (clone / "data/train.csv").is_file()


def test_renamed_model_leaves_no_files_of_the_old_one(wine: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(wine, renamed, ignore=shutil.ignore_patterns("tmp", ".git"))
    support.change_params(renamed, name="claret")
    save = "from model import params, save; params.run(save.main)"
    support.model_python("-c", save, cwd=renamed)
    files = {path.name for path in (renamed / "model").iterdir() if path.is_file()}
    assert {name for name in files if name.startswith("claret")} == {
        "claret", "claret.golden.json", "claret.mlem", "claret.runtime.json",
    }  # fmt: skip
    assert not {name for name in files if name.startswith("wine")}
    assert "train.py" in files

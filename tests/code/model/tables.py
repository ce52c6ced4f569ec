"""Small tables that stand for what people really have, each with its params.yaml."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.code.model import support

CASES = Path(__file__).with_name("cases")
PUBLIC = Path(__file__).with_name("public")
DRIVER = Path(__file__).with_name("check_and_run.py")
LINEAR = {"classification": "LogisticRegression", "regression": "Ridge"}


def write_case(
    folder: Path,
    target: str,
    csv: str | bytes = "",
    *,
    case: str = "",
    public: str = "",
    data: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    gate: dict[str, Any] | None = None,
    is_trained: bool = False,
    suffix: str = ".csv",
    has_size: bool = True,
) -> Path:
    """Write a folder with a table and its params.yaml, as JSON, which is YAML, too.

    Args:
        folder: is made.
        target: the column to predict.
        csv: the content of the table; or `case`, the name of a file in `cases/`; or `public`, the
            name of one in `public/`, with its suffix.
        data: more keys of `data`; a classification unless `task` says otherwise.
        train: more keys of `train`.
        gate: instead of the one that every model passes.
        is_trained: whether stages are run after the check.
        suffix: of the file.
        has_size: whether `data.test_size` is given, and rows are split at random by default.
    """
    source = folder / "data" / "source" / (public or f"table{suffix}")
    source.parent.mkdir(parents=True)
    if case:
        shutil.copy(CASES / f"{case}.csv", source)
    elif public:
        shutil.copy(PUBLIC / public, source)
    else:
        source.write_bytes(csv.encode() if isinstance(csv, str) else csv)
    (folder / "model").mkdir()
    (folder / "model" / "uv.lock").symlink_to(support.ROOT / "model" / "uv.lock")
    if not is_trained:
        (folder / "check-only").touch()
    content = make_parameters(source.name, target, data, train=train, gate=gate, has_size=has_size)
    (folder / "params.yaml").write_text(json.dumps(content, ensure_ascii=False))
    return folder


def make_parameters(
    file: str,
    target: str,
    data: dict[str, Any] | None = None,
    *,
    name: str = "paper",
    train: dict[str, Any] | None = None,
    gate: dict[str, Any] | None = None,
    has_size: bool = False,
) -> dict[str, Any]:
    """Return a params.yaml with a linear model; arguments are those of `write_case`."""
    task = (data or {}).get("task", "classification")
    metric = "accuracy" if task == "classification" else "r2"
    return {
        "name": name,
        "seed": 1,
        "data": {"source": f"data/source/{file}", "target": target, "task": task}
        | ({"test_size": 0.2} if has_size else {})
        | (data or {}),
        "train": {"estimator": f"sklearn.linear_model.{LINEAR[task]}", "scoring": metric}
        | (train or {}),
        "save": {"golden": 32},
        "gate": gate or {"metric": metric, "minimum": 0.5},
    }


def run_cases(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Check all folders, and train those that are to be, in one process; return the outcomes."""
    support.model_python(DRIVER, *folders, cwd=support.ROOT)
    return {folder.name: json.loads((folder / "outcome.json").read_text()) for folder in folders}

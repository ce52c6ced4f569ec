"""Save the estimator with MLEM, and beside it what MLEM leaves out.

`<name>.golden.json` has inputs and the predictions of the saved model; `<name>.runtime.json` has
what is needed to run it: file hashes, Python version, exact package versions and their hashes.
"""

import hashlib
import pickle
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from model import mlem_api, requirements
from model.files import (
    ESTIMATOR,
    TEST,
    TYPES,
    get_model_path,
    read_data,
    read_split,
    remove_former_models,
    write_json,
)
from model.params import Params, run

LOCK = Path("model/uv.lock")
SAMPLE_ROWS = 5  # enough for MLEM to infer columns and types


def main(params: Params) -> None:
    """Write the model, its metadata, its golden predictions and its runtime requirements.

    Args:
        params: `name`, `save`, `seed`, `data.target` and `data.task`.
    """
    pickled = ESTIMATOR.read_bytes()
    features, target = read_split(TEST, params.data.target)
    code = requirements.trace(pickled)
    path = get_model_path(params.name)
    meta = mlem_api.save(
        pickle.loads(pickled), path, features.head(SAMPLE_ROWS), code.files, code.installed
    )

    model = mlem_api.load(path)
    inputs = _draw_sample(features, target, params)
    outputs = {"predict": model.predict(inputs).tolist()}
    if hasattr(model, "predict_proba"):
        outputs["predict_proba"] = model.predict_proba(inputs).tolist()
    write_json(
        get_model_path(params.name, ".golden.json"),
        {"format": 1, "inputs": _make_records(inputs), "outputs": outputs},
    )
    remove_former_models(params.name)
    packages = requirements.find_versions(r.module for r in meta.requirements.installable)
    write_json(
        get_model_path(params.name, ".runtime.json"),
        {
            "format": 1,
            "name": params.name,
            "task": params.data.task,
            "classes": model.classes_.tolist() if hasattr(model, "classes_") else None,
            **describe_inputs(read_data()["columns"]),
            "python": platform.python_version(),
            "artifacts": {path.as_posix(): _hash_file(path)},
            "packages": packages,
            "hashes": requirements.find_hashes(packages, LOCK),
        },
    )


def describe_inputs(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe what a server has to know of inputs, and MLEM does not write.

    MLEM writes a name of digits as a number, and neither what a column of objects holds nor which
    columns may be missing.

    Args:
        columns: of reports/data.json.

    Returns:
        Types and words for missing texts, by column, and the columns that may be missing.
    """
    return {
        "columns": {name: TYPES[column["dtype"]] for name, column in columns.items()},
        "missing_words": {
            name: column["missing_words"]
            for name, column in columns.items()
            if column["missing_words"] and column["dtype"] == "object"
        },
        "nullable": [name for name, column in columns.items() if column["missing"]],
    }


def _draw_sample(features: "pd.DataFrame", target: "pd.Series", params: Params) -> "pd.DataFrame":
    """Draw rows of the test split with the seed: one of each class, then any others."""
    shuffled = features.sample(frac=1, random_state=params.seed)
    if params.data.task == "classification":
        is_repeated = target[shuffled.index].duplicated().to_numpy()
        shuffled = pd.concat([shuffled[~is_repeated], shuffled[is_repeated]])
        return shuffled.head(max(params.save.golden, target.nunique()))
    return shuffled.head(params.save.golden)


def _make_records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Make rows as a client sends them, with None for missing values."""
    return list(frame.astype(object).where(frame.notna(), None).to_dict(orient="records"))


def _hash_file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "size": len(content),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


if __name__ == "__main__":
    run(main)

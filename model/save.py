"""Save the estimator with MLEM, and beside it what MLEM leaves out.

`<name>.golden.json` has inputs and the predictions of the saved model; `<name>.runtime.json` has
what is needed to run it: file hashes, Python version, exact package versions and their hashes.
"""

import hashlib
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from model import golden, mlem_api, requirements
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
from model.params import ConfigError, Params, run

LOCK = Path("model/uv.lock")
SAMPLE_ROWS = 5  # enough for MLEM to infer columns and types
CHUNK_BYTES = 1 << 20


def main(params: Params) -> None:
    """Write the model, its metadata, its golden predictions and its runtime requirements.

    Args:
        params: `name`, `save`, `seed`, `data.target` and `data.task`.
    """
    features, target, *_ = read_split(TEST, params.data.target)
    path = get_model_path(params.name)
    modules = _save(path, features.head(SAMPLE_ROWS))

    model = mlem_api.load(path)
    columns = read_data()["columns"]
    private = [name for name, column in columns.items() if column.get("private")]
    sample = golden.draw_sample(features, target, params)
    inputs = golden.replace_private(sample, features, private, params.seed)
    outputs = {"predict": predict(model, inputs, private)}
    if hasattr(model, "predict_proba"):
        outputs["predict_proba"] = model.predict_proba(inputs).tolist()
    write_json(
        get_model_path(params.name, ".golden.json"),
        {"format": 1, "inputs": golden.make_records(inputs), "outputs": outputs},
    )
    remove_former_models(params.name)
    packages = find_packages(modules, with_arrow=params.save.arrow)
    write_json(
        get_model_path(params.name, ".runtime.json"),
        {
            "format": 1,
            "name": params.name,
            "task": params.data.task,
            "classes": model.classes_.tolist() if hasattr(model, "classes_") else None,
            **describe_inputs(columns),
            "python": platform.python_version(),
            "artifacts": {path.as_posix(): _hash_file(path)},
            "packages": packages,
            "hashes": requirements.find_hashes(packages, LOCK),
        },
    )


def _save(path: Path, sample: "pd.DataFrame") -> list[str]:
    """Save the estimator; return the installed modules that it needs.

    When this returns, the estimator is no longer in memory, where the saved model is loaded next.
    """
    model, code = requirements.trace(ESTIMATOR)
    return mlem_api.save(model, ESTIMATOR, path, sample, code)


def find_packages(modules: list[str], *, with_arrow: bool) -> dict[str, str]:
    """Find the versions of the packages of the model's server, beside its own."""
    return requirements.find_versions([*modules, "pyarrow"] if with_arrow else modules)


def describe_inputs(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe the inputs for a server, as far as MLEM does not.

    MLEM writes a name of digits as a number, and neither what a column of objects holds nor which
    columns may be missing.

    Args:
        columns: of reports/data.json.

    Returns:
        Types and words for missing texts, by column, and the columns that may be missing or are
        private.
    """
    return {
        "columns": {name: TYPES[column["dtype"]] for name, column in columns.items()},
        "missing_words": {
            name: column["missing_words"]
            for name, column in columns.items()
            if column["missing_words"] and column["dtype"] == "object"
        },
        "nullable": [name for name, column in columns.items() if column["missing"]],
        "private": [name for name, column in columns.items() if column.get("private")],
    }


def predict(model: Any, inputs: "pd.DataFrame", private: list[str]) -> list[Any]:
    """Predict the golden inputs.

    Raises:
        ConfigError: the model does not take the made-up values of private columns.
    """
    try:
        return list(model.predict(inputs).tolist())
    except Exception as error:
        if not private:
            raise
        columns = ", ".join(private)
        problem = f"the model fails on made-up values of {columns} ({type(error).__name__}): "
        hint = "let it take any text and number, as sklearn.preprocessing.OneHotEncoder does with"
        raise ConfigError("data.private", f"{problem}{hint} handle_unknown='ignore'") from None


def _hash_file(path: Path) -> dict[str, Any]:
    digests = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            for digest in digests.values():
                digest.update(chunk)
    hashes = {name: digest.hexdigest() for name, digest in digests.items()}
    return {"size": path.stat().st_size, **hashes}


if __name__ == "__main__":
    run(main)

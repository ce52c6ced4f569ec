"""Train small models, save them with the real MLEM, and write the bundles the tests serve.

Run by the model environment's Python: `python make_bundles.py FOLDER`.
"""

import functools
import hashlib
import json
import os
import platform
import sys
import textwrap
from importlib import metadata
from pathlib import Path

os.environ |= {
    "MLEM_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLEM_AUTOLOAD_EXTS": "false",
}

import mlem.api
import mlem.contrib.numpy
import mlem.contrib.pandas
import mlem.contrib.sklearn
import numpy as np
import pandas as pd
from mlem.core.requirements import CustomRequirement
from mlem.ui import no_echo
from mlem.utils import module as mlem_module
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

# As `model.mlem_api` does it.
mlem_module.packages_distributions = functools.cache(mlem_module.packages_distributions)

PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "joblib", "threadpoolctl")
GOLDEN_ROWS = 24
CARD = {
    "target": "outcome",
    "meaning": "what comes out",
    "unit": "g",
    "rows": 69,
    "metrics": {"r2": 0.78123},
    "intervals": {"r2": [0.7, 0.84]},
    "importance": {
        "metric": "r2",
        "columns": [
            {"name": "sensor_299", "loss": 0.4, "std": 0.1},
            {"name": "colour", "loss": 0.2, "std": 0.1},
            {"name": "age", "loss": -0.01, "std": 0.1},
        ],
    },
}

OWN_CODE = '''
    """A step of the user's own: slow on demand, broken on demand."""
    import os
    import time

    from sklearn.base import BaseEstimator, TransformerMixin


    class Moody(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def transform(self, X):
            firsts = (X.iloc if hasattr(X, "iloc") else X)[:, 0]
            if (firsts == 666).any():
                raise RuntimeError(f"no luck with {firsts.max()}")
            if (firsts == 667).any():
                raise RuntimeError(f"the mood is {os.environ['MOOD']}")
            if firsts.max() >= 1000:
                time.sleep((firsts.max() - 1000) / 1000)
            return X
'''


def save(folder, name, model, frame, *, task, nullable=(), code=None):
    """Write one bundle."""
    home = folder / name
    home.mkdir(parents=True)
    path = home / name
    with no_echo():
        meta = mlem.api.save(model, str(path), sample_data=frame[:5])
        if code:
            source = CustomRequirement.compress_package(code)
            meta.requirements.add(
                CustomRequirement(name="own", module="own", source64zip=source, is_package=True)
            )
            meta.update()
    inputs = frame[:: max(1, len(frame) // GOLDEN_ROWS)][:GOLDEN_ROWS]
    outputs = {m: getattr(model, m)(inputs).tolist() for m in meta.call_orders}
    if isinstance(inputs, pd.DataFrame):
        plain = inputs.astype(object).where(inputs.notna(), None).to_dict(orient="records")
    else:
        plain = inputs.tolist()
    write(home / f"{name}.golden.json", {"format": 1, "inputs": plain, "outputs": outputs})
    content = path.read_bytes()
    digest = {
        "size": len(content),
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    runtime = {
        "format": 1,
        "name": name,
        "task": task,
        "classes": model.classes_.tolist() if hasattr(model, "classes_") else None,
        "nullable": list(nullable),
        "python": platform.python_version(),
        "artifacts": {f"model/{name}": digest},
        "packages": {package: metadata.version(package) for package in PACKAGES},
    }
    write(home / f"{name}.runtime.json", runtime)
    release = {
        "name": name,
        "version": "v1.2.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "md5": digest["md5"],
        "environment": "test",
        "serving": "s1",
        "card": CARD,
    }
    write(home / "release.json", release)


def write(path, content):
    """Write JSON."""
    path.write_text(json.dumps(content, indent=1, default=lambda value: value.item()))


def main(folder):
    """Write all bundles."""
    wine = load_wine(as_frame=True)
    frame = wine.data.astype({"magnesium": "int64", "proline": "int64"})
    probable = CalibratedClassifierCV(SVC(), ensemble=False)
    model = make_pipeline(StandardScaler(), probable).fit(frame, wine.target)
    save(folder, "wine", model, frame, task="classification")
    model = make_pipeline(StandardScaler(), SVC()).fit(frame, wine.target)
    save(folder, "labels", model, frame, task="classification")  # has predict only

    diabetes = load_diabetes()
    model = make_pipeline(StandardScaler(), Ridge()).fit(diabetes.data, diabetes.target)
    save(folder, "array", model, diabetes.data, task="regression")
    frame = load_diabetes(as_frame=True).data
    model = make_pipeline(StandardScaler(), Ridge()).fit(frame, diabetes.target)
    save(folder, "diabetes", model, frame, task="regression")

    names = [f"sensor_{number:03}" for number in range(300)]
    wide = pd.DataFrame(np.random.default_rng(1).normal(size=(40, 300)), columns=names)
    save(folder, "wide", Ridge().fit(wide, wide["sensor_299"]), wide, task="regression")

    mixed = pd.DataFrame(
        {
            "age": [20.0, None, 40.0, 50.0] * 10,
            "visits": [1, 2, 3, 4] * 10,
            "colour": np.array(["red", "blue", np.nan, "red"] * 10, dtype=object),
            "member": [True, False, True, True] * 10,
            "size": np.array(["small", "big", "big", "small"] * 10, dtype=object),
        }
    )
    answer = np.array(["yes", "no", "no", "yes"] * 10, dtype=object)
    steps = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        (OneHotEncoder(), ["size"]),
        (SimpleImputer(), ["age"]),
        remainder="passthrough",
    )
    model = make_pipeline(steps, LogisticRegression()).fit(mixed, answer)
    model.seen_categories_ = {"colour": ("blue", "red")}
    nullable = ("age", "colour")
    save(folder, "mixed", model, mixed, task="classification", nullable=nullable)
    model = make_pipeline(steps, LogisticRegression()).fit(mixed, answer.astype(str))
    save(folder, "text", model, mixed, task="classification", nullable=nullable)

    code = {"own/__init__.py": b"", "own/steps.py": textwrap.dedent(OWN_CODE).encode()}
    home = folder / ".own"
    for part, source in code.items():
        (home / part).parent.mkdir(parents=True, exist_ok=True)
        (home / part).write_bytes(source)
    sys.path.insert(0, str(home))
    from own.steps import Moody

    numbers = pd.DataFrame({"first": np.arange(40.0), "second": np.arange(40.0) % 7})
    model = make_pipeline(Moody(), Ridge()).fit(numbers, np.arange(40.0) * 2)
    save(folder, "moody", model, numbers, task="regression", code=code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

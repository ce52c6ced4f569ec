"""All use of MLEM: nothing else imports it, so its settings are made here once."""

import os

os.environ |= {
    # Telemetry is on by default and opens the network.
    "MLEM_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    # MLEM loads its extensions through an import hook that is dead from Python 3.12 on.
    "MLEM_AUTOLOAD_EXTS": "false",
}

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import mlem.api
import mlem.contrib.numpy
import mlem.contrib.pandas
import mlem.contrib.sklearn
from mlem.core.requirements import CustomRequirement, InstallableRequirement, Requirements
from mlem.ui import no_echo
from mlem.utils import module as _mlem_module

# MLEM asks which distribution each module is of, a dozen times a model, and each time this reads
# the metadata of all installed packages anew: most of the time that saving a model took.
_mlem_module.packages_distributions = cache(_mlem_module.packages_distributions)

ALWAYS = ("numpy", "pandas", "sklearn")  # predictions, requests and the estimator itself


def save(
    model: Any, path: Path, sample: Any, code: dict[str, bytes], modules: Iterable[str]
) -> Any:
    """Save a fitted model: `path` and, beside it, `path.mlem`.

    Source of the user's own travels in the metadata as one requirement of type `custom` for each
    package at the top:

        - is_package: true
          module: model
          name: model
          source64zip: eJyr...
          type: custom

    `source64zip` is base64(zlib(JSON)), the JSON an object of path to base64(zlib(content)), e.g.
    `{"model/custom/ratios.py": "eJwr..."}`. Written to a folder on `sys.path` before unpickling,
    that is all the model needs of it. `mlem.api.load` does the same by itself.

    Args:
        model: a scikit-learn estimator.
        path: where to save it, e.g. `model/wine`.
        sample: a few rows of features, with the columns and types that requests will have.
        code: source files the model is made of, by path relative to the root of the repository.
        modules: installed modules that the model and this code need.

    Returns:
        MLEM's metadata, as in the file.
    """
    with no_echo():
        meta = mlem.api.save(model, str(path), sample_data=sample)
        # Not MLEM's own list: with code of one's own it counts whatever this process has imported.
        meta.requirements = Requirements.new()
        for module in sorted({*modules, *ALWAYS}):
            meta.requirements.add(InstallableRequirement.from_module(import_module(module)))
        for top in sorted({name.partition("/")[0] for name in code}):
            files = {name: code[name] for name in sorted(code) if name.partition("/")[0] == top}
            name = top.removesuffix(".py")
            source = CustomRequirement.compress_package(files)
            meta.requirements.add(
                CustomRequirement(name=name, module=name, source64zip=source, is_package=True)
            )
        meta.update()
    return meta


def load(path: Path) -> Any:
    """Load the model saved at `path` (there must be a `path.mlem`). Runs its code."""
    with no_echo():
        return mlem.api.load(str(path))

"""All use of MLEM: nothing else imports it, so its settings are made here once."""

import os

os.environ |= {
    # Telemetry is on by default and opens the network.
    "MLEM_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    # MLEM loads its extensions through an import hook that is dead from Python 3.12 on.
    "MLEM_AUTOLOAD_EXTS": "false",
}

import hashlib
import shutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlem.api
import mlem.contrib.numpy
import mlem.contrib.pandas
import mlem.contrib.sklearn
from mlem.core.artifacts import LocalArtifact
from mlem.core.model import ModelAnalyzer, SimplePickleIO
from mlem.core.objects import MAIN_PROCESSOR_NAME, MlemModel
from mlem.core.requirements import CustomRequirement, InstallableRequirement, Requirements
from mlem.ui import no_echo
from mlem.utils import module as _mlem_module

if TYPE_CHECKING:
    from model.requirements import Code

# MLEM asks which distribution each module is of, a dozen times a model, and each time this reads
# the metadata of all installed packages anew: most of the time that saving a model took.
_mlem_module.packages_distributions = cache(_mlem_module.packages_distributions)

ALWAYS = ("numpy", "pandas", "sklearn")  # predictions, requests and the estimator itself


def save(model: Any, pickled: Path, path: Path, sample: Any, code: "Code") -> list[str]:
    """Save a fitted model: `path` and, beside it, `path.mlem`.

    The files are those of `mlem.api.save`, which would take many times as long: for requirements
    that are replaced here it pickles the model in Python, and with code of one's own packs all of
    the folder of this code, the estimator included. Nor is the model pickled again.

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
        pickled: the file with its pickle.
        path: where to save it, e.g. `model/wine`.
        sample: a few rows of features, with the columns and types that requests will have.
        code: that the pickle refers to.

    Returns:
        Names of the installed modules in the metadata.
    """
    with no_echo():
        model_type = ModelAnalyzer.analyze(model, sample_data=sample)
        requirements = [
            InstallableRequirement.from_module(import_module(module))
            for module in sorted({*code.installed, *ALWAYS})
        ]
        meta = MlemModel(requirements=Requirements.new([*requirements, *_pack(code.files)]))
        meta.processors_cache[MAIN_PROCESSOR_NAME] = model_type
        meta.call_orders = {name: [(MAIN_PROCESSOR_NAME, name)] for name in model_type.methods}
        if not isinstance(model_type.io, SimplePickleIO):  # MLEM writes it in another form
            meta.dump(str(path))
            return [requirement.module for requirement in requirements]
        with pickled.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        size = pickled.stat().st_size
        artifact = LocalArtifact(uri=path.name, size=size, hash=digest.hexdigest())
        meta.artifacts = {model_type.io.art_name: artifact}
        meta.dump(str(path))  # removes a model that was there
        shutil.copyfile(pickled, path)
    return [requirement.module for requirement in requirements]


def _pack(sources: dict[str, bytes]) -> Iterable[CustomRequirement]:
    """Yield a requirement for each package of source at the top."""
    for top in sorted({name.partition("/")[0] for name in sources}):
        files = {name: sources[name] for name in sorted(sources) if name.partition("/")[0] == top}
        name = top.removesuffix(".py")
        source = CustomRequirement.compress_package(files)
        yield CustomRequirement(name=name, module=name, source64zip=source, is_package=True)


def load(path: Path) -> Any:
    """Load the model saved at `path` (there must be a `path.mlem`). Runs its code."""
    with no_echo():
        return mlem.api.load(str(path))

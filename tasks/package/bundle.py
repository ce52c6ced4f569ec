"""Bundles: folders that `python -m serving` runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.package.package import Package


@dataclass(frozen=True)
class Bundle:
    """A folder that `python -m serving` runs.

    Attributes:
        package: The package in it.
        identifier: Name of the release, unique on the host and sorted by time.
        path: The folder.
        python: Python of the runtime.
        environment: Where it is to be released.
    """

    package: Package
    identifier: str
    path: Path
    python: Path
    environment: str

    def describe(self, version: str | None) -> None:
        """Write `release.json`, which `/version` answers.

        Args:
            version: Name of the model version, None as long as it has none.
        """
        release = {
            "name": self.package.model,
            "version": version,
            "commit": self.package.commit,
            "md5": self.package.md5,
            "environment": self.environment,
            "release": self.identifier,
            "serving": self.package.serving,
        }
        (self.path / "release.json").write_text(json.dumps(release, indent=2))


def make_bundle(
    package: Package, file: Path, python: Path, folder: Path, *, environment: str, identifier: str
) -> Bundle:
    """Put model, metadata and serving code of the commit into one folder.

    Args:
        package: The package.
        file: Its verified model file.
        python: Python of its runtime.
        folder: Where to.
        environment: Where it is to be released.
        identifier: Name of the release.

    Returns:
        The bundle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / identifier, folder / f"{identifier}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copy2(file, partial / package.model)
    for source in package.files:
        shutil.copy2(source, partial)
    shutil.copytree(package.workspace.path / "serving", partial / "serving")
    bundle = Bundle(package, identifier, path, python, environment)
    partial.rename(path)
    bundle.describe(version=None)
    return bundle

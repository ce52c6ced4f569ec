"""Bundles: folders that `python -m serving` runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.core.byte_code import compile_folder
from tasks.package.card import read_card
from tasks.package.package import Package


@dataclass(frozen=True)
class Bundle:
    """A folder that `python -m serving` runs.

    Attributes:
        identifier: Name of the release, unique on the host and sorted by time.
        python: Path of the runtime's Python.
        environment: Name of the environment to which it is released.
    """

    package: Package
    identifier: str
    path: Path
    python: Path
    environment: str

    def describe(self, version: str | None) -> None:
        """Write `release.json`: the content of `/version`, and the card for the model's page.

        Args:
            version: None before it is registered.
        """
        release = {
            "name": self.package.model,
            "version": version,
            "commit": self.package.commit,
            "md5": self.package.md5,
            "environment": self.environment,
            "release": self.identifier,
            "serving": self.package.serving,
            "card": read_card(self.package.workspace.path),
        }
        (self.path / "release.json").write_text(json.dumps(release, indent=2))


def make_bundle(
    package: Package, file: Path, python: Path, folder: Path, *, environment: str, identifier: str
) -> Bundle:
    """Copy model, metadata and serving code of the commit into a new folder.

    Args:
        package: The package.
        file: Its verified model file.
        python: Path of its runtime's Python.
        folder: Folder of all bundles.
        environment: Name of the environment to which it is released.
        identifier: Name of the release.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / identifier, folder / f"{identifier}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        shutil.copy2(file, partial / package.model)
        for source in package.files:
            shutil.copy2(source, partial)
        for name, content in package.attachments.items():
            (partial / name).write_bytes(content)
        shutil.copytree(package.workspace.path / "serving", partial / "serving")
        compile_folder(partial / "serving", path / "serving")
    except OSError:  # a full disk would stay full
        shutil.rmtree(partial, ignore_errors=True)
        raise
    bundle = Bundle(package, identifier, path, python, environment)
    partial.rename(path)
    bundle.describe(version=None)
    return bundle

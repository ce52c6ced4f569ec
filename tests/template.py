"""The repository that the template's tests work on: the checkout's code, a model of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from tasks.core.settings import CHECKOUT

OVERLAY = Path(__file__).with_name("template")
ENVIRONMENTS = OVERLAY / "deployments" / "environments"
# What belongs to the user of the template, who edits, adds and removes it: no later version of the
# template touches it (docs/upgrade.md), and no test of the template depends on it.
USER_FILES = (
    ".dvc/config",
    "README.md",
    "data/source/**",
    "deployments/environments/**",
    "deployments/trust/**",
    "dvc.lock",
    "model/*.golden.json",
    "model/*.provenance.json",
    "model/*.sig",
    "model/*.mlem",
    "model/*.runtime.json",
    "model/custom/**",
    "params.yaml",
    "reports/*.csv",
    "reports/*.json",
    "tests/data/**",
    "tests/model/**",
)
_USER_FILE = re.compile(
    "|".join(
        re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^/]+") for pattern in USER_FILES
    )
)


def is_user_file(path: str) -> bool:
    """Return whether a path, relative to the repository, belongs to the template's user."""
    return _USER_FILE.fullmatch(path) is not None


def is_template() -> bool:
    """Return whether the checkout is the template itself, whose model is that of its tests."""
    parser = YAML(typ="safe")
    shipped, own = (parser.load(folder / "params.yaml") for folder in (CHECKOUT, OVERLAY))
    return all(shipped.get(key) == own[key] for key in ("name", "data", "train"))


def copy_template(folder: Path) -> None:
    """Copy the checkout's working tree, uncommitted work included, with the tests' own files.

    Args:
        folder: Where to copy it to; created.
    """
    for name in working_tree(CHECKOUT):
        if not is_user_file(name):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target, follow_symlinks=False)
    shutil.copytree(OVERLAY, folder, dirs_exist_ok=True)


def working_tree(repository: Path) -> list[str]:
    """List the files of a repository that are there and that Git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (repository / name).exists()]

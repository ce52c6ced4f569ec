"""The catalogue of platforms: one row each, and only the client that is used is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasks.platforms
from tasks.core.settings import CHECKOUT
from tasks.platforms.base.settings import Environment
from tasks.platforms.catalogue import PLATFORMS
from tests.code.platforms import conftest

_NO_PLATFORMS = {"base", "host"}
# Reads every environment, makes the target of some, and says which clients that has imported.
_IMPORTED = """
import sys
from tasks.platforms.catalogue import environment_names, load_environment, make_target

def imported():
    return sorted({"boto3", "docker", "kubernetes"} & set(sys.modules))

read = {name: load_environment(name) for name in environment_names()}
print(imported())
for name in ("heroku", "kubernetes"):
    make_target(read[name])
    print(imported())
"""


def test_every_folder_of_a_platform_has_a_row() -> None:
    folder = Path(next(iter(tasks.platforms.__path__)))
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert folders - _NO_PLATFORMS == set(PLATFORMS)


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_row_has_classes_a_place_and_a_page(name: str) -> None:
    settings = PLATFORMS[name].load_settings()
    assert issubclass(settings, Environment)
    assert settings.model_fields["target"].annotation.__args__ == (name,)  # type: ignore[union-attr]
    assert callable(PLATFORMS[name].load_target())
    assert hasattr(conftest, f"{name}_place")
    assert (CHECKOUT / "docs" / "targets" / f"{name}.md").is_file()


def test_only_the_client_that_is_used_is_imported() -> None:
    argv = [sys.executable, "-c", _IMPORTED]
    finished = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["[]", "[]", "['kubernetes']"]

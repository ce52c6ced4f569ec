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
_CLIENTS = "boto3", "docker", "kubernetes"
# Reads every environment, makes the target of one, and says which clients that has imported.
_IMPORTED = """
import sys
from tasks.platforms.catalogue import environment_names, load_environment, make_target
read = {name: load_environment(name) for name in environment_names()}
if len(sys.argv) > 1:
    make_target(read[sys.argv[1]])
print(*sorted({"boto3", "docker", "kubernetes"} & set(sys.modules)))
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


@pytest.mark.parametrize(
    ("environment", "clients"), [(None, set()), ("heroku", set()), ("kubernetes", {"kubernetes"})]
)
def test_only_the_client_that_is_used_is_imported(
    environment: str | None, clients: set[str]
) -> None:
    argv = [sys.executable, "-c", _IMPORTED, *([environment] if environment else [])]
    finished = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert set(finished.stdout.split()) & set(_CLIENTS) == clients

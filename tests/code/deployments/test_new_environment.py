"""`slipway new environment`: the file of a new environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from deployments.new_environment import write_environment
from tasks.core.errors import ConfigurationError
from tasks.platforms.catalogue import PLATFORMS, load_environment


@pytest.mark.parametrize("target", PLATFORMS)
def test_new_environment_is_valid_and_shows_every_key(tmp_path: Path, target: str) -> None:
    path = write_environment("staging", target, tmp_path)
    environment = load_environment("staging", tmp_path)
    assert environment.target == target
    lines = path.read_text().splitlines()
    assert max(map(len, lines)) <= 100
    for key in type(environment).model_fields.keys() - {"name"}:
        assert [line for line in lines if line.removeprefix("# ").startswith(f"{key} = ")], key


@pytest.mark.parametrize("target", PLATFORMS)
def test_commented_defaults_change_nothing_when_uncommented(tmp_path: Path, target: str) -> None:
    path = write_environment("staging", target, tmp_path)
    before = load_environment("staging", tmp_path)
    lines = path.read_text().splitlines()
    keys = type(before).model_fields
    defaults = [
        line.removeprefix("# ")
        for line in lines
        if line.startswith("# ") and line.split()[1] in keys and line.split()[2:3] == ["="]
    ]
    assert defaults
    in_use = [line for line in lines if line and not line.startswith("#")]
    # A file that is named has to exist; what is not set has no value.
    defaults = [line for line in defaults if not line.endswith("…") and "fly.toml" not in line]
    path.write_text("\n".join([*in_use, *defaults]))
    assert tomllib.loads(path.read_text())
    # What a platform fills in from other keys is shown as not set, or as empty.
    after = load_environment("staging", tmp_path)
    assert {key: getattr(after, key) for key in keys} == {key: getattr(before, key) for key in keys}


@pytest.mark.parametrize("name", ["", "a", "Staging", "1st", "a_b", "a-", "../up", "x" * 31])
def test_invalid_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid name of an environment"):
        write_environment(name, "process", tmp_path)
    assert not list(tmp_path.iterdir())


def test_existing_environments_and_unknown_targets_are_refused(tmp_path: Path) -> None:
    path = write_environment("staging", "process", tmp_path)
    text = path.read_text()
    with pytest.raises(ConfigurationError, match="exists already"):
        write_environment("staging", "docker", tmp_path)
    assert path.read_text() == text
    with pytest.raises(ConfigurationError, match="unknown target 'mars'"):
        write_environment("other", "mars", tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["staging.toml"]

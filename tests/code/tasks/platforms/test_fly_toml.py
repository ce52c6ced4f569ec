from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import ConfigurationError
from tasks.platforms.catalogue import load_environment
from tasks.platforms.flyio.settings import FlyioEnvironment

# As `fly launch` writes it.
_FLY_TOML = """
app = 'restless-fire'
primary_region = 'fra'

[http_service]
  internal_port = 9000
  force_https = true
  auto_stop_machines = 'suspend'
  auto_start_machines = true
  min_machines_running = 1
  processes = ['app']

[[vm]]
  processes = ['worker']
  size = 'performance-16x'

[[vm]]
  memory = '2gb'
  cpu_kind = 'performance'
  cpus = 2
"""


def _load(
    folder: Path, text: str, fly_toml: str = _FLY_TOML, name: str = "fly.toml"
) -> FlyioEnvironment:
    (folder / "fly.toml").write_text(fly_toml)
    file = f'target = "flyio"\norganization = "us"\nfly_toml = "{folder}/{name}"\n{text}'
    (folder / "staging.toml").write_text(file)
    found = load_environment("staging", folder)
    assert isinstance(found, FlyioEnvironment)
    return found


def test_a_fly_toml_counts_where_the_file_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_STAGING_MEMORY", "4gb")
    found = _load(tmp_path, 'region = "ams"')
    assert (found.app, found.region, found.internal_port) == ("restless-fire", "ams", 9000)
    assert (found.size, found.memory) == ("performance-2x", "4gb")
    assert (found.auto_stop, found.min_machines_running) == ("suspend", 1)
    assert found.url == "https://restless-fire.fly.dev"
    assert found.repository == "registry.fly.io/restless-fire"


def test_the_app_of_the_file_names_url_and_repository(tmp_path: Path) -> None:
    found = _load(tmp_path, 'app = "ours"')
    assert (found.url, found.repository) == ("https://ours.fly.dev", "registry.fly.io/ours")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("auto_stop_machines = true", "stop"),
        ("auto_stop_machines = false", "off"),
        ("", "off"),
    ],
)
def test_files_of_older_flyctls_are_read(tmp_path: Path, said: str, means: str) -> None:
    old = f"app = 'old'\nprimary_region = 'fra'\n[http_service]\n{said}\n[[vm]]\nmemory_mb = 512"
    found = _load(tmp_path, "", old)
    assert (found.auto_stop, found.memory, found.size) == (means, "512mb", "shared-cpu-1x")


@pytest.mark.parametrize(
    ("fly_toml", "says"),
    [
        ("app = ", "fly.toml: Invalid value"),
        ("", "app: Field required; region: Field required"),
        ("app = 'a'\nprimary_region = 'fra'\n[[vm]]\nsize = 'a100-40gb'", "size: String should"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, fly_toml: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        _load(tmp_path, "", fly_toml)


def test_a_fly_toml_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fly_toml: there is no file .*/fly\.ams\.toml"):
        _load(tmp_path, "", name="fly.ams.toml")

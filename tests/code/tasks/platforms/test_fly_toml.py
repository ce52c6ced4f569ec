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
    environment = load_environment("staging", folder)
    assert isinstance(environment, FlyioEnvironment)
    return environment


def test_fly_toml_fills_missing_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_STAGING_MEMORY", "4gb")
    environment = _load(tmp_path, 'region = "ams"')
    assert (environment.app, environment.region, environment.internal_port) == (
        "restless-fire",
        "ams",
        9000,
    )
    assert (environment.size, environment.memory) == ("performance-2x", "4gb")
    assert (environment.auto_stop, environment.min_machines_running) == ("suspend", 1)
    assert environment.url == "https://restless-fire.fly.dev"
    assert environment.repository == "registry.fly.io/restless-fire"


def test_app_in_the_file_sets_url_and_repository(tmp_path: Path) -> None:
    environment = _load(tmp_path, 'app = "ours"')
    assert (environment.url, environment.repository) == (
        "https://ours.fly.dev",
        "registry.fly.io/ours",
    )


@pytest.mark.parametrize(
    ("section", "means"),
    [
        ("auto_stop_machines = true", "stop"),
        ("auto_stop_machines = false", "off"),
        ("", "off"),
    ],
)
def test_files_of_older_flyctl_versions_are_read(tmp_path: Path, section: str, means: str) -> None:
    old = f"app = 'old'\nprimary_region = 'fra'\n[http_service]\n{section}\n[[vm]]\nmemory_mb = 512"
    environment = _load(tmp_path, "", old)
    assert (environment.auto_stop, environment.memory, environment.size) == (
        means,
        "512mb",
        "shared-cpu-1x",
    )


def test_machine_without_number_of_processors_has_one(tmp_path: Path) -> None:
    fly_toml = "app = 'a'\nprimary_region = 'fra'\n[[vm]]\ncpu_kind = 'performance'"
    assert _load(tmp_path, "", fly_toml).size == "performance-1x"


@pytest.mark.parametrize(
    ("fly_toml", "says"),
    [
        ("app = ", "fly.toml: Invalid value"),
        ("", "app: Field required; region: Field required"),
        ("app = 'a'\nprimary_region = 'fra'\n[[vm]]\nsize = 'a100-40gb'", "size: String should"),
    ],
)
def test_unusable_setting_is_named(tmp_path: Path, fly_toml: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        _load(tmp_path, "", fly_toml)


def test_missing_fly_toml_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fly_toml: there is no file .*/fly\.ams\.toml"):
        _load(tmp_path, "", name="fly.ams.toml")

from __future__ import annotations

from pathlib import Path

import pytest

from flows.deploy import deploy
from tasks.core.errors import ConfigurationError
from tasks.platforms.base.policy import KEYS, describe
from tasks.platforms.base.settings import (
    CANARY_SECONDS,
    READY_SECONDS,
    SOAK_SECONDS,
    ImageEnvironment,
)
from tasks.platforms.base.shadow import SHADOW_SECONDS
from tasks.platforms.catalogue import environment_names, load_environment
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.release.shadowing import mirror
from tasks.release.steps import preflight, settle, verify


def _write(folder: Path, text: str) -> Path:
    (folder / "staging.toml").write_text(text)
    return folder


def test_environments_of_the_repository_are_valid() -> None:
    assert "local" in environment_names()
    for name in environment_names():
        assert load_environment(name).name == name


def test_variable_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_STAGING_PORT", "9001")
    monkeypatch.setenv("SLIPWAY_STAGING_CANARY", "10,50")
    monkeypatch.setenv("SLIPWAY_STAGING_WATCH", "1.5h")
    monkeypatch.setenv("SLIPWAY_STAGING_LOG", "{}")
    monkeypatch.setenv("SLIPWAY_STAGING_SHADOW", "1000")
    environment = load_environment("staging", _write(tmp_path, 'target = "process"\nport = 8081'))
    assert isinstance(environment, ProcessEnvironment)
    assert environment.url == "http://127.0.0.1:9001"
    assert environment.canary == (10, 50)
    assert environment.watch_seconds == 5400
    assert environment.shadow
    assert (environment.shadow.requests, environment.shadow.seconds) == (1000, 3600)


def test_only_the_laptop_is_open_by_default(tmp_path: Path) -> None:
    (tmp_path / "local.toml").write_text('target = "process"')
    laptop, staging = (
        load_environment(name, _write(tmp_path, 'target = "process"'))
        for name in ("local", "staging")
    )
    assert (laptop.branches, laptop.gate) == (("*",), "advised")
    assert (staging.branches, staging.gate, staging.force) == (("main",), "required", True)
    assert describe(laptop) == (
        "branches *; gate advised by the rules of the live version; signatures off;"
        " another interface allowed; force with a reason"
    )


@pytest.mark.parametrize("key", sorted(KEYS))
def test_no_variable_sets_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    folder = _write(tmp_path, 'target = "process"')
    monkeypatch.setenv(f"SLIPWAY_STAGING_{key.upper()}", "none")
    says = f"variable SLIPWAY_STAGING_{key.upper()} is set, but `{key}` belongs to the policy"
    with pytest.raises(ConfigurationError, match=says):
        load_environment("staging", folder)


@pytest.mark.parametrize("target", ["docker", "flyio", "heroku", "kubernetes", "sagemaker"])
def test_platforms_can_be_set_by_a_variable(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: tuple[str, ...] = ("linux/amd64",)
    if target not in {"heroku", "sagemaker"}:  # which take one
        expected += ("linux/arm64",)
    monkeypatch.setenv(f"SLIPWAY_{target.upper()}_PLATFORMS", ",".join(expected))
    environment = load_environment(target)
    assert isinstance(environment, ImageEnvironment)
    assert environment.platforms == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('target = "process"\nprot = 1', "prot: Extra inputs.*allowed keys:.*port"),
        ('target = "process"\nport = "http"', "port: Input should be a valid integer"),
        ('target = "process"\nport = 99999', "port: Input should be less than or equal to 65535"),
        ('target = "mainframe"', "target = 'mainframe' is unknown; known: docker, flyio, heroku"),
        ('target = "docker"\nrepository = "r"\nmemory = "much"', "memory: String should match"),
        ('target = "docker"', "repository: Field required"),
        ('target = "docker"\nrepository = "r"\nplatforms = ["sparc"]', "linux/arm64"),
        (
            'target = "process"\ncanary = [50, 10]',
            "each share has to be larger than the one before",
        ),
        (
            'target = "process"\ncanary = [10, 100]',
            "canary.1: Input should be less than or equal to 99",
        ),
        ('target = "process"\ncanary = [1, 2]\ncanary_seconds = 3000', "may take 3600 s in all"),
        ('target = "process"\nsoak_seconds = 7200', "soak_seconds: .* less than or equal to 1800"),
        ('target = "process"\nwatch = "30"', "watch: .* a duration has a unit: 90s, 30m or 2h"),
        ('target = "process"\nwatch = "7h"', "watch: 6h at most"),
        (
            'target = "heroku"\nrepository = "r"\nwatch = "1h"',
            "watch: .*only the targets `process`",
        ),
        ('target = "process"\nshadow = "10m"', "shadow: it needs a prediction log of all"),
        (
            'target = "process"\nlog = {share = 0.5}\nshadow = 1000',
            "shadow: it needs a prediction log of all",
        ),
        ('target = "process"\nlog = {}\nshadow = "2h"', "shadow: .*time: .*1h at most"),
        ('target = "process"\nlog = {}\nshadow = 0', "shadow.requests: .* greater than or equal"),
        ('target = "process"\nlog = {}\nshadow = {max = 1}', "shadow.max: Extra inputs"),
        (
            'target = "heroku"\nrepository = "r"\nshadow = "10m"',
            "shadow: .*only the targets `process`",
        ),
        ('target = "process"\nready_seconds = 900', "ready_seconds: .* less than or equal to 600"),
        ('target = "sagemaker"\nrepository = "r"\nregion = "here"', "region: String should match"),
        ("port = 1", "target = None is unknown"),
        ('target = "process"\nbranches = []', "branches: Tuple should have at least 1 item"),
        ('target = "process"\ngate = "off"', "gate: Input should be 'required' or 'advised'"),
        ('target = "process"\ngate_rules = {metric = "r2", minimum = 0, maximum = 1}', "not both"),
        ('target = "process"\npromote_from = "moon"', "promote_from = 'moon' is no environment"),
        ('target = "process"\npromote_from = "staging"', "it is this environment itself"),
        ("target = ", "staging.toml"),
    ],
)
def test_invalid_settings_name_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        load_environment("staging", _write(tmp_path, text))
    assert "staging.toml" in refused.value.what
    assert refused.value.state == "nothing was started"


def test_time_limit_of_a_deploy_covers_all_settings() -> None:
    settling = CANARY_SECONDS + SOAK_SECONDS
    for step, takes in (
        (preflight, READY_SECONDS),
        (verify, READY_SECONDS),
        (settle, settling),
        (mirror, READY_SECONDS + SHADOW_SECONDS),
        (deploy, 3 * READY_SECONDS + SHADOW_SECONDS + settling),
    ):
        assert step.timeout_seconds
        assert step.timeout_seconds > takes, step.name


def test_unknown_environment_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'prod' does not exist; known: staging"):
        load_environment("prod", _write(tmp_path, ""))

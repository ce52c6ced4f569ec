"""Variables of an environment: what is refused, and where each platform is given them."""

from __future__ import annotations

import json
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from serving.metrics import Metrics
from serving.settings import PREFIX, Limits, LogSettings, name_limit
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.package.package import Package
from tasks.platforms.base.prediction_log import (
    describe_counts,
    find_spool,
    last_lines_without_records,
    make_spool,
    without_log,
)
from tasks.platforms.base.variables import LATER_LIMITS, LIMITS, WORKERS, VariableReader, Variables
from tasks.platforms.catalogue import load_environment
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.docker.target import container_options
from tasks.platforms.flyio.config import machine_config
from tasks.platforms.flyio.settings import FlyioEnvironment
from tasks.platforms.heroku.app import App
from tasks.platforms.kubernetes import manifests
from tasks.platforms.kubernetes.manifests import Released
from tasks.platforms.kubernetes.settings import KubernetesEnvironment
from tasks.platforms.process.supervisor import Program, Supervisor, check_variables, section
from tasks.platforms.sagemaker import requests
from tasks.platforms.sagemaker.settings import SageMakerEnvironment
from tests.code.platforms.heroku_place import HerokuPlace
from tests.code.platforms.test_heroku import heroku  # noqa: F401

_VARIABLES = {"SLIPWAY_SERVING_MAX_ROWS": "500", "API_TOKEN": "hush"}


def _load(folder: Path, text: str) -> Any:
    (folder / "staging.toml").write_text(f'target = "process"\n{text}')
    return load_environment("staging", folder)


def test_variables_are_read_from_the_file(tmp_path: Path) -> None:
    text = 'variables = {A = "x", SLIPWAY_SERVING_MAX_ROWS = 500, B = true}\nsecrets = {C = "c"}'
    environment = _load(tmp_path, text)
    assert environment.variables == {"A": "x", "SLIPWAY_SERVING_MAX_ROWS": "500", "B": "true"}
    assert environment.secrets == {"C": "c"}


def test_limit_that_older_servers_do_not_know_has_a_name_that_they_ignore(tmp_path: Path) -> None:
    """They refuse unknown names below the prefix, and a rollback starts them."""
    known = (
        "max_rows max_body_bytes header_seconds body_seconds threads queue inline_rows"
        " inline_milliseconds keep_alive_seconds shutdown_seconds connections report_url"
        " cors_origins"
    )
    later = {limit.name for limit in fields(Limits)} - {*known.split()}
    names = {*LATER_LIMITS, WORKERS}
    assert {name_limit(limit) for limit in later} == names
    assert not any(name.startswith(PREFIX) for name in names)
    environment = _load(tmp_path, "variables = {SLIPWAY_BATCH_ROWS = 1}")
    assert Limits.from_environment(environment.variables).batch_rows == 1


async def test_workers_are_set_by_their_key(tmp_path: Path) -> None:
    variables = await _load(tmp_path, "workers = 2").variable_reader().read()
    assert Limits.from_environment(variables.reveal()).workers == 2
    assert (await _load(tmp_path, "").variable_reader().read()).reveal() == {}
    with pytest.raises(ConfigurationError, match="workers: ") as refusal:
        _load(tmp_path, "workers = 0")
    assert str(tmp_path / "staging.toml") in refusal.value.what


def test_variable_of_the_worker_overrides_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_STAGING_VARIABLES", json.dumps({"A": "y"}))
    assert _load(tmp_path, 'variables = {A = "x"}').variables == {"A": "y"}
    monkeypatch.setenv("SLIPWAY_STAGING_VARIABLES", "A=y")
    with pytest.raises(ConfigurationError, match="variables: "):
        _load(tmp_path, "")


@pytest.mark.parametrize("table", ["variables", "secrets"])
@pytest.mark.parametrize(
    "name", ["SLIPWAY_RELEASE", "SLIPWAY_BATCH_ROW", "PORT", "PATH", "HOME", "PYTHONPATH"]
)
def test_reserved_name_is_refused_with_file_and_key(tmp_path: Path, table: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{table}: .*{name} is reserved") as refusal:
        _load(tmp_path, f'{table} = {{{name} = "x"}}')
    assert str(tmp_path / "staging.toml") in refusal.value.what


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('variables = {"A-B" = "x"}', "'A-B' is not a valid name"),
        ('variables = {A = "x"}\nsecrets = {A = "block"}', "A is in `variables` too"),
        ("variables = {A = [1]}", "variables.A"),
    ],
)
def test_invalid_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _load(tmp_path, text)


async def test_secrets_are_read_once_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[str] = []

    async def read_secret(block: str) -> str:
        blocks.append(block)
        return "hush"

    monkeypatch.setattr("tasks.runs.secrets.read_secret", read_secret)
    reader = VariableReader("staging", {"A": "x"}, {"API_TOKEN": "our-token"})
    for _ in range(2):
        variables = await reader.read()
    assert blocks == ["our-token"]
    assert variables.reveal() == {"A": "x", "API_TOKEN": "hush"}
    assert "hush" not in repr(variables)
    assert await reader.check() == ["the model server gets the variables A, API_TOKEN"]
    assert await VariableReader("staging", {}, {}).check() == []


@pytest.mark.parametrize("content", [None, "", {"a": 1}])
async def test_secret_without_a_text_names_variable_and_block(
    monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    async def read_secret(_: str) -> object:
        return content

    monkeypatch.setattr("tasks.runs.secrets.read_secret", read_secret)
    reader = VariableReader("staging", {}, {"API_TOKEN": "our-token"})
    message = "variable API_TOKEN of environment staging: block secret/our-token"
    with pytest.raises(ConfigurationError, match=message) as refusal:
        await reader.read()
    assert "our-token" in refusal.value.next_step


def test_log_reaches_the_server_as_it_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _load(tmp_path, "log = {share = 0.5, feedback = true}").log
    read = LogSettings.from_environment(log.variables)
    assert read == LogSettings(share=0.5, feedback=True)
    shadow = LogSettings.from_environment(log.make_shadow_variables({"name"}))
    assert shadow == replace(read, private=frozenset({"name"}))
    hashed = _load(tmp_path, 'log = {private = "hash", key = "our-key"}').log
    assert hashed.secrets == {"SLIPWAY_LOG_KEY": "our-key"}
    read = LogSettings.from_environment({**hashed.variables, "SLIPWAY_LOG_KEY": "hush"})
    assert read is not None
    assert read.key == b"hush"
    assert _load(tmp_path, "").log is None
    monkeypatch.setenv("SLIPWAY_STAGING_LOG", "")
    assert _load(tmp_path, "log = {share = 1.0}").log is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log = true", "log: "),
        ("log = {share = 0}", "log.share"),
        ("log = {shares = 1}", "log.shares"),
        ('log = {private = "hash"}', "set it with private"),
        ('log = {key = "our-key"}', "set it with private"),
    ],
)
def test_invalid_log_is_refused_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _load(tmp_path, text)


def test_server_on_trial_keeps_no_log() -> None:
    variables = {"A": "x", "SLIPWAY_LOG": "{}", "SLIPWAY_LOG_KEY": "hush"}
    assert without_log(variables) == {"A": "x"}


def test_log_of_a_server_is_shown_without_records() -> None:
    log = 'ready\n2026 app[web.1]: {"specversion":"1.0","data":{"inputs":[]}}\nTraceback\n'
    assert last_lines_without_records(log, 5) == "ready\nTraceback"


@pytest.mark.parametrize(
    "log",
    [
        'ready\nweb: {"specversion":"1.0","data":{"inputs":["Ada\nweb: Ada\nAda"]}}\nTraceback',
        'Ada\nAda"]}}\nready\n{"specversion":"1.0","data":{"inputs":["Ada"]}}\nTraceback',
        'ready\nTraceback\n{"specversion":"1.0","data":{"inputs":["Ada\nAda',
    ],
)
def test_part_of_a_record_is_not_shown(log: str) -> None:
    """Heroku cuts lines of more than 10,000 bytes, Kubernetes those of more than 16 KB."""
    assert last_lines_without_records(log, 5) == "ready\nTraceback"


def test_records_are_of_no_other_user(tmp_path: Path) -> None:
    """Servers in containers write as another user, below a folder that only its owner enters."""
    spool = make_spool(find_spool(tmp_path / "home" / "spool", "wine", "local", "v0.0.1"))
    assert spool.stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "home" / "spool").stat().st_mode & 0o077 == 0


def test_counts_of_a_log_are_those_of_the_server() -> None:
    metrics = Metrics()
    assert describe_counts("") == ""
    metrics.log_records.labels("kept").inc(1234)
    assert describe_counts(bytes(metrics.make_response().body).decode()) == "1,234 kept"
    metrics.log_records.labels("dropped: queue").inc(2)
    metrics.log_records.labels("dropped: sink").inc()
    text = bytes(metrics.make_response().body).decode()
    assert describe_counts(text) == "1,234 kept, 3 dropped"


# What each platform is given


def test_process_has_them_in_a_file_that_only_its_user_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_call", lambda *_, **__: None)
    program = Program("model", ("python", "-m", "serving"), tmp_path, _VARIABLES)
    Supervisor("http://127.0.0.1:1", "", "").add(program, tmp_path / "conf.d", tmp_path)
    file = tmp_path / "conf.d" / "model.conf"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = dict(line.split(" = ", 1) for line in section(program, tmp_path).splitlines()[2:])
    assert lines["environment"] == 'SLIPWAY_SERVING_MAX_ROWS="500",API_TOKEN="hush"'
    assert "hush" not in lines["command"]


@pytest.mark.parametrize("value", ["a\nb", "both ' and \" of them", "'at an end", "a ;b", "a #b"])
def test_process_refuses_what_supervisord_cannot_hold_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match="the value of API_TOKEN") as refusal:
        check_variables({"API_TOKEN": value})
    assert value not in str(refusal.value)


def test_docker_has_them_in_the_environment_of_the_container() -> None:
    environment = DockerEnvironment(name="docker", target="docker", repository="r.example/wine")
    options = container_options(environment, 1, {"release": "r"}, "proxy", _VARIABLES)
    assert options["environment"] == {**_VARIABLES, "SLIPWAY_RELEASE": '{"release": "r"}'}


def test_flyio_has_them_in_the_configuration_of_the_machine() -> None:
    environment = FlyioEnvironment(
        name="fly", target="flyio", app="wine", organization="us", region="ams"
    )
    config = machine_config(environment, "image", _VARIABLES, {})
    assert config["env"] == {**_VARIABLES, "PORT": "8080"}


def test_kubernetes_has_secret_ones_in_a_secret_of_the_release(paper: Package) -> None:
    environment = KubernetesEnvironment(
        name="paper", target="kubernetes", url="http://w.example", repository="r.example/wine"
    )
    secret = {"API_TOKEN": "hush"}
    plain_value = "5 $$ and $(API_TOKEN)"  # which a node would expand
    variables = {"A": plain_value}
    released = Released("20260101T000000-a-b", "v1", paper, "image", variables, secret)
    made = manifests.secret(environment, released)
    assert made
    assert made["data"] == {"API_TOKEN": "aHVzaA=="}
    for pod in (
        manifests.deployment(environment, released)["spec"]["template"]["spec"],
        manifests.preflight_pod(environment, released)["spec"],
    ):
        plain, reference = pod["containers"][0]["env"]
        assert plain == {"name": "A", "value": "5 $$$$ and $$(API_TOKEN)"}
        source = {"name": made["metadata"]["name"], "key": "API_TOKEN"}
        assert reference == {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": source}}
    assert "hush" not in repr(released)
    assert manifests.secret(environment, Released("r", "v1", paper, "image", {})) is None


def test_sagemaker_has_them_in_the_environment_of_the_model() -> None:
    environment = SageMakerEnvironment(
        name="aws", target="sagemaker", region="eu-west-1", repository="r.example/wine",
        role="arn:aws:iam::123456789012:role/slipway",
    )  # fmt: skip
    model = requests.model(environment, "wine", "image", _VARIABLES)
    assert model["PrimaryContainer"]["Environment"] == _VARIABLES


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"API_TOKEN": "hush" * 257}, "the value of API_TOKEN"),
        ({f"V{number}": "hush" for number in range(100)}, "100 variables"),
    ],
)
def test_sagemaker_refuses_variables_that_aws_would_quote_in_its_error(
    variables: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        requests.check_variables(variables)
    assert "hush" not in str(refusal.value)
    requests.check_variables({"API_TOKEN": "hush" * 256})


async def test_heroku_has_secret_ones_as_config_vars_and_sets_only_other_values(
    heroku: HerokuPlace,  # noqa: F811
) -> None:
    app = App(heroku.environment)
    for _ in range(2):
        await app.set_variables({"API_TOKEN": "hush"})
    assert heroku.app.variables == {"API_TOKEN": "hush"}
    made = [release.description for release in heroku.app.releases]
    assert made.count("Set API_TOKEN config vars") == 1


# The page


def test_page_lists_every_limit_with_its_default() -> None:
    page = (CHECKOUT / "docs" / "targets" / "variables.md").read_text()
    assert PREFIX == LIMITS
    for limit in fields(Limits):
        assert f"| `{name_limit(limit.name)}` | {limit.default} |" in page


def test_variables_are_empty_by_default() -> None:
    assert Variables().reveal() == {}

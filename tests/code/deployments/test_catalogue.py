"""The declared deployments exist, and Prefect accepts them."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from ruamel.yaml import YAML

from deployments.catalogue import prefect_yaml
from deployments.catalogue.block_variables import ObjectStorage
from deployments.catalogue.prefect_yaml import Manifest, is_url
from deployments.local.credentials import S3Identity
from deployments.local.prefect_programs import WORK_POOL
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT, TAG
from tasks.platforms.catalogue import environment_names

_MANIFEST = Manifest.read(CHECKOUT)
_DECLARED = _MANIFEST.deployments
# None of these is needed to know what a flow takes; together they take seconds to import.
_HEAVY = {"boto3", "botocore", "docker", "dvc", "gto", "kubernetes", "mlem", "numpy", "pandas",
          "prefect_aws", "sklearn"}  # fmt: skip


def schema() -> dict[str, Any]:
    """Prefect's JSON schema of `prefect.yaml`, as its repository generates and publishes it.

    It ignores keys that Prefect ignores; here they are refused, for they are mistakes.
    """
    schema = PrefectYamlModel.model_json_schema()
    for item in (schema, *schema["$defs"].values()):
        if "properties" in item:
            item["additionalProperties"] = False
    schema["properties"]["definitions"] = {
        "type": "object"
    }  # is ours; YAML anchors are defined in it
    return schema


def test_prefect_accepts_prefect_yaml() -> None:
    jsonschema.validate(_MANIFEST.values, schema())


@pytest.mark.parametrize(
    "mistake",
    [
        {"enforce_parameters": True},
        {"schedules": [{"cron": "0 4 * * 1", "time_zone": "UTC"}]},
        {"concurrency_limit": {"limits": 1}},
        {"tags": 1},
    ],
)
def test_mistakes_in_prefect_yaml_are_found(mistake: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"deployments": [{**_DECLARED[0], **mistake}]}, schema())


def test_every_entrypoint_is_a_flow_that_accepts_its_parameters() -> None:
    for item in _DECLARED:
        path, _, name = item["entrypoint"].partition(":")
        assert (CHECKOUT / path).is_file()
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(flow, Flow)
        assert flow.name == name
        parameters = item.get("parameters", {})
        assert parameters.keys() <= flow.parameters.properties.keys()
        flow.validate_parameters({**dict.fromkeys(flow.parameters.required, "x"), **parameters})
        assert flow.description
        for parameter in flow.parameters.properties.values():
            assert parameter["description"]


def test_schedules_name_existing_environments() -> None:
    assert not _MANIFEST.schedules_of_missing_environments


def test_every_flow_has_a_deployment() -> None:
    files = (CHECKOUT / "flows").glob("[!_]*.py")
    flows = {path.stem for path in files if "@flow" in path.read_text()}
    assert {item["entrypoint"].rpartition(":")[2] for item in _DECLARED} == flows


def test_deployments_have_tag_pool_and_version() -> None:
    for item in _DECLARED:
        assert TAG in item["tags"]
        assert item["work_pool"]["name"] == _MANIFEST.work_pool == WORK_POOL
        assert item["enforce_parameter_schema"]
        assert item["version"] == "{{ commit.stdout }}"
        for schedule in item.get("schedules", []):
            assert schedule["slug"]
            assert schedule["timezone"]


def test_file_of_an_environment_makes_its_deployments(tmp_path: Path) -> None:
    (tmp_path / "deployments" / "environments").mkdir(parents=True)
    shutil.copy2(CHECKOUT / prefect_yaml.SOURCE, tmp_path / prefect_yaml.SOURCE)
    common = Manifest.read(tmp_path).names
    file = tmp_path / "deployments" / "environments" / "on.toml"  # a word that YAML takes for true
    file.touch()
    assert Manifest.read(tmp_path).names - common == {"deploy/on", "rollback/on"}
    file.write_text('target = "process"')
    assert "watch/on" in Manifest.read(tmp_path).names
    file.write_text('target = "heroku"')
    assert "watch/on" not in Manifest.read(tmp_path).names
    (missing,) = Manifest.read(tmp_path).schedules_of_missing_environments
    assert missing == "schedule weekly of retrain: environment 'production'"
    prefect_yaml.write_prefect_yaml(tmp_path)
    written = tmp_path / prefect_yaml.GENERATED
    assert YAML(typ="safe").load(written) == Manifest.read(tmp_path).values
    file.unlink()
    prefect_yaml.write_prefect_yaml(tmp_path)
    assert YAML(typ="safe").load(written)["deployments"] == Manifest.read(tmp_path).deployments
    assert Manifest.read(tmp_path).names == common


def test_written_file_has_the_checkouts_environments_while_tests_use_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_yaml, "CHECKOUT", tmp_path)  # with the folder of the tests
    own = tmp_path / "deployments" / "environments" / "own.toml"
    own.parent.mkdir(parents=True)
    own.touch()
    shutil.copy2(CHECKOUT / prefect_yaml.SOURCE, tmp_path / prefect_yaml.SOURCE)
    prefect_yaml.write_prefect_yaml(tmp_path)
    deployments = YAML(typ="safe").load(tmp_path / prefect_yaml.GENERATED)["deployments"]
    environments = [item["name"] for item in deployments if item.get("parameters")]
    assert environments == ["own", "own"]


def test_upstream_files_name_no_environment() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", prefect_yaml.GENERATED],
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    assert ignored.returncode == 0
    source = YAML(typ="safe").load(CHECKOUT / prefect_yaml.SOURCE)
    flows = {deployment["entrypoint"].rpartition(":")[2] for deployment in source["deployments"]}
    assert not flows & {"deploy", "rollback", "watch"}


@pytest.mark.parametrize("flow", ["deploy", "rollback"])
def test_every_environment_has_a_deployment(flow: str) -> None:
    deployed = [entry for entry in _DECLARED if entry["entrypoint"].endswith(f":{flow}")]
    assert sorted(item["name"] for item in deployed) == environment_names()
    for deployment in deployed:
        assert deployment["parameters"] == {"environment": deployment["name"]}


def test_pushes_deploys_and_rollbacks_run_one_at_a_time() -> None:
    for item in _DECLARED:
        if item["entrypoint"].endswith((":push", ":deploy", ":rollback")):
            assert item["concurrency_limit"]["limit"] == 1
            assert item["concurrency_limit"]["collision_strategy"] == "ENQUEUE"
            assert item["concurrency_limit"]["grace_period_seconds"] >= 60


def test_flows_import_nothing_heavy() -> None:
    modules = [item["entrypoint"].partition(".")[0].replace("/", ".") for item in _DECLARED]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & _HEAVY


def test_digest_depends_on_flows_secrets_and_options(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "deployments").mkdir()
    (tmp_path / prefect_yaml.SOURCE).write_text("deployments: []")
    (tmp_path / "flows" / "a.py").write_text("one")

    def digest(secret: str, *options: str) -> str:
        identity = S3Identity("key", secret)
        variables = ObjectStorage("bucket", identity, identity).to_environment()
        return prefect_yaml.digest(tmp_path, variables, options)

    first = digest("s")
    assert digest("s") == first
    assert digest("t") != first
    assert digest("s", "--without-schedules") != first
    (tmp_path / "flows" / "a.py").write_text("two")
    assert digest("s") != first


def test_version_is_the_last_commit_of_worker_code(source: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        argv = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("clone", "--quiet", str(source), ".")
    head = git("rev-parse", "HEAD")
    assert _MANIFEST.version(tmp_path) == head
    git("commit", "--quiet", "--no-gpg-sign", "--allow-empty", "--message=Another model")
    assert _MANIFEST.version(tmp_path) == head


def test_code_comes_from_a_checkout_or_from_origin() -> None:
    assert "set_working_directory" in str(_MANIFEST.pull({"SLIPWAY_CHECKOUT": "/srv/slipway"})[0])
    url = {"SLIPWAY_ORIGIN": "git@git.example:slipway.git"}
    assert "git_clone" in str(_MANIFEST.pull(url)[0])
    assert "set_working_directory" in str(_MANIFEST.pull({**url, "SLIPWAY_CHECKOUT": "/srv"})[0])


@pytest.mark.parametrize("login", ["me:hush", "hush", "x-access-token:hush"])
def test_url_with_a_password_is_refused(login: str) -> None:
    with pytest.raises(ConfigurationError, match="SLIPWAY_GIT_TOKEN") as refused:
        _MANIFEST.pull({"SLIPWAY_ORIGIN": f"https://{login}@git.example/slipway.git"})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://git.example/slipway.git", True),
        ("file:///srv/slipway.git", True),
        ("git@git.example:slipway.git", True),
        ("/srv/slipway.git", False),
        ("../slipway", False),
        ("", False),
    ],
)
def test_urls_and_paths_are_distinguished(origin: str, expected: bool) -> None:
    assert is_url(origin) is expected


def test_storage_survives_a_round_trip_through_variables() -> None:
    storage = ObjectStorage("b", S3Identity("k", "s"), S3Identity("r", "t"), "http://host:1")
    assert ObjectStorage.from_environment(storage.to_environment()) == storage
    on_aws = ObjectStorage("b", S3Identity("k", "s"), S3Identity("r", "t"), region="eu-west-1")
    assert ObjectStorage.from_environment(on_aws.to_environment()) == on_aws
    assert "'s'" not in repr(storage)

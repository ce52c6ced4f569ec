"""The properties of SageMaker: its states, its alarms, its registry."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import boto3
import botocore.session
import pytest

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.images.build import Image
from tasks.images.reference import parse_reference
from tasks.package.package import Package
from tasks.platforms.base.image_target import StagedImage
from tasks.platforms.base.target import Released
from tasks.platforms.sagemaker import ecr
from tasks.platforms.sagemaker import requests as sagemaker_requests
from tasks.platforms.sagemaker.aws import Aws
from tasks.platforms.sagemaker.settings import SageMakerEnvironment, Serverless
from tasks.platforms.sagemaker.target import SageMakerTarget
from tests.code.platforms.sagemaker_place import SageMakerPlace
from tests.stand_ins.aws import violations
from tests.stand_ins.machines import Machine
from tests.stand_ins.sagemaker import (
    ACCOUNT,
    REGION,
    AwsFaults,
    Endpoint,
    Fleet,
    SageMaker,
    aws_error,
)
from tests.stand_ins.serve import serving

_ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
_OLD, _NEW = "20260101T000000-abcdef0-0123", "20260102T000000-abcdef0-0123"
_IMAGE = Image(parse_reference(f"{_ECR}/paper@sha256:{64 * '0'}"), {})


@pytest.fixture
async def live(sagemaker_place: SageMakerPlace, models: list[Package]) -> Package:
    """The model that is live when a test begins."""
    return await sagemaker_place.ensure_live(models)


@pytest.fixture
def new(live: Package, models: list[Package]) -> Package:
    """A model that is not live."""
    return next(model for model in models if model is not live)


async def test_failed_endpoint_is_replaced(
    sagemaker_place: SageMakerPlace, models: list[Package]
) -> None:
    await sagemaker_place.target().remove()
    name = sagemaker_place.endpoint
    killed = f"{name}-20260101T000000-abcdef0-0123"
    sagemaker_place.cloud.endpoints[name] = Endpoint(name, killed, status="Failed")
    assert await sagemaker_place.target().status() is None
    await sagemaker_place.deploy(models[0])
    await sagemaker_place.assert_live(models[0])
    assert sagemaker_place.cloud.endpoints[name].history == ["Creating", "InService"]


async def test_alarm_rolls_update_back(
    sagemaker_place: SageMakerPlace, live: Package, new: Package
) -> None:
    cloudwatch = sagemaker_place.client("cloudwatch")
    cloudwatch.put_metric_alarm(**sagemaker_requests.alarm(sagemaker_place.environment)
                                | {"AlarmName": "theirs"})  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName="theirs", StateValue="ALARM", StateReason="a test")
    before = await sagemaker_place.snapshot()
    try:
        with pytest.raises(TerminalError, match=r"in ALARM: \['theirs'\]"):
            await sagemaker_place.deploy(new, alarms=("theirs",))
        assert await sagemaker_place.snapshot() == before
    finally:
        cloudwatch.delete_alarms(AlarmNames=["theirs"])
    assert sagemaker_place.cloud.endpoints[sagemaker_place.endpoint].history[-3:] == [
        "Updating", "RollingBack", "InService",
    ]  # fmt: skip
    await sagemaker_place.assert_live(live)


async def test_outdated_secret_is_refused(sagemaker_place: SageMakerPlace) -> None:
    with pytest.raises(
        TerminalError, match="aws-credentials/outdated: InvalidSignature"
    ) as refusal:
        await sagemaker_place.aws("outdated").call("sagemaker", "list_models")
    assert "known-" not in str(refusal.value)


async def test_foreign_endpoint_is_left_alone(
    sagemaker_place: SageMakerPlace, paper: Package
) -> None:
    sagemaker_place.cloud.endpoints["theirs"] = Endpoint("theirs", "their-config", "InService")
    try:
        target = sagemaker_place.target(endpoint="theirs")
        release = partial(target.release, StagedImage(paper, _NEW, _IMAGE), "v1")
        for call in (target.status, release, target.tidy, target.remove):
            with pytest.raises(TerminalError, match="their-config, which is not a release of"):
                await call()
    finally:
        del sagemaker_place.cloud.endpoints["theirs"]


async def test_check_reports_resources_and_gaps(sagemaker_place: SageMakerPlace) -> None:
    findings = await sagemaker_place.target(repository=f"{_ECR}/new").check()
    assert "role slipway-sagemaker exists" in findings
    assert f"repository {_ECR}/new does not exist yet: a deploy creates it" in findings
    for settings, says in (
        ({"role": f"arn:aws:iam::{ACCOUNT}:role/unknown"}, "NoSuchEntity"),
        ({"alarms": ("slow",)}, "CloudWatch has no alarm slow"),
        ({"aws_block": "outdated"}, "block aws-credentials/outdated"),
    ):
        with pytest.raises(TerminalError, match=says):
            await sagemaker_place.target(**settings).check()


async def test_ecr_repository_is_created_once_and_emptied_through_its_api(
    sagemaker_place: SageMakerPlace,
) -> None:
    where = parse_reference(f"{_ECR}/team/wine")
    aws = sagemaker_place.aws()
    assert ecr.is_ecr(where)
    assert not await ecr.has_repository(aws, where)
    for _ in range(2):
        await ecr.make_repository(aws, where)
    assert await ecr.has_repository(aws, where)
    login = await ecr.log_in(aws)
    assert login.username == "AWS"
    assert login.password.get_secret_value() not in repr(login)
    content = {"repositoryName": where.repository, "imageManifest": _manifest(), "imageTag": "one"}
    image = sagemaker_place.client("ecr").put_image(**content)["image"]["imageId"]["imageDigest"]
    repository = ecr.EcrRepository(where, login, aws)
    assert repository.drop(image)
    assert repository.drop(image)  # it is gone already
    with pytest.raises(ConfigurationError, match="is in us-east-1, the endpoint in eu-west-1"):
        await ecr.make_repository(sagemaker_place.aws(region="eu-west-1"), where)


def _manifest() -> str:
    from tasks.images.image import image_manifest

    return image_manifest(b"{}", ()).content.decode()


@pytest.mark.parametrize(
    ("settings", "has"),
    [
        ({}, "ALL_AT_ONCE"),
        ({"traffic": "canary", "step_percent": 20}, "CanarySize"),
        ({"traffic": "linear", "alarms": ("slow",), "alarm": False}, "LinearStepSize"),
        ({"serverless": Serverless()}, "ServerlessConfig"),
    ],
)
def test_requests_match_the_service_description(settings: dict[str, Any], has: str) -> None:
    environment = SageMakerEnvironment(
        name="wine",
        target="sagemaker",
        region=REGION,
        role=f"arn:aws:iam::{ACCOUNT}:role/service-role/slipway",
        repository=f"{_ECR}/wine",
        **settings,
    )
    name = sagemaker_requests.name_of(environment, "20261126T020304-abcdef0-0123")
    assert sagemaker_requests.is_ours(environment, name)
    assert not sagemaker_requests.is_ours(environment.model_copy(update={"name": "win"}), name)
    tags = sagemaker_requests.tags({"version": "wine@v0.0.1", "commit": "a" * 40})
    operations = {
        "CreateModel": {
            **sagemaker_requests.model(environment, name, f"{_ECR}/wine@sha256:0", {"A": "{}"}),
            "Tags": tags,
        },
        "CreateEndpointConfig": {
            **sagemaker_requests.configuration(environment, name),
            "Tags": tags,
        },
        "UpdateEndpoint": {
            "EndpointName": environment.endpoint_name,
            "EndpointConfigName": name,
            **sagemaker_requests.update(environment),
        },
    }
    service = botocore.session.get_session().get_service_model("sagemaker")
    for operation, request in operations.items():
        shape = service.operation_model(operation).input_shape
        assert list(violations(shape, request)) == []
    assert has in str(operations)
    if settings.get("serverless"):
        assert "DeploymentConfig" not in operations["UpdateEndpoint"]


# Without servers


class _PaperMachine(Machine):
    """A server that is well, and that is all."""

    def answers(self, path: str) -> bool:
        return True


class _PaperMachines:
    """Servers that start when they may, and run nothing."""

    def __init__(self) -> None:
        self.may_start = threading.Event()

    def start(self, *_: Any, **__: Any) -> Machine:
        self.may_start.wait()
        return _PaperMachine("paper", "")

    def runs(self, _: Machine) -> bool:
        return True

    def stop(self, _: Machine) -> None: ...

    def remove(self, _: Machine) -> None: ...


_PAPER = SageMakerEnvironment(
    name="paper",
    target="sagemaker",
    region=REGION,
    role=f"arn:aws:iam::{ACCOUNT}:role/slipway-sagemaker",
    repository=f"{_ECR}/paper",
    alarms=("refuses",),
    alarm=False,
)
_REFUSED = r"in ALARM: \['refuses'\]"


class _PaperCloud:
    """An endpoint that serves from the old release, the new one, and an alarm that rings."""

    def __init__(
        self,
        cloud: SageMaker,
        machines: _PaperMachines,
        faults: AwsFaults,
        url: str,
        package: Package,
    ):
        self.machines, self.faults = machines, faults
        self.target = SageMakerTarget(_PAPER)
        self.released = Released(StagedImage(package, _NEW, _IMAGE), "v1")
        session = boto3.Session("AKIAOURS", "known", region_name=REGION)
        self.target._connection = Aws(session, REGION, "", url)
        self.sagemaker = session.client("sagemaker", endpoint_url=url)
        self.cloudwatch = session.client("cloudwatch", endpoint_url=url)
        self.old, self.new = (sagemaker_requests.name_of(_PAPER, name) for name in (_OLD, _NEW))
        name = _PAPER.endpoint_name
        self.endpoint = cloud.endpoints[name] = Endpoint(name, self.old, "InService")
        self.endpoint.fleet = Fleet(self.old, _PaperMachine("paper", ""))
        for name in (self.old, self.new):
            image = str(_IMAGE.reference)
            self.sagemaker.create_model(**sagemaker_requests.model(_PAPER, name, image, {}))
            self.sagemaker.create_endpoint_config(**sagemaker_requests.configuration(_PAPER, name))
        alarm = sagemaker_requests.alarm(_PAPER) | {"AlarmName": "refuses"}
        self.cloudwatch.put_metric_alarm(**alarm)
        self.cloudwatch.set_alarm_state(
            AlarmName="refuses", StateValue="ALARM", StateReason="a test"
        )

    async def reaches(self, status: str) -> None:
        """Wait until the endpoint has a status."""
        while self.endpoint.status != status:
            await asyncio.sleep(0.02)

    def clear(self) -> None:
        """Remove everything, for other tests."""
        for name in (self.old, self.new):
            self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
            self.sagemaker.delete_model(ModelName=name)
        self.cloudwatch.delete_alarms(AlarmNames=["refuses"])


@pytest.fixture
def paper_cloud(monkeypatch: pytest.MonkeyPatch, paper: Package) -> Iterator[_PaperCloud]:
    monkeypatch.setattr("tasks.platforms.sagemaker.endpoint._LONGEST_PAUSE", 0.05)
    machines = _PaperMachines()
    cloud = SageMaker("AKIAOURS", "known", cast("Any", machines))
    faults = AwsFaults(cloud, error=aws_error)
    with serving(faults) as url:
        made = _PaperCloud(cloud, machines, faults, url, paper)
        try:
            yield made
        finally:
            faults.clear()
            machines.may_start.set()
            cloud.close()
            cloud.endpoints.clear()
            made.clear()


async def test_update_refused_by_alarm_is_not_repeated(
    paper_cloud: _PaperCloud,
) -> None:
    settling = asyncio.create_task(paper_cloud.target.settle(paper_cloud.released))
    await paper_cloud.reaches("Updating")
    paper_cloud.faults.always("429", "GET DescribeEndpoint")
    with pytest.raises(TransientError) as refusal:
        await settling
    assert refusal.value.state == "what is live goes on serving"
    paper_cloud.machines.may_start.set()
    await paper_cloud.reaches("InService")
    paper_cloud.faults.clear()
    with pytest.raises(TerminalError, match=_REFUSED):
        await paper_cloud.target.settle(paper_cloud.released)
    assert paper_cloud.endpoint.history == ["Updating", "RollingBack", "InService"]


async def test_update_with_lost_reply_is_not_repeated(
    paper_cloud: _PaperCloud,
) -> None:
    paper_cloud.faults.always("drop", "POST UpdateEndpoint")
    with pytest.raises(TransientError):
        await paper_cloud.target.settle(paper_cloud.released)
    paper_cloud.faults.clear()
    settling = asyncio.create_task(paper_cloud.target.settle(paper_cloud.released))
    while not (paper_cloud.faults.calls["GET DescribeEndpoint"] or settling.done()):
        await asyncio.sleep(0.02)
    paper_cloud.machines.may_start.set()
    with pytest.raises(TerminalError, match=_REFUSED):
        await settling
    assert paper_cloud.endpoint.history == ["Updating", "RollingBack", "InService"]


async def test_short_outage_does_not_end_update(
    paper_cloud: _PaperCloud,
) -> None:
    settling = asyncio.create_task(paper_cloud.target.settle(paper_cloud.released))
    await paper_cloud.reaches("Updating")
    paper_cloud.faults.fail_each_call("429", "500")
    while paper_cloud.faults.calls["GET DescribeEndpoint"] < 3 and not settling.done():
        await asyncio.sleep(0.02)
    paper_cloud.machines.may_start.set()
    with pytest.raises(TerminalError, match=_REFUSED):
        await settling

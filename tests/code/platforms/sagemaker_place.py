"""SageMaker as a place to release to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.package.package import Package, make_body
from tasks.platforms.sagemaker.aws import Aws
from tasks.platforms.sagemaker.settings import SageMakerEnvironment
from tests.code.flows.harness import Traffic
from tests.code.platforms.places import PAUSE, RemotePlace
from tests.stand_ins.faults import Faults
from tests.stand_ins.machines import Machines
from tests.stand_ins.sagemaker import ACCOUNT, REGION, AwsFaults, SageMaker, aws_error
from tests.stand_ins.serve import serving

# By name of the block: what it would hold.
_KEYS = {
    "ours": ("AKIAOURS", "known-to-both"),
    "unknown": ("AKIATHEIRS", "known-to-both"),
    "outdated": ("AKIAOURS", "known-before"),
}
_ROLE = f"arn:aws:iam::{ACCOUNT}:role/slipway-sagemaker"


class Invocations(Traffic):
    """Clients that never stop invoking an endpoint."""

    def __init__(self, place: SageMakerPlace, row: Any) -> None:
        super().__init__("", row, pause=PAUSE)
        self._place = place
        self._client = place.client("sagemaker-runtime")

    def _ask(self) -> None:
        body = json.dumps(make_body([self._row]))
        while not self._stop.is_set():
            try:
                self._client.invoke_endpoint(
                    EndpointName=self._place.endpoint, ContentType="application/json", Body=body
                )
            except (BotoCoreError, ClientError) as error:
                self.failures.append(repr(error))
            self.answered += 1
            time.sleep(self._pause)


class SageMakerPlace(RemotePlace):
    """An endpoint, models, configurations, an alarm and images."""

    environment: SageMakerEnvironment
    necessary_calls = ("POST UpdateEndpoint",)
    wrong_credentials = (
        {"aws_block": "unknown"},
        "refuses the credentials of block aws-credentials/unknown: UnrecognizedClientException",
    )

    def __init__(
        self, environment: SageMakerEnvironment, cloud: SageMaker, faults: Faults, url: str
    ) -> None:
        super().__init__(environment, faults)
        self.cloud = cloud
        self._url = url
        self._repository = Repository(parse_reference(environment.repository))
        # boto3 reads long descriptions of services for each session, and anew for each client.
        self.session = cache(self._open_session)
        self.client = cache(self._open_client)

    @property
    def endpoint(self) -> str:
        """Name of the endpoint."""
        return self.environment.endpoint_name

    def _open_session(self, block: str = "ours") -> boto3.Session:
        """Make a session with the credentials of a block."""
        key_id, secret = _KEYS[block]
        return boto3.Session(key_id, secret, region_name=REGION)

    def aws(self, block: str = "ours", region: str = REGION) -> Aws:
        """Make the client that the target uses."""
        return Aws(self.session(block), region, block, self._url)

    def _open_client(self, service: str) -> Any:
        """Make a client of an AWS service, to look behind the target's back."""
        return self.session().client(service, endpoint_url=self._url)  # type: ignore[call-overload]

    async def live_version(self) -> dict[str, Any]:
        """Return the release that answers an invocation."""
        return await asyncio.to_thread(self._live_version)

    def traffic(self, package: Package) -> Traffic:
        """Send invocations without end."""
        return Invocations(self, package.golden["inputs"][0])

    def _live_version(self) -> dict[str, Any]:
        try:
            answer = self.client("sagemaker-runtime").invoke_endpoint(
                EndpointName=self.endpoint,
                ContentType="application/json",
                CustomAttributes="method=version",
                Body=b"{}",
            )
        except ClientError as error:
            raise AssertionError(f"404: {error}") from error
        version = dict(json.loads(answer["Body"].read()))
        assert answer["CustomAttributes"] == f"release={version['release']};md5={version['md5']}"
        return version

    def _servers(self) -> list[str]:
        fleets = [item.fleet for item in self.cloud.endpoints.values() if item.fleet]
        return [item.configuration for item in fleets]

    def _snapshot(self) -> dict[str, Any]:
        tags = self._repository.tags()
        images = {self._repository.manifest(tag) for tag in tags if "-at-" in tag}
        return {
            "servers": self._servers(),
            "kept": self.cloud.configurations(),
            "models": self.cloud.models(),
            "alarms": self.cloud.alarms(),
            "images": sorted(image.digest for image in images if image),
            "tags": tags,
        }

    def _break(self) -> None:
        self.cloud.kill(self.endpoint)


@contextlib.contextmanager
def running_sagemaker(engine: str, registry: str) -> Iterator[SageMakerPlace]:
    """Run the stand-in, and make a place on it."""
    machines = Machines(engine, f"sagemaker-{registry}")
    cloud = SageMaker(*_KEYS["ours"], machines)
    faults = AwsFaults(cloud, hang_seconds=4.0, error=aws_error)
    environment = SageMakerEnvironment(
        name="wine",
        target="sagemaker",
        soak_seconds=0.3,
        keep=2,
        region=REGION,
        role=_ROLE,
        aws_block="ours",
        repository=f"{registry}/sagemaker",
        base=f"{registry}/python:{{python}}-slim",
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as opened:
        opened.callback(machines.close)
        opened.callback(cloud.close)
        place = SageMakerPlace(environment, cloud, faults, opened.enter_context(serving(faults)))
        role = _ROLE.rpartition("/")[2]
        place.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument="{}")

        async def open_aws(block: str, region: str) -> Aws:
            # Nobody waits for what hangs; a busy machine is waited for.
            usual, model = (1.0, 3.0) if faults.hanging else (30.0, 70.0)
            patch.setattr("tasks.platforms.sagemaker.aws.USUAL_SECONDS", usual)
            patch.setattr("tasks.platforms.sagemaker.aws.SECONDS", {"sagemaker-runtime": model})
            return place.aws(block, region)

        # Blocks are on a Prefect server, which these tests do without.
        patch.setattr("tasks.platforms.sagemaker.target.open_aws", open_aws)
        yield place

"""Releases as SageMaker keeps them: a model and an endpoint configuration of one name each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tasks.core.errors import TerminalError
from tasks.platforms.sagemaker import requests
from tasks.platforms.sagemaker.aws import Aws
from tasks.platforms.sagemaker.settings import SageMakerEnvironment

_ABSENT = "Could not find"
_THERE = "already existing"


class Releases:
    """The releases of one environment, and the alarm that they share."""

    def __init__(self, aws: Aws, environment: SageMakerEnvironment) -> None:
        self._aws = aws
        self._environment = environment

    async def create(
        self, name: str, image: str, variables: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Describe a release, unless that has been done already; nothing is started.

        Args:
            image: Its image, by digest.
            variables: Environment variables of its servers.
            labels: Its labels.
        """
        tags = requests.tags(labels)
        model = requests.model(self._environment, name, image, variables)
        configuration = requests.configuration(self._environment, name)
        await self._sagemaker("create_model", _THERE, **model, Tags=tags)
        await self._sagemaker("create_endpoint_config", _THERE, **configuration, Tags=tags)

    async def image(self, name: str) -> str:
        """Return the image of a release."""
        answer = await self._sagemaker("describe_model", ModelName=name)
        return str(answer["PrimaryContainer"]["Image"])

    async def labels(self, name: str) -> dict[str, str]:
        """Return the labels of a release.

        Raises:
            TerminalError: It is none of ours.
        """
        answer = await self._sagemaker("describe_endpoint_config", EndpointConfigName=name)
        labels = await self._labels(answer["EndpointConfigArn"])
        if labels.get("environment") != self._environment.name:
            raise foreign(self._environment, name)
        return labels

    async def names(self) -> dict[str, str]:
        """List the releases, oldest first, with the ARN of each configuration."""
        configurations = await self._aws.pages(
            "sagemaker",
            "list_endpoint_configs",
            "EndpointConfigs",
            NameContains=self._environment.endpoint_name,
        )
        arns = {
            configuration["EndpointConfigName"]: configuration["EndpointConfigArn"]
            for configuration in configurations
        }
        return {name: arns[name] for name in sorted(arns) if self._is_ours(name)}

    async def models(self) -> set[str]:
        """List the models; a killed run may have left one without a configuration."""
        models = await self._aws.pages(
            "sagemaker", "list_models", "Models", NameContains=self._environment.endpoint_name
        )
        return {model["ModelName"] for model in models if self._is_ours(model["ModelName"])}

    async def digests(self) -> set[str]:
        """Return the digests of the images of all releases."""
        arns = (await self.names()).values()
        labels = await asyncio.gather(*map(self._labels, arns))
        return {release["image"] for release in labels if "image" in release}

    async def discard(self, name: str) -> None:
        """Forget a release that no endpoint serves from."""
        await self._sagemaker("delete_endpoint_config", _ABSENT, EndpointConfigName=name)
        await self._sagemaker("delete_model", _ABSENT, ModelName=name)

    async def lacks_alarm(self) -> bool:
        """Return whether the environment needs our own alarm, and it does not exist yet."""
        name = requests.alarm_name(self._environment)
        return self._wants_alarm and not await self.alarms([name])

    async def set_alarm(self) -> None:
        """Have our own alarm, where the environment wants one."""
        if self._wants_alarm:
            alarm = requests.alarm(self._environment)
            await self._aws.call("cloudwatch", "put_metric_alarm", **alarm)

    async def check_alarms(self) -> list[str]:
        """Describe the states of the environment's alarms, each in one sentence.

        Raises:
            TerminalError: One does not exist.
        """
        named = [*self._environment.alarms]
        states = await self.alarms(named) if named else {}
        if missing := set(named) - set(states):
            raise TerminalError(
                f"CloudWatch has no alarm {', '.join(sorted(missing))}",
                state="nothing was changed",
                next_step="create it, or correct `alarms` in the environment's file",
            )
        return [f"alarm {name} is in state {state}" for name, state in states.items()]

    async def drop_alarm(self) -> None:
        """Remove our own alarm."""
        ours = requests.alarm_name(self._environment)
        await self._aws.call("cloudwatch", "delete_alarms", ignore=["NotFound"], AlarmNames=[ours])

    async def alarms(self, names: list[str]) -> dict[str, str]:
        """Return the states of those alarms that exist."""
        kinds = ["MetricAlarm", "CompositeAlarm"]
        answer = await self._aws.call(
            "cloudwatch", "describe_alarms", AlarmNames=names, AlarmTypes=kinds
        )
        both = [alarm for kind in kinds for alarm in (answer or {}).get(f"{kind}s", [])]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in both}

    @property
    def _wants_alarm(self) -> bool:
        return self._environment.alarm and not self._environment.serverless

    async def _labels(self, arn: str) -> dict[str, str]:
        tags = await self._aws.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn)
        return requests.labels(tags)

    def _is_ours(self, name: str) -> bool:
        return requests.is_ours(self._environment, name)

    async def _sagemaker(
        self, operation: str, *ignore: str, **parameters: object
    ) -> dict[str, Any]:
        return await self._aws.call("sagemaker", operation, ignore=ignore, **parameters) or {}


def foreign(environment: SageMakerEnvironment, name: str) -> TerminalError:
    """Make the error of an endpoint that is somebody else's."""
    return TerminalError(
        f"endpoint {environment.endpoint_name} serves from {name}, which is not a release of"
        f" environment {environment.name}",
        state="it was left as it is",
        next_step="set another name as `endpoint` in the environment's file",
    )

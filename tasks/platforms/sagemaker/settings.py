"""Environments of the target `sagemaker`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.platforms.base.settings import LISTED, CloudEnvironment, Platform


class Serverless(BaseModel):
    """A SageMaker endpoint without instances of its own.

    Attributes:
        memory_mb: Memory of one server, in steps of 1024.
        concurrency: Requests at once; more are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_mb: int = Field(2048, ge=1024, le=6144, multiple_of=1024)
    concurrency: int = Field(5, ge=1, le=200)


class SageMakerEnvironment(CloudEnvironment):
    """An environment whose target is an endpoint of Amazon SageMaker.

    Attributes:
        region: Region of AWS.
        role: ARN of the role that the endpoint's servers have; it may pull from the repository.
        platforms: The one that its instances are.
        endpoint: Name of the endpoint; empty for `slipway-<environment>`.
        aws_block: Name of the AwsCredentials block; empty for what the worker's host has.
        instance_type: Of the endpoint's instances.
        instances: Number of instances.
        serverless: Instead of instances.
        traffic: Way in which an update moves it: at once, a canary first, or step by step.
        step_percent: Size of the canary, or of each step.
        wait_seconds: Time for which SageMaker watches the alarms after each step.
        termination_seconds: Time for which the old servers stay after the last step.
        update_seconds: Longest duration of an update before SageMaker rolls it back.
        alarms: Names of CloudWatch alarms that roll an update back.
        alarm: Create an alarm of our own, on requests that the endpoint answers with 5xx.
    """

    target: Literal["sagemaker"]
    region: str = Field(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d$")
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")
    platforms: Annotated[tuple[Platform, ...], LISTED] = Field(
        ("linux/amd64",), min_length=1, max_length=1
    )
    endpoint: str = Field("", pattern=r"^([a-zA-Z0-9](-*[a-zA-Z0-9]){0,33})?$")
    aws_block: str = "slipway-read-write"
    instance_type: str = Field("ml.m5.large", pattern=r"^ml\.\S+$")
    instances: int = Field(1, ge=1)
    serverless: Serverless | None = None
    traffic: Literal["all_at_once", "canary", "linear"] = "all_at_once"
    step_percent: int = Field(10, ge=10, le=50)
    wait_seconds: int = Field(60, ge=0, le=3600)
    termination_seconds: int = Field(60, ge=0, le=3600)
    update_seconds: int = Field(1800, ge=600, le=3600)
    alarms: Annotated[tuple[str, ...], LISTED] = Field((), max_length=9)
    alarm: bool = True

    @property
    def endpoint_name(self) -> str:
        """Name of the endpoint."""
        return self.endpoint or f"slipway-{self.name.replace('_', '-')}"

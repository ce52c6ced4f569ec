"""The requests to SageMaker and CloudWatch that release a model: pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.images.image import LABEL
from tasks.package.package import Package
from tasks.platforms.sagemaker.settings import SageMakerEnvironment

# An update must keep the name of the variant that it replaces.
VARIANT = "AllTraffic"
_RELEASE = r"\d{8}T\d{6}-[0-9a-f]{7}-[0-9a-f]{4}"
_ERRORS = 0.05  # of the requests of a minute
_VARIABLES, _VALUE = 100, 1024  # limits of CreateModel: variables, characters of a value


def name_of(environment: SageMakerEnvironment, release: str) -> str:
    """Name of a release's model, and of its endpoint configuration."""
    return f"{environment.endpoint_name}-{release}"


def is_ours(environment: SageMakerEnvironment, name: str) -> bool:
    """Return whether a model or configuration is a release of this environment."""
    # By the whole name: `wine` must not touch releases of `wine-eu`.
    return bool(re.fullmatch(name_of(environment, _RELEASE), name))


def alarm_name(environment: SageMakerEnvironment) -> str:
    """Name of our own alarm."""
    return f"{environment.endpoint_name}-5xx"


def release_labels(
    environment: SageMakerEnvironment, release: str, version: str, package: Package, digest: str
) -> dict[str, str]:
    """Label a release.

    Args:
        environment: Where it is.
        version: Name of the model version.
        digest: Of its image.
    """
    return {
        "environment": environment.name,
        "release": release,
        "version": version,
        "model": package.model,
        "commit": package.commit,
        "md5": package.md5,
        "serving": package.serving,
        "image": digest,
    }


def tags(labelled: Mapping[str, str]) -> list[dict[str, str]]:
    """Turn labels into tags of AWS."""
    return [{"Key": f"{LABEL}.{name}", "Value": value} for name, value in labelled.items()]


def labels(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Read our labels from tags of AWS."""
    ours = f"{LABEL}."
    return {
        tag["Key"].removeprefix(ours): tag["Value"] for tag in tags if tag["Key"].startswith(ours)
    }


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse variables that SageMaker refuses; its own error shows their values, secret ones too.

    Raises:
        ConfigurationError: There are too many, or a value is too long.
    """
    if len(variables) >= _VARIABLES:  # the release is one more
        raise ConfigurationError(
            f"SageMaker cannot hold {len(variables)} variables",
            state="nothing was started",
            next_step=f"set at most {_VARIABLES - 1} in the environment's file",
        )
    if long := [name for name, value in variables.items() if len(value) > _VALUE]:
        raise ConfigurationError(
            f"SageMaker cannot hold the value of {long[0]}",
            state="nothing was started",
            next_step=f"give {long[0]} a value of at most {_VALUE} characters",
        )


def model(
    environment: SageMakerEnvironment, name: str, image: str, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Make the request for a model: an image and its variables.

    Args:
        environment: Where to.
        image: Its image, by digest.
        variables: Environment variables.

    Returns:
        Parameters of `CreateModel`.
    """
    return {
        "ModelName": name,
        "ExecutionRoleArn": environment.role,
        "PrimaryContainer": {"Image": image, "Environment": dict(variables)},
    }


def configuration(environment: SageMakerEnvironment, name: str) -> dict[str, Any]:
    """Make the request for an endpoint configuration: what a model runs on.

    Args:
        environment: Where to.
        name: Its name, and that of its model.

    Returns:
        Parameters of `CreateEndpointConfig`.
    """
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": name}
    if environment.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": environment.serverless.memory_mb,
            "MaxConcurrency": environment.serverless.concurrency,
        }
    else:
        variant |= {
            "InstanceType": environment.instance_type,
            "InitialInstanceCount": environment.instances,
            "ContainerStartupHealthCheckTimeoutInSeconds": max(60, int(environment.ready_seconds)),
        }
    return {"EndpointConfigName": name, "ProductionVariants": [variant]}


def update(environment: SageMakerEnvironment) -> dict[str, Any]:
    """Make the part of an update that moves the traffic, and rolls it back.

    Returns:
        The `DeploymentConfig` of `UpdateEndpoint`; nothing for a serverless endpoint.
    """
    if environment.serverless:
        return {}
    traffic: dict[str, Any] = {
        "Type": environment.traffic.upper(),
        "WaitIntervalInSeconds": environment.wait_seconds,
    }
    step = {"Type": "CAPACITY_PERCENT", "Value": environment.step_percent}
    if environment.traffic == "canary":
        traffic["CanarySize"] = step
    if environment.traffic == "linear":
        traffic["LinearStepSize"] = step
    deployment: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": traffic,
            "TerminationWaitInSeconds": environment.termination_seconds,
            "MaximumExecutionTimeoutInSeconds": environment.update_seconds,
        }
    }
    alarms = [*environment.alarms, *([alarm_name(environment)] if environment.alarm else [])]
    if alarms:
        named = [{"AlarmName": name} for name in alarms]
        deployment["AutoRollbackConfiguration"] = {"Alarms": named}
    return {"DeploymentConfig": deployment}


def alarm(environment: SageMakerEnvironment) -> dict[str, Any]:
    """Make the request for our own alarm: the endpoint answers too many requests with 5xx.

    Returns:
        Parameters of `PutMetricAlarm`.
    """
    return {
        "AlarmName": alarm_name(environment),
        "AlarmDescription": f"Slipway: requests that {environment.endpoint_name} fails",
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocation5XXErrors",
        "Dimensions": [
            {"Name": "EndpointName", "Value": environment.endpoint_name},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Statistic": "Average",  # each request counts as 0 or 1
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": _ERRORS,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }

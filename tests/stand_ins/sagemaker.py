"""A stand-in of SageMaker: endpoints change their states as the real ones do, and behind each runs
the image of its model, started from the registry as SageMaker starts it. Models, endpoint
configurations, tags, alarms and all other services are moto's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import httpx
from moto.backends import get_backend
from starlette.responses import Response

from tasks.core.tls import ssl_context
from tests.stand_ins.aws import Aws, Call, Refusal, operation_of, violations
from tests.stand_ins.faults import Faults, Kind
from tests.stand_ins.machines import Machine, Machines

ACCOUNT, REGION = "123456789012", "us-east-1"
_PING_SECONDS = 120.0  # of a busy machine
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_DEADLINE = 60.0


@dataclass
class Fleet:
    """The servers of one endpoint configuration.

    Attributes:
        machine: What runs.
        under_way: Requests that it has not answered yet.
    """

    configuration: str
    machine: Machine
    under_way: int = 0


@dataclass
class Endpoint:
    """An endpoint."""

    name: str
    configuration: str
    status: str = "Creating"
    pending: str = ""
    reason: str = ""
    fleet: Fleet | None = None
    tags: list[dict[str, str]] = field(default_factory=list)
    history: list[str] = field(default_factory=list)  # every state that it has been in

    def become(self, status: str, pending: str = "", reason: str = "") -> None:
        """Enter a state."""
        self.status, self.pending, self.reason = status, pending, reason
        self.history.append(status)

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{self.name}"

    def describe(self) -> dict[str, Any]:
        """Describe the endpoint as `DescribeEndpoint` answers."""
        now = time.time()
        answer: dict[str, Any] = {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.configuration,
            "EndpointStatus": self.status,
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        if self.pending:
            answer["PendingDeploymentSummary"] = {"EndpointConfigName": self.pending}
        if self.reason:
            answer["FailureReason"] = self.reason
        return answer


class SageMaker(Aws):
    """ASGI application.

    Args:
        key_id: The access key that is let in.
        machines: Where images run.
    """

    def __init__(self, key_id: str, secret: str, machines: Machines) -> None:
        super().__init__(key_id, secret)
        self.endpoints: dict[str, Endpoint] = {}
        self._machines = machines
        self._service = botocore.session.get_session().get_service_model("sagemaker")
        self._threads: list[threading.Thread] = []

    async def answer(self, call: Call) -> Response:
        """Answer for endpoints; pass the rest to moto after SageMaker's own checks."""
        if call.operation == "InvokeEndpoint":
            return await self._invoke(call)
        if call.service != "sagemaker":
            return await self.moto(call)
        given = call.parameters
        shape = self._service.operation_model(call.operation).input_shape
        if wrong := list(violations(shape, given)):
            raise Refusal("ValidationException", f"{len(wrong)} validation error detected: {wrong}")
        mine = getattr(self, f"_{call.operation}", None)
        content = mine(given) if mine else None
        if content is None:
            return await self.moto(call)
        return Response(json.dumps(content), media_type="application/x-amz-json-1.1")

    def kill(self, name: str) -> None:
        """End what runs behind an endpoint, which does not notice."""
        fleet = self.endpoints[name].fleet
        assert fleet
        self._machines.kill(fleet.machine)

    def models(self) -> list[str]:
        """List the names of all models."""
        return sorted(self._backend()._models)

    def configurations(self) -> list[str]:
        """List the names of all endpoint configurations."""
        return sorted(self._backend().endpoint_configs)

    def alarms(self) -> list[str]:
        """List the names of all alarms."""
        return sorted(self._alarms())

    def close(self) -> None:
        """Wait for what is under way."""
        for thread in self._threads:
            thread.join(_DEADLINE)

    # Models and configurations: moto overwrites what exists, and deletes what is in use.

    def _CreateModel(self, given: Mapping[str, Any]) -> None:
        self._must_be_new("model", given["ModelName"], self._backend()._models)
        container = given["PrimaryContainer"]
        if "@sha256:" not in container["Image"]:
            raise Refusal("ValidationException", "an image is given by digest here")
        for value in container.get("Environment", {}).values():
            if len(value) > 1024:
                raise Refusal("ValidationException", "a value of Environment is too long")

    def _CreateEndpointConfig(self, given: Mapping[str, Any]) -> None:
        name = given["EndpointConfigName"]
        self._must_be_new("endpoint configuration", name, self._backend().endpoint_configs)

    def _DeleteEndpointConfig(self, given: Mapping[str, Any]) -> None:
        name = given["EndpointConfigName"]
        users = [endpoint.name for endpoint in self.endpoints.values()
                 if name in {endpoint.configuration, endpoint.pending}]  # fmt: skip
        if users:
            raise Refusal("ValidationException", f"endpoints {users} serve from {name}")

    # Endpoints

    def _DescribeEndpoint(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._find(given).describe()

    def _CreateEndpoint(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given["EndpointName"]
        self._must_be_new("endpoint", name, self.endpoints)
        self._must_have_configuration(given)
        endpoint = Endpoint(name, given["EndpointConfigName"])
        endpoint.become("Creating", endpoint.configuration)
        self.endpoints[name] = endpoint
        self._go(self._create, endpoint)
        return {"EndpointArn": endpoint.arn}

    def _UpdateEndpoint(self, given: Mapping[str, Any]) -> dict[str, Any]:
        endpoint = self._find(given)
        self._must_be_at_rest(endpoint, "update")
        self._must_have_configuration(given)
        if endpoint.status == "Failed":
            raise Refusal("ValidationException", f'Cannot update failed endpoint "{endpoint.arn}".')
        deployment = given.get("DeploymentConfig", {})
        variant = (
            self._backend().endpoint_configs[given["EndpointConfigName"]].production_variants[0]
        )
        if deployment and "ServerlessConfig" in variant:
            raise Refusal("ValidationException", "DeploymentConfig is not for serverless endpoints")
        traffic = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        needed = {"CANARY": {"CanarySize"}, "LINEAR": {"LinearStepSize"}}
        if {*traffic} & {"CanarySize", "LinearStepSize"} != needed.get(traffic.get("Type"), set()):
            raise Refusal("ValidationException", f"step of {traffic} does not fit")
        alarms = deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])
        for alarm in alarms:
            if alarm["AlarmName"] not in self._alarms():
                raise Refusal("ValidationException", f"there is no alarm {alarm['AlarmName']}")
        endpoint.become("Updating", given["EndpointConfigName"])
        self._go(self._update, endpoint, [alarm["AlarmName"] for alarm in alarms])
        return {"EndpointArn": endpoint.arn}

    def _DeleteEndpoint(self, given: Mapping[str, Any]) -> dict[str, Any]:
        endpoint = self._find(given)
        self._must_be_at_rest(endpoint, "delete")
        endpoint.become("Deleting")
        self._go(self._delete, endpoint)
        return {}

    async def _invoke(self, call: Call) -> Response:
        name = call.path.split("/")[2]
        endpoint = self.endpoints.get(name)
        fleet = endpoint.fleet if endpoint else None
        if fleet is None:
            message = f"Endpoint {name} of account {ACCOUNT} not found."
            raise Refusal("ValidationError", message)
        handed_on = {"content-type", "accept", _ATTRIBUTES}
        headers = {k: v for k, v in call.headers.items() if k in handed_on}
        fleet.under_way += 1
        try:
            async with httpx.AsyncClient(
                timeout=60, trust_env=False, verify=ssl_context()
            ) as client:
                url = f"{fleet.machine.url}/invocations"
                answer = await client.post(url, content=call.body, headers=headers)
            status, text = answer.status_code, answer.text
        except httpx.HTTPError as error:
            status, text = 500, f"the container does not answer: {error!r}"
        finally:
            fleet.under_way -= 1
        if status != 200:
            group = f"/aws/sagemaker/Endpoints/{name}"
            raise Refusal(
                "ModelError",
                f'Received error ({status}) from primary with message "{text}".'
                f" See {group} in account {ACCOUNT} for more information.",
                424,
                OriginalStatusCode=status,
                OriginalMessage=text,
                LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}",
            )
        headers = {"x-amzn-invoked-production-variant": "AllTraffic"}
        if _ATTRIBUTES in answer.headers:
            headers[_ATTRIBUTES] = answer.headers[_ATTRIBUTES]
        return Response(answer.content, 200, headers, answer.headers["content-type"])

    # What goes on behind an endpoint

    def _create(self, endpoint: Endpoint) -> None:
        fleet, reason = self._start(endpoint.configuration)
        endpoint.fleet = fleet
        endpoint.become("InService" if fleet else "Failed", reason=reason)

    def _update(self, endpoint: Endpoint, alarms: list[str]) -> None:
        new, reason = self._start(endpoint.pending)
        states = self._alarms()
        if new and (rung := [name for name in alarms if states[name].state_value == "ALARM"]):
            reason = f"One or more configured alarms are in ALARM: {rung}"
        if reason:
            endpoint.become("RollingBack", endpoint.pending)
            self._end(new)
            endpoint.become("InService", reason=reason)
            return
        assert new
        old, endpoint.fleet, endpoint.configuration = endpoint.fleet, new, new.configuration
        self._end(old)
        endpoint.become("InService")

    def _delete(self, endpoint: Endpoint) -> None:
        self._end(endpoint.fleet)
        del self.endpoints[endpoint.name]

    def _start(self, configuration: str) -> tuple[Fleet | None, str]:
        backend = self._backend()
        variant = backend.endpoint_configs[configuration].production_variants[0]
        container = backend._models[variant["ModelName"]].primary_container
        try:
            machine = self._machines.start(
                container["Image"], container["Environment"], arguments=["serve"]
            )
        except Exception as error:  # as SageMaker, which tells it in its own words
            return None, f"The image cannot be pulled: {error}"
        deadline = time.monotonic() + _PING_SECONDS
        while time.monotonic() < deadline and self._machines.runs(machine):
            if machine.answers("/ping"):
                return Fleet(configuration, machine), ""
            time.sleep(0.1)
        self._machines.remove(machine)
        return None, (
            "The primary container for production variant AllTraffic did not pass the ping health"
            " check. Please check CloudWatch logs for this endpoint."
        )

    def _end(self, fleet: Fleet | None) -> None:
        if fleet is None:
            return
        deadline = time.monotonic() + _DEADLINE
        time.sleep(0.1)  # for a request that has just found its way here
        while fleet.under_way and time.monotonic() < deadline:
            time.sleep(0.02)
        self._machines.stop(fleet.machine)
        self._machines.remove(fleet.machine)

    def _go(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    # What SageMaker insists on

    def _find(self, given: Mapping[str, Any]) -> Endpoint:
        endpoint = self.endpoints.get(given["EndpointName"])
        if endpoint is None:
            arn = Endpoint(given["EndpointName"], "").arn
            raise Refusal("ValidationException", f'Could not find endpoint "{arn}".')
        return endpoint

    def _must_be_new(self, kind: str, name: str, there: Mapping[str, Any]) -> None:
        if name in there:
            arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind.replace(' ', '-')}/{name}"
            raise Refusal("ValidationException", f'Cannot create already existing {kind} "{arn}".')

    def _must_be_at_rest(self, endpoint: Endpoint, what: str) -> None:
        if endpoint.status in {"Creating", "Updating", "RollingBack", "Deleting"}:
            message = f'Cannot {what} in-progress endpoint "{endpoint.arn}".'
            raise Refusal("ValidationException", message)

    def _must_have_configuration(self, given: Mapping[str, Any]) -> None:
        name = given["EndpointConfigName"]
        if name not in self._backend().endpoint_configs:
            arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint-config/{name}"
            raise Refusal("ValidationException", f'Could not find endpoint configuration "{arn}".')

    def _alarms(self) -> Any:
        return get_backend("cloudwatch")[ACCOUNT][REGION].alarms

    def _backend(self) -> Any:
        return get_backend("sagemaker")[ACCOUNT][REGION]


class AwsFaults(Faults):
    """Faults of calls that are named by what they do and to what, as all are posted to `/`."""

    hanging = False

    def fail_each_call(self, *kinds: Kind) -> None:
        """Let the first calls of each name fail from now on."""
        super().fail_each_call(*kinds)
        self.hanging = "hang" in kinds

    def clear(self) -> None:
        """Let all calls succeed from now on."""
        super().clear()
        self.hanging = False

    def name(self, scope: Any) -> str:
        """Name a call by its operation, with `GET` if it changes nothing."""
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        operation = operation_of(headers, scope["path"])
        reads = operation.startswith(("Describe", "List", "Get", "Invoke"))
        return f"{'GET' if reads else 'POST'} {operation}"


def aws_error(code: int) -> Mapping[str, Any]:
    """Make an error in the words of AWS: too many requests, or a failure."""
    kind = "ThrottlingException" if code == 429 else "InternalFailure"
    return {"__type": kind, "message": "a fault on purpose"}

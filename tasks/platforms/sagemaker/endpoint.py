"""One endpoint of SageMaker: its configuration, its updates, and the model server behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import TerminalError, TransientError
from tasks.platforms.base.model_server import Answer
from tasks.platforms.sagemaker.aws import Aws

IN_SERVICE = "InService"
FAILED = "Failed"  # it never served, or no longer does; it can only be deleted
_MOVING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_ABSENT = "Could not find"
_LONGEST_PAUSE = 10.0
_MISSES = 5  # in a row; meanwhile the update goes on


@dataclass(frozen=True)
class State:
    """The state of an endpoint.

    Attributes:
        status: In SageMaker's words.
        configuration: Name of the endpoint configuration that it serves from.
        pending: Name of the one that it is on its way to.
        reason: Why it is not what it was told to be.
    """

    status: str
    configuration: str
    pending: str
    reason: str


class Endpoint:
    """An endpoint, which may not exist yet. It is a server that can be proven."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self._name = name
        self._ordered = ""
        self._taken = False  # whether SageMaker has taken that order
        self.logs = f"/aws/sagemaker/Endpoints/{name}"

    async def state(self) -> State | None:
        """Return the state of the endpoint, None if it does not exist."""
        answer = await self._aws.call(
            "sagemaker", "describe_endpoint", ignore=[_ABSENT], EndpointName=self._name
        )
        if answer is None:
            return None
        pending = answer.get("PendingDeploymentSummary", {}).get("EndpointConfigName", "")
        return State(
            status=answer["EndpointStatus"],
            configuration=answer.get("EndpointConfigName", pending),
            pending=pending,
            reason=answer.get("FailureReason", "SageMaker gives no reason"),
        )

    async def wait_until_idle(self) -> State | None:
        """Wait until no change is running, during which SageMaker refuses others; return the state.

        Raises:
            TransientError: SageMaker does not say how it is, several times in a row.
        """
        pause, misses = 0.25, 0
        while True:
            try:
                state = await self.state()
            except TransientError:
                misses += 1
                if misses > _MISSES:
                    raise
            else:
                if state is None or state.status not in _MOVING:
                    return state
                misses = 0
                self._taken |= state.pending == self._ordered
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def move(self, configuration: str, how: Mapping[str, Any]) -> None:
        """Have it serve from a configuration, and wait until it does; it is created if absent.

        Tried again, it does not order again what SageMaker has taken on and rolled back since.

        Args:
            configuration: Name of the endpoint configuration.
            how: Further parameters of `UpdateEndpoint`, which say how the traffic moves.

        Raises:
            TerminalError: SageMaker has given up, and rolled back if there was something to.
        """
        to = {"EndpointName": self._name, "EndpointConfigName": configuration}
        if self._ordered != configuration:
            self._ordered, self._taken = configuration, False
        state = await self.wait_until_idle()
        if state is None:
            await self._aws.call("sagemaker", "create_endpoint", ignore=["already existing"], **to)
        elif state.configuration != configuration and not self._taken:
            await self._aws.call("sagemaker", "update_endpoint", **to, **how)
            self._taken = True
        state = await self.wait_until_idle()
        self._ordered = ""  # done; a later order is a new one
        if state and (state.status, state.configuration) == (IN_SERVICE, configuration):
            return
        raise TerminalError(
            f"SageMaker did not update endpoint {self._name} to {configuration}:"
            f" {state.reason if state else 'somebody has deleted it'}",
            state="what was live before goes on serving",
            next_step=f"read CloudWatch's log group {self.logs},"
            " fix what it says, run the flow again",
        )

    async def delete(self) -> None:
        """Delete it, and wait until it is gone."""
        if await self.wait_until_idle():
            await self._aws.call(
                "sagemaker", "delete_endpoint", ignore=[_ABSENT], EndpointName=self._name
            )
        await self.wait_until_idle()

    async def version(self) -> dict[str, str] | None:
        """Return what the model server reports of its release, None if it does not answer."""
        answer = await self.ask("version", {})
        try:
            return dict(json.loads(answer.text)) if answer.status == 200 else None
        except ValueError:
            return None

    async def ask(self, method: str, body: Mapping[str, Any]) -> Answer:
        """Invoke it: the one address that there is takes the method as an attribute."""
        try:
            answer = await self._aws.call(
                "sagemaker-runtime",
                "invoke_endpoint",
                EndpointName=self._name,
                ContentType="application/json",
                CustomAttributes=f"method={method}",
                Body=json.dumps(body).encode(),
            )
        except TerminalError as error:
            response = getattr(error.__cause__, "response", {})
            if response.get("Error", {}).get("Code") != "ModelError":
                raise
            return Answer(response["OriginalStatusCode"], response["OriginalMessage"])
        return Answer(200, (answer or {})["Body"].decode())

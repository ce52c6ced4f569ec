"""AWS: one call of one service, and the errors that its failures become."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tasks.core.aws_errors import DENIED
from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.core.threads import in_thread
from tasks.platforms.base.no_answer import UNCHANGED, no_answer

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

# How long a call may take; a model has a minute to answer.
USUAL_SECONDS = 30.0
SECONDS = {"sagemaker-runtime": 70.0}
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
}


class Aws:
    """AWS in one region, with one set of credentials.

    Args:
        session: Session with the credentials.
        region: Name of the region.
        block: Name of the block that the credentials are from, for people; empty for the host's.
        url: Address of all services, unless that is AWS itself.
    """

    def __init__(
        self, session: Session, region: str, block: str = "", url: str | None = None
    ) -> None:
        self._session = session
        self.region = region
        self._who = f"block aws-credentials/{block}" if block else "the worker's host"
        self._url = url
        self._clients: dict[str, Any] = {}

    async def call(
        self, service: str, operation: str, *, ignore: Sequence[str] = (), **parameters: Any
    ) -> dict[str, Any] | None:
        """Call an operation.

        Args:
            service: Name of the service, as boto3 has it.
            operation: Name of the operation.
            ignore: Errors to ignore, by words of their code or message.
            parameters: Of the operation.

        Returns:
            What it answers; None after an ignored error.

        Raises:
            TransientError: Too many requests, an error of AWS's own, or no answer; it may have
                acted all the same.
            TerminalError: It refuses the credentials, or what was asked for.
        """
        return await in_thread(self.call_now, service, operation, ignore=ignore, **parameters)

    def call_now(
        self, service: str, operation: str, *, ignore: Sequence[str] = (), **parameters: Any
    ) -> dict[str, Any] | None:
        """Call an operation from a thread; the same as `call`."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
            if body := answer.get("Body"):  # of an invocation; reading it may fail as well
                answer["Body"] = body.read()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            if isinstance(error, ClientError) and any(words in str(error) for words in ignore):
                return None
            raise self._explain(f"{service} {operation}", error) from error
        return answer

    async def pages(
        self, service: str, operation: str, key: str, **parameters: Any
    ) -> list[dict[str, Any]]:
        """List things, over all pages.

        Args:
            service: Name of the service.
            operation: Name of the operation, which answers pages with a `NextToken`.
            key: Under which an answer has the things.
            parameters: Of the operation.
        """
        things: list[dict[str, Any]] = []
        while True:
            page = await self.call(service, operation, **parameters) or {}
            things += page.get(key, [])
            if not page.get("NextToken"):
                return things
            parameters["NextToken"] = page["NextToken"]

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        if service not in self._clients:
            config = Config(
                connect_timeout=5,
                read_timeout=SECONDS.get(service, USUAL_SECONDS),
                # Whole steps are repeated, after a look at the effect of the lost call.
                retries={"total_max_attempts": 1, "mode": "standard"},
            )
            client = cast("Any", self._session).client(
                service, region_name=self.region, endpoint_url=self._url, config=config
            )
            client.meta.events.register("before-parse", _refuse_half)
            self._clients[service] = client
        return self._clients[service]

    def _explain(
        self, what: str, error: BotoCoreError | ClientError | ResponseParserError
    ) -> TransientError | TerminalError:
        from botocore.exceptions import (
            ClientError,
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
            NoCredentialsError,
        )
        from botocore.parsers import ResponseParserError

        if isinstance(error, NoCredentialsError):
            return TerminalError(
                f"{self._who} has no AWS credentials",
                state=UNCHANGED,
                next_step="set them in the AwsCredentials block, or give the host a role",
            )
        if not isinstance(error, ClientError):
            passing = (HTTPClientError, ConnectionError, IncompleteReadError, ResponseParserError)
            if isinstance(error, passing):
                return no_answer(
                    "AWS",
                    what,
                    error,
                    next_step="check `region` and AWS's health dashboard, then run the flow again",
                )
            return TerminalError(
                f"AWS: {what} was not sent: {type(error).__name__}: {error}",
                state=UNCHANGED,
                next_step="check `region` and the settings of AWS on the worker's host",
            )
        details, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code, status = details.get("Code", ""), about.get("HTTPStatusCode", 0)
        message = (
            f"{code}: {details.get('Message', '')} (request {about.get('RequestId', 'unknown')})"
        )
        if code in DENIED:
            return TerminalError(
                f"AWS: {what} refuses the credentials of {self._who}: {message}",
                state=UNCHANGED,
                next_step="correct them in the Prefect UI, or give them the right;"
                " docs/targets/sagemaker.md has the policy",
            )
        if code in _THROTTLED or status == 429 or status >= 500:
            return TransientError(
                f"AWS: {what} answers {message}",
                state=UNCHANGED,
                next_step="wait a minute, then run the flow again",
            )
        return TerminalError(
            f"AWS: {what} answers {message}",
            state=UNCHANGED,
            next_step="correct what the message says, then run the flow again",
        )


def _refuse_half(response_dict: Mapping[str, Any], **_: Any) -> None:
    """Refuse an answer that was cut off: botocore takes it for one that says nothing."""
    from botocore.exceptions import IncompleteReadError

    body, length = response_dict["body"], int(response_dict["headers"].get("content-length", 0))
    if isinstance(body, bytes) and len(body) < length:  # botocore counts streamed bodies itself
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=length)


async def open_aws(block: str, region: str) -> Aws:
    """Read who we are to AWS.

    Args:
        block: Name of an AwsCredentials block; empty for what the worker's host has.
        region: Name of the region.

    Raises:
        ConfigurationError: There is no such block.
        TransientError: The Prefect server does not answer.
    """
    import boto3
    import httpx

    from tasks.bucket.stores.s3.blocks import AwsCredentials

    if not block:
        return Aws(boto3.Session(), region)
    try:
        credentials = cast("AwsCredentials", await AwsCredentials.aload(block))
    except ValueError:
        raise ConfigurationError(
            f"block aws-credentials/{block} does not exist, or has wrong fields",
            state="nothing was changed",
            next_step="create it in the Prefect UI, or name another as `aws_block`",
        ) from None  # the error quotes the block's fields
    except httpx.HTTPError as error:
        raise TransientError(
            f"cannot read block aws-credentials/{block} from the Prefect server: {error!r}",
            state="nothing was changed",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
    session = await asyncio.to_thread(credentials.get_boto3_session)
    return Aws(session, region, block, credentials.aws_client_parameters.endpoint_url)

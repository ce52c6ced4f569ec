"""REST APIs of platforms: one call, and the errors that its failures become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.core.secret_blocks import renewal
from tasks.core.tls import ssl_context
from tasks.platforms.base.no_answer import UNCHANGED, no_answer
from tasks.runs.secrets import read_secret

_SECONDS = 30.0
# Client errors that do not reject the request itself: too late, too early, too often.
_PASSING = {408, 425, 429}


class RefusedError(TerminalError):
    """A request that a platform refuses.

    Attributes:
        code: HTTP status of its answer.
    """

    code = 0


async def load_token(block: str) -> SecretStr:
    """Read the token of a platform.

    Args:
        block: Name of the Secret block.

    Raises:
        ConfigurationError: There is no such block, or it holds no text.
        TransientError: The Prefect server does not answer.
    """
    content = await read_secret(block)
    if not isinstance(content, str) or not content:
        raise ConfigurationError(
            f"block secret/{block} does not hold a token",
            state="nothing was changed",
            next_step=renewal(block),
        )
    return SecretStr(content)


@dataclass(frozen=True)
class RestAPI:
    """The API of a platform.

    Attributes:
        platform: Its name, for people.
        token: Token of the API.
        block: Name of the block that the token is from, for people.
        scheme: Scheme of the header `Authorization`.
        headers: Further headers of every request.
    """

    platform: str
    url: str
    token: SecretStr
    block: str
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        missing_ok: bool = False,
    ) -> Any:
        """Ask for one thing.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            json: Body, None for none.
            params: Query.
            headers: Further headers of this request.
            missing_ok: Return None for 404 instead of an error.

        Returns:
            The parsed answer; None for an empty one.

        Raises:
            TransientError: Too many requests, an error of the platform's own, or no answer; it
                may have acted all the same.
            TerminalError: It refuses the token.
            RefusedError: It refuses what was asked for.
        """
        what = f"{self.platform}: {method} {path}"
        try:
            async with httpx.AsyncClient(
                timeout=_SECONDS, trust_env=False, verify=ssl_context()
            ) as client:
                answer = await client.request(
                    method,
                    f"{self.url}{path}",
                    json=json,
                    params=dict(params or {}),
                    headers={
                        "Authorization": f"{self.scheme} {self.token.get_secret_value()}",
                        **self.headers,
                        **(headers or {}),
                    },
                )
        except httpx.HTTPError as error:
            # Without the error itself, whose request carries the token.
            raise no_answer(
                self.platform,
                f"{method} {path}",
                type(error).__name__,
                next_step="see the platform's status page, then run the flow again",
            ) from None
        if missing_ok and answer.status_code == 404:
            return None
        if not answer.is_success:
            raise self._explain(what, answer)
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            # Broken JSON is the platform's own answer, which may hold secrets of a server.
            broken = "json" in answer.headers.get("Content-Type", "")
            text = "the answer is broken" if broken else answer.text[:200]
            raise TransientError(
                f"{what} did not return JSON: {text}",
                state=UNCHANGED,
                next_step="check the API's URL, then run the flow again",
            ) from error

    def _explain(self, what: str, answer: httpx.Response) -> TransientError | TerminalError:
        code = answer.status_code
        message = f"{what} answers {code}: {_complaint(answer)}"
        if identifier := answer.headers.get("Request-Id") or answer.headers.get("fly-request-id"):
            message = f"{message} (request {identifier})"
        if code in _PASSING or code >= 500:
            return TransientError(
                message, state=UNCHANGED, next_step="wait a minute, then run the flow again"
            )
        if code in {401, 403}:
            return TerminalError(
                f"{self.platform} refuses the token in block secret/{self.block}:"
                f" {code} for {what}",
                state=UNCHANGED,
                next_step=f"make a new one; {renewal(self.block)}",
            )
        refused = RefusedError(
            message,
            state=UNCHANGED,
            next_step="correct what the message says, then run the flow again",
        )
        refused.code = code
        return refused


def _complaint(answer: httpx.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        content = answer.text
    if isinstance(content, Mapping):
        content = content.get("message") or content.get("error") or content
    return str(content)[:400]

"""The routes that SageMaker calls: `GET /ping` and `POST /invocations`, and nothing else.

One address serves all methods: a request names the method in the header that SageMaker passes on,
and the answer names the release in the same header.
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serving.errors import RequestError, json_response

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
ARGUMENT = "serve"  # what SageMaker appends to the command
VERSION = "version"  # the pseudo-method that answers as `/version`
DEFAULT_METHOD = "predict"


def make_invocations_endpoint(
    endpoints: Mapping[str, Callable[[Request], Any]], version: Callable[[], Mapping[str, Any]]
) -> Callable[[Request], Any]:
    """Make the endpoint of `/invocations`.

    Args:
        endpoints: the endpoint of each of the model's methods.
        version: returns what `/version` answers.

    Returns:
        An endpoint that answers as the method that a request names, `predict` by default.
    """

    async def endpoint(request: Request) -> Response:
        method = _read_method(request.headers.get(ATTRIBUTES, ""), [*endpoints])
        if method == VERSION:
            response = json_response(version())
        else:
            response = await endpoints[method](request)
        served = version()
        response.headers[ATTRIBUTES] = f"release={served.get('release')};md5={served['md5']}"
        return response

    return endpoint


def _read_method(attributes: str, methods: list[str]) -> str:
    """Read the method that a request names as `method=NAME`, among other attributes."""
    named = dict(part.strip().partition("=")[::2] for part in attributes.split(";"))
    method = named.get("method", DEFAULT_METHOD if DEFAULT_METHOD in methods else methods[0])
    if method not in {*methods, VERSION}:
        raise RequestError(
            400, f"The methods are {', '.join(methods)} and {VERSION}: name one in {ATTRIBUTES}.",
            kind="method",
        )  # fmt: skip
    return method

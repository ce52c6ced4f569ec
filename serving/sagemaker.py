"""What SageMaker asks of a container: `GET /ping` and `POST /invocations`, and nothing else.

One address answers all methods, so a request says which it wants in the header that SageMaker hands
on, and an answer says in the same header which release gave it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serving.errors import Refused, json_response

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
ARGUMENT = "serve"  # what SageMaker appends to the command
VERSION = "version"  # asks which release this is, as `/version` answers
USUAL = "predict"


def invocations(
    answerers: Mapping[str, Callable[[Request], Any]], version: Callable[[], Mapping[str, Any]]
) -> Callable[[Request], Any]:
    """Make the endpoint of `/invocations`.

    Args:
        answerers: the endpoint of each of the model's methods.
        version: says what is served.

    Returns:
        An endpoint that answers as the method that a request names, `predict` by default.
    """

    async def endpoint(request: Request) -> Response:
        method = _method(request.headers.get(ATTRIBUTES, ""), [*answerers])
        if method == VERSION:
            response = json_response(version())
        else:
            response = await answerers[method](request)
        said = version()
        response.headers[ATTRIBUTES] = f"release={said.get('release')};md5={said['md5']}"
        return response

    return endpoint


def _method(attributes: str, methods: list[str]) -> str:
    """The method that a request names as `method=NAME`, among whatever else it says."""
    said = dict(part.strip().partition("=")[::2] for part in attributes.split(";"))
    method = said.get("method", USUAL if USUAL in methods else methods[0])
    if method not in {*methods, VERSION}:
        raise Refused(
            400, f"The methods are {', '.join(methods)} and {VERSION}: say which in {ATTRIBUTES}.",
            kind="method",
        )  # fmt: skip
    return method

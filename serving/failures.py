"""Log failures of requests: in full the first time, then in a line, as clients can repeat them."""

import logging
import secrets
import traceback

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import RequestError

log = logging.getLogger("serving")

MOST_PLACES = 100  # of which tracebacks are written
LINE_CHARACTERS = 200


class Failures:
    """The failures of one server so far."""

    def __init__(self, *, is_private: bool = False) -> None:
        """Begin without any.

        Args:
            is_private: whether messages are left out of the log, as they may quote a client.
        """
        self._places: set[tuple[str, str, int]] = set()
        self._is_private = is_private

    def log_refusal(self, method: str, error: Exception) -> str:
        """Log that a model does not accept a client's values; return the answer's reference."""
        reference = secrets.token_hex(4)
        log.warning("%s refused values, reference %s: %s", method, reference, self._describe(error))
        return reference

    def log_failure(self, method: str, error: Exception) -> str:
        """Log a failure, with its traceback if it is the first at its place.

        Args:
            method: what failed, of the model or the server.
            error: the failure.

        Returns:
            The reference for the answer.
        """
        reference = secrets.token_hex(4)
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (
            type(error).__name__,
            trace.tb_frame.f_code.co_filename if trace else "",
            trace.tb_lineno if trace else 0,
        )
        is_new = place not in self._places and len(self._places) < MOST_PLACES
        if is_new:
            self._places.add(place)
        if is_new and self._is_private:
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error(
                "%s failed, reference %s: %s\n%s", method, reference, self._describe(error), frames
            )
            return reference
        log.error(
            "%s failed, reference %s: %s", method, reference, self._describe(error),
            exc_info=error if is_new else None,
        )  # fmt: skip
        return reference

    def _describe(self, error: Exception) -> str:
        if self._is_private:
            return (
                f"{type(error).__name__} (the message is left out: the model has private columns)"
            )
        return f"{error!r:.{LINE_CHARACTERS}}"


class FailureAnswer:
    """ASGI middleware that answers 500 to what the application did not expect.

    Starlette's own answers too, but raises the error again, for which uvicorn logs a traceback each
    time.
    """

    def __init__(self, app: ASGIApp, failures: Failures) -> None:
        """Wrap an application.

        Args:
            app: answers the requests.
            failures: of this server so far.
        """
        self._app = app
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            reference = self._failures.log_failure("the service", error)
            message = f"Something went wrong in the service (reference {reference})."
            answer = RequestError(500, message, kind="unexpected").make_response()
            await answer(scope, receive, send)  # if one has begun: uvicorn closes the connection

"""The error of a server that does not answer, in the same words for all clients of platforms."""

from __future__ import annotations

from tasks.core.errors import TransientError

# True in every step, also after the switch.
UNCHANGED = "what is live goes on serving"


def no_answer(
    server: str, request: str, reason: object, *, next_step: str, state: str = UNCHANGED
) -> TransientError:
    """Make the error of a request without an answer; the server may have acted all the same.

    Args:
        server: Name of the server, with its address where that is a setting.
        request: The request, without secrets.
        reason: The client's error, or its name where its text may hold secrets.
        next_step: The next step of the reader.
        state: The state of things.
    """
    why = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    return TransientError(
        f"{server} does not answer ({request}): {why}", state=state, next_step=next_step
    )

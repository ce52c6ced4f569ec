"""Predict large requests on a few threads with a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.errors import RequestError

T = TypeVar("T")


class Workers:
    """A bounded number of threads and of requests that wait for one."""

    def __init__(self, threads: int, queue: int) -> None:
        """Set the bounds.

        Args:
            threads: requests predicted at the same time.
            queue: requests that may wait.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._room = threads + queue

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run a function on a thread, so that others are served meanwhile.

        Raises:
            RequestError: as many requests as allowed are waiting already.
        """
        if self._room <= 0:
            raise RequestError(
                503,
                "Too many large requests at once; try again in a moment.",
                kind="busy",
                headers={"Retry-After": "1"},
            )
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        self._room -= 1
        future.add_done_callback(self._free_room)
        # A client that has disconnected does not make room: its request is still being predicted.
        try:
            return await asyncio.shield(future)
        finally:
            # Otherwise its error and this frame would keep each other, and the rows, in memory
            # until a collection of garbage, which may be thousands of requests later.
            del future

    def close(self) -> None:
        """Let what runs finish, drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _free_room(self, _: object) -> None:
        self._room += 1

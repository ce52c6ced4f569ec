"""Answer large requests on a few threads, in steps, with a bounded queue.

Between two steps of a request the event loop has its turn, and so have all small requests that have
arrived. A thread that went on without a break would take the interpreter from the loop again each
time that the loop reads or writes.
"""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.errors import RequestError

T = TypeVar("T")

Steps = Generator[None, None, T]


class Workers:
    """A bounded number of threads and of requests that wait for one."""

    def __init__(self, threads: int, queue: int) -> None:
        """Set the bounds.

        Args:
            threads: requests answered at the same time.
            queue: requests that may wait.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._free = asyncio.Semaphore(threads)
        self._room = threads + queue

    async def run(self, steps: Steps[T]) -> T:
        """Take the steps of a request on a thread, so that others are served meanwhile.

        Returns:
            The value with which the steps end.

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
        self._room -= 1
        task = asyncio.create_task(self._run(steps))
        task.add_done_callback(self._free_room)
        # A client that has disconnected does not make room: its request is still being predicted.
        try:
            return await asyncio.shield(task)
        finally:
            # Otherwise its error and this frame would keep each other, and the rows, in memory
            # until a collection of garbage, which may be thousands of requests later.
            del task

    async def _run(self, steps: Steps[T]) -> T:
        async with self._free:
            loop = asyncio.get_running_loop()
            while True:
                end = await loop.run_in_executor(self._pool, _take_step, steps)
                if end is not None:
                    return end[0]

    def close(self) -> None:
        """Let what runs finish, drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _free_room(self, _: object) -> None:
        self._room += 1


def _take_step(steps: Steps[T]) -> tuple[T] | None:
    """Take the next step; return the value with which the steps end, if that was the last."""
    try:
        next(steps)
    except StopIteration as end:
        return (end.value,)
    return None

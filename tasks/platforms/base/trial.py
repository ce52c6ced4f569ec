"""The trial on the worker: boot a package as a process with the model's own packages, and prove it.

It needs no container engine, and shows what a release would be before anything leaves the worker.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasks.package.bundle import Bundle
from tasks.package.server import run_server
from tasks.platforms.base.prediction_log import without_log
from tasks.platforms.base.proof import Candidate, prove


async def boot(bundle: Bundle, within: float, variables: Mapping[str, str]) -> None:
    """Serve a bundle in an environment of its own, prove it, and stop it.

    Args:
        within: Seconds in which it has to get ready.
        variables: Variables of the server, as it will have them where it is released.

    Raises:
        TerminalError: It crashes, does not get ready, or predicts something else.
    """
    folder = bundle.package.workspace.path / "preflight"
    async with run_server(bundle, folder, without_log(variables)) as (url, server):
        candidate = Candidate(
            url,
            bundle.package,
            bundle.identifier,
            crashed=lambda: server.code is not None,
            last_lines=server.tail,
        )
        await prove(candidate, within)

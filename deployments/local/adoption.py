"""The programs of a stack whose supervisord was killed: they run on, and the next one adopts them.

supervisord starts each program through `tasks/platforms/process/launch.py`, which stands in for the
program if it runs already. So whatever a start leaves running here is kept alive from then on.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from deployments import fork
from deployments.local import processes
from deployments.local.layout import Layout
from deployments.local.prefect_programs import WORKER
from deployments.local.program import Program
from deployments.local.programs import program_names
from tasks.platforms.process import launch
from tasks.platforms.process.supervisor import section

# How long a process of an earlier stack may take to end by itself.
GRACE_SECONDS = 5.0


def running_programs(logs: Path) -> dict[str, int]:
    """Return the programs that run, model servers included, by name with their process ids.

    Args:
        logs: Folder of the stack's logs; beside each log is the record of its program's process.
    """
    running = {file.stem: launch.read_process(file) for file in sorted(logs.glob("*.pid"))}
    return {name: process for name, process in running.items() if process}


def runs_flows(token: str) -> bool:
    """Return whether a stack is executing a flow run.

    Args:
        token: The stack's own value of the marker.
    """
    return any(is_flow_run(process) for process in processes.of_stack(token))


def end_leftovers(layout: Layout, token: str, log: Callable[[str], None]) -> dict[str, int]:
    """End what a killed supervisord has left running, except programs to adopt and flow runs.

    Args:
        layout: The stack as its last start left it.
        token: The stack's own value of the marker.
        log: Receives a line on what was done.

    Returns:
        The programs that can be adopted, by name with their process ids.
    """
    known = {*program_names(layout)}
    known |= {file.stem for file in layout.supervisor_configuration.parent.glob("conf.d/*.conf")}
    running = {
        name: process for name, process in running_programs(layout.logs).items() if name in known
    }
    spare = _families(running.values(), token)
    if count := processes.end(token, grace_seconds=GRACE_SECONDS, spare=spare):
        log(f"ended {count} processes that an earlier stack left behind")
    if not spare:
        shutil.rmtree(layout.temporary, ignore_errors=True)
    return running


def adopt_programs(
    layout: Layout,
    programs: Iterable[Program],
    running: Mapping[str, int],
    token: str,
    log: Callable[[str], None],
) -> set[str]:
    """Return the names of the programs to adopt; end those that are to run differently.

    Args:
        layout: The stack, whose configuration is still that of the killed supervisord.
        programs: The programs as they are to run from now on. The worker goes on even if it
            differs, as long as it has flow runs: it would take them with it.
        running: The programs that can be adopted, by name with their process ids.
        token: The stack's own value of the marker.
        log: Receives a line on what was done.
    """
    configuration = layout.supervisor_configuration
    former = configuration.read_text() if configuration.is_file() else ""
    keep = WORKER if runs_flows(token) else ""
    adopted = set(running)
    for program in programs:
        same = program.name == keep or section(program, layout.logs) in former
        if program.name in running and not same:
            number = signal.Signals[f"SIG{program.stop_signal}"]
            launch.stop(running[program.name], number, program.stop_seconds)
            adopted.remove(program.name)
    if adopted:
        log(f"{len(adopted)} programs run on: a new supervisord adopts them")
    return adopted


def is_flow_run(process: psutil.Process) -> bool:
    """Return whether a process executes a flow run."""
    with contextlib.suppress(psutil.Error):  # it has just ended
        return "prefect.engine" in process.cmdline()
    return False


def is_forked(process: psutil.Process) -> bool:
    """Return whether a process is the server that flow runs are forked from, or a fork of it."""
    with contextlib.suppress(psutil.Error):  # it has just ended
        return fork.__file__ in process.cmdline()
    return False


def _families(roots: Iterable[int], token: str) -> set[int]:
    """Return processes and their descendants, and those of flow runs: these end by themselves."""
    roots = set(roots)
    family = set(roots)
    for process in processes.of_stack(token):
        with contextlib.suppress(psutil.Error):
            if process.pid in roots or is_flow_run(process) or is_forked(process):
                family |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return family

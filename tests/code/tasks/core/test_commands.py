from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.core import commands, output
from tasks.core.errors import TerminalError, TransientError


async def test_output_and_exit_code_are_returned() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    finished = await commands.run([sys.executable, "-c", code], timeout=20)
    assert (finished.code, finished.stdout, finished.stderr) == (3, "out\n", "err\n")


async def test_redrawn_lines_and_progress_bars_are_dropped() -> None:
    code = r"print('  0%|   | 0/5 [00:00<?, ?it/s]\r 50%|## | 3/5 [00:01]\rdone\nnext')"
    finished = await commands.run([sys.executable, "-c", code], timeout=20)
    assert finished.stdout == "done\nnext\n"
    bar = await commands.run([sys.executable, "-c", "print(' 50%|## | 3/5')"], timeout=20)
    assert bar.stdout == ""


async def test_line_of_a_megabyte_is_complete() -> None:
    finished = await commands.run([sys.executable, "-c", "print('x' * 1_000_000)"], timeout=20)
    assert len(finished.stdout) == 1_000_001


async def test_program_that_prints_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LARGEST_OUTPUT_BYTES", 1 << 20)
    code = "import sys\nwhile True: sys.stderr.write('x' * 4096)"
    with pytest.raises(TerminalError, match="printed more than 1 MB"):
        await commands.run([sys.executable, "-c", code], timeout=60)
    assert not [child for child in psutil.Process().children() if code in child.cmdline()]


async def test_variables_reach_the_program_and_not_its_argv() -> None:
    code = "import os, sys; print(os.environ['TOKEN'], 'secret' in ' '.join(sys.argv))"
    finished = await commands.run([sys.executable, "-c", code], timeout=20, env={"TOKEN": "secret"})
    assert finished.stdout == "secret False\n"


async def test_hidden_variables_do_not_reach_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = "import os; print('AWS_SECRET_ACCESS_KEY' in os.environ)"
    seen = [
        (await commands.run([sys.executable, "-c", code], timeout=20, hide=hide)).stdout
        for hide in ((), ("AWS_",))
    ]
    assert seen == ["True\n", "False\n"]


# A program that starts a child of its own, and neither of them listens to SIGTERM.
_STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""


async def _pids(file: Path) -> list[int]:
    while not (file.is_file() and len(file.read_text().split()) == 2):
        await asyncio.sleep(0.02)
    return [int(pid) for pid in file.read_text().split()]


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def _ends(pids: list[int]) -> bool:
    deadline = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return not any(map(_alive, pids))


async def test_time_out_kills_the_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_GRACE_SECONDS", 0.3)
    file = tmp_path / "pids"
    with pytest.raises(TransientError, match="did not finish within 5 s"):
        await commands.run([sys.executable, "-c", _STUBBORN, str(file)], timeout=5)
    assert await _ends(await _pids(file))


async def test_cancellation_kills_the_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_GRACE_SECONDS", 0.3)
    file = tmp_path / "pids"
    run = asyncio.create_task(
        commands.run([sys.executable, "-c", _STUBBORN, str(file)], timeout=60)
    )
    pids = await _pids(file)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await _ends(pids)


async def test_background_program_inherits_no_variables_and_ends_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    code = "import os, time; print(os.environ.get('AWS_SECRET_ACCESS_KEY'), flush=True)\n"
    code += f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{os.getpid()}}')\n"
    code += "time.sleep(60)"
    async with commands.run_in_background(
        [sys.executable, "-c", code], cwd=tmp_path, env={}, log=tmp_path / "log"
    ) as program:
        pids = await _pids(tmp_path / "pids")
        assert program.code is None
        assert program.tail() == "None"
    assert await _ends(pids)
    assert "hidden" in os.environ["AWS_SECRET_ACCESS_KEY"]

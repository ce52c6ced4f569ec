"""Stages are forked from a process that has imported their libraries, and behave as programs."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.code.model import support

STAGE = ("sh", "model/stage.sh")
_REPORT = """
import os, sys
print("pandas" in sys.modules, __name__, sys.argv[1:], os.getcwd(), os.environ.get("OF_MINE"),
      os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
sys.exit(7)
"""
_SLEEP = """
import subprocess, sys, time
subprocess.Popen(["sleep", "300"])
print("asleep", flush=True)
time.sleep(300)
"""
_PROGRESS = """
import pathlib, sys, time
print("epoch 1")
for _ in range(200):
    if pathlib.Path("seen").exists():
        sys.exit()
    time.sleep(0.1)
sys.exit(1)
"""
_OLD_SYSTEM = """
import os
import model.stage_server

def refuse(_):
    raise OSError(38, "Function not implemented")

os.pidfd_open = refuse
model.stage_server.run_stage("model.mine")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with no more of the repository than a stage needs to start."""
    folder = tmp_path_factory.mktemp("repository")
    model = folder / "model"
    model.mkdir()
    for name in ("stage.sh", "stage_server.py", "uv.lock", "pyproject.toml"):
        (model / name).write_bytes((support.ROOT / "model" / name).read_bytes())
    return folder


def start(
    folder: Path, code: str, stdout: int = subprocess.PIPE, **variables: str
) -> "subprocess.Popen[str]":
    (folder / "model" / "mine.py").write_text(code)
    return subprocess.Popen(
        [*STAGE, "model.mine"],
        cwd=folder,
        env=support.environment() | variables,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def find_servers(folder: Path) -> list[psutil.Process]:
    program = str(folder / "model" / "stage_server.py")
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if program in (process.info["cmdline"] or ()) and process.parent() != psutil.Process()
    ]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def test_stage_is_what_python_m_would_be_and_the_next_one_shares_the_server(folder: Path) -> None:
    first = start(folder, _REPORT, DVC_STAGE="one")
    assert first.communicate() == (f"True __main__ [] {folder} None 4\n", "")
    assert first.returncode == 7
    [server] = find_servers(folder)
    second = start(folder, "import model.stage_server\nprint('edited')", DVC_STAGE="two")
    assert second.communicate() == ("edited\n", "")
    assert second.returncode == 0
    assert find_servers(folder) == [server]


def test_other_variables_get_another_server(folder: Path) -> None:
    process = start(folder, _REPORT, OF_MINE="x", OPENBLAS_THREAD_TIMEOUT="20")
    assert process.communicate()[0] == f"True __main__ [] {folder} x 20\n"
    wait_until_gone(find_servers(folder))
    assert not list((folder / ".dvc" / "tmp").glob("*.sock"))


def test_killed_stage_takes_along_what_it_has_started(folder: Path) -> None:
    process = start(folder, _SLEEP)
    assert process.stdout
    assert process.stdout.readline() == "asleep\n"
    group = [
        sleeper.ppid()
        for sleeper in psutil.process_iter(["cmdline", "cwd"])
        if sleeper.info["cmdline"] == ["sleep", "300"] and sleeper.info["cwd"] == str(folder)
    ]
    stage = psutil.Process(*group)
    family = [stage, *stage.children()]
    [asker] = psutil.Process(process.pid).children()  # of uv, which forwards what it can
    asker.kill()
    process.communicate(timeout=60)
    wait_until_gone(family)


def test_terminal_shows_each_line_at_once(folder: Path) -> None:
    terminal, end = os.openpty()
    process = start(folder, _PROGRESS, end, PYTHONUNBUFFERED="")
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        assert screen.readline() == b"epoch 1\r\n"
        (folder / "seen").touch()
        process.communicate(timeout=60)
    os.close(end)
    assert process.returncode == 0, "the line came at the end of the stage"


def test_stage_that_a_signal_ends_ends_so(folder: Path) -> None:
    process = start(folder, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    process.communicate()
    assert process.returncode == 128 + signal.SIGKILL  # as uv says it


def test_without_a_server_a_stage_runs_by_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(folder / "model")
    (tmp_path / ".dvc").touch()  # no folder, so there is no place for a socket
    (folder / "model" / "mine.py").write_text(_REPORT)
    plain = subprocess.run(
        [*STAGE, "model.mine"],
        cwd=tmp_path, env=support.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.stdout == f"False __main__ [] {tmp_path} None 4\n"
    assert plain.returncode == 7


def test_without_news_of_its_end_a_stage_runs_by_itself(folder: Path) -> None:
    """An older Linux, or gVisor, does not tell of the end of a process."""
    (folder / "model" / "mine.py").write_text(_REPORT)
    python = Path(support.environment()["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    plain = subprocess.run(
        [python, "-c", _OLD_SYSTEM],
        cwd=folder, env=support.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.stdout == f"False __main__ [] {folder} None 4\n"
    assert plain.returncode == 7


def test_stage_gets_all_of_a_large_environment(folder: Path) -> None:
    variables = {f"LARGE_{number}": "x" * 100_000 for number in range(4)}
    process = start(folder, _REPORT, OF_MINE="large", **variables)
    assert process.communicate()[0] == f"True __main__ [] {folder} large 4\n"

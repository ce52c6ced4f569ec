"""Kill programs of the local stack at random moments of retrains and deploys, and see what is left.

`python -m benchmarks.kills --seed 1 --kills 60` brings up a stack of its own, delivers a model, and
then kills one process per run with SIGKILL: the flow run, a child of it, the worker, the Prefect
server, S3, the proxy, a model server, supervisord. After each run it checks that

- the live model answered, or was back within its cold start where it or its proxy was killed;
- no run has recorded two releases, and no commit has two versions;
- no branch of origin names bytes that the bucket lacks;
- no process is left but the stack's programs, the model server, and one more if the run crashed;
- no lock is left, and the run has ended.

It prints a table at its end. A piece at a time: `--minutes 7` stops after the kill at which so much
time is over, leaves the stack up, and `--resume` does those that `kills.jsonl` lacks; the moments
and victims are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.kill_scene import PROGRAMS, Scene, await_none
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from tasks.core.errors import SlipwayError, TransientError

VICTIMS = ("flow run", "child", *PROGRAMS, "model server", "supervisord")
FLOWS = ("retrain", "deploy")
_RUN_SECONDS = 900.0  # a killed helper of a compilation costs 300 s
_CRASHED_SECONDS = 30.0  # within which a crashed run starts again, on a busy machine
_PROXY_SECONDS = 15.0
_PAUSE = 0.05
_RECORD = "kills.jsonl"


@dataclass
class Kill:
    """One kill, and what was found after it.

    Attributes:
        after: Seconds between the start of the run and the kill.
        outage: Longest time without an answer of the live model, in seconds.
        state: Final state of the run.
    """

    number: int
    flow: str
    victim: str
    after: float = 0.0
    outage: float = 0.0
    failures: int = 0
    state: str = ""
    violations: list[str] = field(default_factory=list)


class Probe:
    """A client that asks the live model all the time, and notes for how long it had no answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._row: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.failures = 0
        self.outage = 0.0

    def _ask(self) -> None:
        since: float | None = None
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            example = client.get("/openapi.json").raise_for_status().json()
            body = example["paths"]["/predict"]["post"]["requestBody"]
            request = body["content"]["application/json"]["example"]
            while not self._stop.is_set():
                start = time.monotonic()
                try:
                    client.post("/predict", json=request).raise_for_status()
                    since = None
                except httpx.HTTPError:
                    self.failures += 1
                    since = since or start
                if since:
                    self.outage = max(self.outage, time.monotonic() - since)
                time.sleep(_PAUSE)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def wait_for_end(api: PrefectAPI, run: FlowRun) -> str:
    """Return the final state of a run, after the one restart that a crash brings about."""
    deadline, crashed_at = time.monotonic() + _RUN_SECONDS, 0.0
    while time.monotonic() < deadline:
        with contextlib.suppress(SlipwayError, httpx.HTTPError):
            run = api.read_run(run.id)
            if run.finished and run.state != "CRASHED":
                return run.state
            crashed_at = (crashed_at or time.monotonic()) if run.finished else 0.0
            if crashed_at and time.monotonic() - crashed_at > _CRASHED_SECONDS:
                return run.state
        time.sleep(0.3)
    return f"{run.state}, stuck"


def start(api: PrefectAPI, flow: str, rng: random.Random, ref: str) -> FlowRun:
    """Start a light retrain of a model that differs each time, or a release of the newest one."""
    if flow == "retrain":
        grid = {"train.grid.C": [round(rng.uniform(1, 20), 4)], "train.grid.gamma": ["scale"]}
        return api.create_run("retrain/retrain", {"overrides": {**grid, "train.cv": 2}})
    parameters = {"ref": ref, "force": True, "reason": "a program is killed meanwhile"}
    return api.create_run("deploy/local", parameters)


def fire(scene: Scene, api: PrefectAPI, kill: Kill, seed: int, usual: Mapping[str, float]) -> None:
    """Start a run, kill the victim at a random moment of it, and wait for the end."""
    rng = random.Random(f"{seed} {kill.number}")
    newest = scene.git(
        "for-each-ref", "refs/heads", "--sort=-committerdate", "--count=1", "--format=%(objectname)"
    )
    run = start(api, kill.flow, rng, newest)
    while not api.read_run(run.id).finished and not scene.engines():
        time.sleep(0.1)
    started = time.monotonic()
    time.sleep(rng.uniform(0.0, 0.9) * usual[kill.flow])
    while (pid := scene.pick(kill.victim, rng)) is None:
        if api.read_run(run.id).finished:
            break
        time.sleep(0.05)
    kill.after = time.monotonic() - started
    if pid is None:  # a flow without a child at that time: nothing was killed
        kill.victim += ", already gone"
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if kill.victim == "supervisord":
        scene.stack.up()
    kill.state = wait_for_end(api, run)


def judge(scene: Scene, kill: Kill, probe: Probe, cold_seconds: float) -> None:
    """Note what is wrong after a kill."""
    kill.failures, kill.outage = probe.failures, round(probe.outage, 2)
    allowed = {"model server": cold_seconds, "proxy": _PROXY_SECONDS}.get(kill.victim, 0.0)
    if kill.victim == "model server" and kill.outage > allowed:  # is the machine slower now?
        allowed = max(allowed, measure_cold_start(scene))
    if kill.outage > allowed:
        kill.violations.append(f"no answer for {kill.outage:.1f} s, {allowed:.1f} s are allowed")
    if "stuck" in kill.state:
        kill.violations.append(f"the run is {kill.state}")
    checks: tuple[tuple[Callable[[], Iterator[str]], float], ...] = (
        (scene.check_releases, 0.0),
        (scene.check_bytes, 0.0),
        (lambda: scene.check_rest(kill.state), 45.0),
    )
    for check, seconds in checks:
        kill.violations += await_none(lambda check=check: [*check()], seconds)  # type: ignore[misc]


def deliver(scene: Scene, api: PrefectAPI) -> dict[str, float]:
    """Bring a first model live; return how long each flow takes, and a cold start."""
    usual = {}
    for flow in FLOWS:
        run = start(api, flow, random.Random(flow), "main")
        started = time.monotonic()
        if (state := wait_for_end(api, run)) != "COMPLETED":
            raise TransientError(f"{flow} ended {state}: {api.read_run(run.id).message}")
        usual[flow] = time.monotonic() - started
    return {**usual, "cold start": measure_cold_start(scene)}


def measure_cold_start(scene: Scene) -> float:
    """Kill the model server; return how many seconds another such outage may take."""
    with Probe(scene.stack.model_url("local")) as probe:
        time.sleep(1)
        os.kill(scene.pick("model server", random.Random(0)) or 0, signal.SIGKILL)
        await_none(lambda: [] if probe.outage else ["not noticed yet"], 20)
        await_none(lambda: [] if _answers(scene.stack) else ["no answer"], 120)
    # Twice as long where other programs start at the same time.
    return 2 * probe.outage + 2


def _answers(stack: Stack) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{stack.model_url('local')}/readyz", trust_env=False).is_success
    return False


def print_table(kills: list[Kill]) -> int:
    """Print the kills by flow and victim; return the number of violations."""
    groups: dict[tuple[str, str], list[Kill]] = defaultdict(list)
    for kill in kills:
        groups[kill.flow, kill.victim].append(kill)
    print("| flow | killed | times | longest outage, s | failed requests | ended | violations |")
    print("|---|---|---|---|---|---|---|")
    for (flow, victim), group in sorted(groups.items()):
        states = ", ".join(f"{n} {s.lower()}" for s, n in Counter(k.state for k in group).items())
        outage, failures = max(k.outage for k in group), sum(k.failures for k in group)
        violations = sum(len(k.violations) for k in group)
        row = [flow, victim, len(group), outage, failures, states, violations]
        print("| " + " | ".join(map(str, row)) + " |")
    for kill in kills:
        for violation in kill.violations:
            print(f"violation at kill {kill.number}, {kill.victim} in {kill.flow}: {violation}")
    total = sum(len(kill.violations) for kill in kills)
    print(f"{len(kills)} kills, {total} violations")
    return total


def main() -> None:
    """Fire, judge, print the table; exit 1 after a violation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "slipway-kills")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    record = options.home / _RECORD
    if record.exists() and not options.resume:
        sys.exit(f"{record} is there: give --resume, or another --home")
    stack = Stack(options.home, usual_ports=False, deploy_on_push=False)
    stack.up(print)
    scene, lines = Scene(stack), record.read_text().splitlines() if record.exists() else []
    with stack.open_api() as api:
        if not lines:
            lines = [json.dumps(deliver(scene, api))]
            record.write_text(lines[0] + "\n")
        usual, kills = json.loads(lines[0]), [Kill(**json.loads(line)) for line in lines[1:]]
        print(f"usual seconds: {usual}")
        left = sorted({*range(options.kills)} - {kill.number for kill in kills})
        for number in left:
            if time.monotonic() > deadline:
                break
            rng = random.Random(f"{options.seed} of {number}")
            kill = Kill(number, rng.choice(FLOWS), VICTIMS[number % len(VICTIMS)])
            with Probe(stack.model_url("local")) as probe:
                fire(scene, api, kill, options.seed, usual)
                await_none(lambda: [] if _answers(stack) else ["no answer"], 120)
                time.sleep(1)
            judge(scene, kill, probe, usual["cold start"])
            kills.append(kill)
            with record.open("a") as file:
                file.write(json.dumps(asdict(kill)) + "\n")
            print(kill, flush=True)
    violations = print_table(kills)
    if len(kills) >= options.kills:
        stack.down(print)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()

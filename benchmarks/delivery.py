"""What a delivery costs beside the bare commands that do the same, and with many releases.

`make bench ONLY=delivery`, or `python -m benchmarks.delivery --passes 1 --home FOLDER`, which keeps
its stack's folder. Bare are: clone, `dvc checkout`, one `dvc repro`, commit, push with Git
and DVC; or clone, `dvc pull` of the model, start the server, `/readyz`.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.comparison import COLUMNS, Costs, collect, compare, make_bars, run_script
from benchmarks.meter import Cost, Meter, run_below_reaper
from benchmarks.report import Report, Table, describe_machine, format_report
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from tasks.core.errors import TransientError
from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT
from tasks.repository.git import IDENTITY, Git

_PASSES = 3
_RUN_SECONDS = 1800.0
_LOOK_SECONDS = 0.25  # the Prefect server pays for each look
_REST_SECONDS = 1.5  # until the process of a run has ended, and its logs are stored
_IDLE_SECONDS = 20.0
_RELEASES = 300
_FORCED = {"force": True, "reason": "measured"}
_CHANGE = "s/C: \\[0.1, .*, 10.0\\]/C: [0.1, %s, 10.0]/"

_RETRAIN = """
git clone --quiet "$ORIGIN" work && cd work
printf '[cache]\\n    dir = %s\\n' "$CACHE" > .dvc/config.local
dvc checkout --quiet
sed -i "$CHANGE" params.yaml
dvc repro --quiet evaluate
git add --all
git diff --cached --quiet || git commit --quiet --message=Train
git push --quiet --force origin HEAD:refs/bench/trained
dvc push --quiet
"""
_DEPLOY = """
git clone --quiet "$ORIGIN" work && cd work
printf '[cache]\\n    dir = %s/cache\\n' "$PWD" > .dvc/config.local
dvc pull --quiet --remote read model/wine
mkdir bundle && cp model/wine model/wine.* bundle/
"$PYTHON" -m serving --bundle bundle --host 127.0.0.1 --port "$PORT" 2> log & server=$!
until curl --silent --fail --noproxy '*' --output ready "http://127.0.0.1:$PORT/readyz"; do
  kill -0 $server
  sleep 0.1
done
kill $server
wait $server || true
"""
# What is measured, beside what, the bound of the ratio, and of which ratio.
_GOALS = (
    ("push to main, new version answers", "bare deploy", 1.4, "seconds"),
    ("deploy of what is live", "a run that does nothing", 1.2, "seconds"),
    ("retrain, nothing changed, first", "bare, nothing changed", 1.5, "seconds"),
    ("retrain, nothing changed, again", "bare, nothing changed", 1.5, "seconds"),
    ("retrain, one grid value changed", "bare, one grid value changed", 1.15, "seconds"),
    ("deploy at 300 releases", "deploy at a few releases", 1.1, "CPU"),
)


class Scene:
    """A stack with a model, and the bare commands beside it."""

    def __init__(self, stack: Stack, api: PrefectAPI) -> None:
        self._stack, self._api = stack, api

    def run(self, deployment: str, **parameters: Any) -> Cost:
        """Have the worker do a run, and return its cost up to its end."""
        meter, start = Meter(), datetime.now(UTC)
        run = self._api.create_run(deployment, parameters)
        deadline = time.monotonic() + _RUN_SECONDS
        while not run.finished and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            run = self._api.read_run(run.id)
        if not run.succeeded or run.end_time is None:
            raise TransientError(f"{deployment} ended {run.state}: {run.message}")
        time.sleep(_REST_SECONDS)
        return meter.stop((run.end_time - start).total_seconds())

    def bare(self, script: str, **variables: str) -> Cost:
        """Run bare commands in an empty folder, and return their cost."""
        storage = self._stack.storage
        python = next((self._stack.home / "environments").glob("runtime-*/bin/python"), "")
        environment = {
            **{key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ},
            **IDENTITY,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ORIGIN": str(self._stack.origin),
            "CACHE": str(self._stack.home / "dvc-cache"),
            "PYTHON": str(python),
            "PORT": str(find_free_port()),
            "DVC_NO_ANALYTICS": "1",
            "UV_NO_SYNC": "1",
            "UV_PROJECT_ENVIRONMENT": str(CHECKOUT / "model" / ".venv"),
            "AWS_ACCESS_KEY_ID": storage.read_write.key_id,
            "AWS_SECRET_ACCESS_KEY": storage.read_write.secret,
            "AWS_ENDPOINT_URL": storage.endpoint_url or "",
            "AWS_EC2_METADATA_DISABLED": "true",
            **variables,
        }
        with tempfile.TemporaryDirectory(dir=self._stack.home) as folder:
            return run_script(script, folder, environment)

    def rest(self) -> float:
        """Return the CPU seconds a second of the stack at rest."""
        time.sleep(_REST_SECONDS)
        meter = Meter()
        time.sleep(_IDLE_SECONDS)
        cost = meter.stop()
        return cost.cpu / cost.wall

    def is_prepared(self) -> bool:
        """Check that an earlier measurement has made the first model and the older releases."""
        return bool(self._list_refs("refs/bench/wine*"))

    def register_nothing(self, checkout: Path = CHECKOUT) -> None:
        """Register a deployment whose runs do nothing.

        Args:
            checkout: Whose flow it is.
        """
        flow = self._api.post("/flows/", {"name": "nothing"})
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(checkout)}}
        body = {
            "name": "nothing", "flow_id": flow["id"], "entrypoint": "benchmarks/nothing.py:nothing",
            "path": ".", "work_pool_name": "slipway", "pull_steps": [step],
        }  # fmt: skip
        self._api.post("/deployments/", body)

    def make_releases(self) -> None:
        """Give origin older versions and releases, out of sight but for the last of each.

        The numbers of what is released from now on follow those.
        """
        who = "Slipway <slipway@localhost> 1700000000 +0000"
        lines = []
        for n in range(2, _RELEASES):
            parent = f"from :{n - 1}" if n > 2 else "from refs/heads/main^0"
            lines += ["commit refs/bench/commit", f"mark :{n}", f"committer {who}", "data 3",
                      f"{n:03}", parent]  # fmt: skip
            for name in (f"wine@v0.0.{n}", f"wine#local#{n}"):
                lines += [f"tag {name}", f"from :{n}", f"tagger {who}", "data 8", "Released"]
        self._git("fast-import", "--quiet", text="\n".join([*lines, ""]))
        listed = self._list_refs("refs/tags")
        older = [f"refs/tags/wine{kind}{n}" for n in range(2, _RELEASES - 1)
                 for kind in ("@v0.0.", "#local#")]  # fmt: skip
        moves = []
        for name in older:
            hidden = name.replace("/tags/", "/bench/", 1)
            moves += [f"create {hidden} {listed[name]}", f"delete {name}"]
        self._update_refs(moves)

    @contextlib.contextmanager
    def many_releases(self) -> Iterator[None]:
        """Have the older versions and releases among the tags for a while."""
        hidden = self._list_refs("refs/bench/wine*")
        tags = {name.replace("/bench/", "/tags/", 1): tag for name, tag in hidden.items()}
        self._update_refs([f"create {name} {tag}" for name, tag in tags.items()])
        try:
            yield
        finally:
            self._update_refs([f"delete {name}" for name in tags])

    def _list_refs(self, pattern: str) -> dict[str, str]:
        form = "--format=%(refname) %(objectname)"
        listed = Git(self._stack.origin)("for-each-ref", form, pattern).splitlines()
        return dict(line.split(" ") for line in listed)

    def _update_refs(self, commands: list[str]) -> None:
        self._git("update-ref", "--stdin", text="\n".join([*commands, ""]))

    def _git(self, *arguments: str, text: str) -> None:
        command = ["git", "-C", str(self._stack.origin), *arguments]
        subprocess.run(command, input=text, text=True, check=True)

    def measure_pass(self, number: int) -> Iterator[tuple[str, Cost]]:
        """Do everything once; yield names and costs."""
        costs = [
            round(1.1 + 0.1 * number + 0.01 * part + time.time() % 0.009, 6) for part in (1, 2)
        ]
        changed = {"overrides": {"train.grid.C": [0.1, costs[0], 10.0]}}
        yield "retrain, one grid value changed", self.run("retrain/retrain", **changed)
        yield "bare, one grid value changed", self.bare(_RETRAIN, CHANGE=_CHANGE % costs[1])
        yield "push to main, new version answers", self.run("deploy/local")
        yield "bare deploy", self.bare(_DEPLOY)
        yield "deploy of what is live", self.run("deploy/local")
        yield "a run that does nothing", self.run("nothing/nothing")
        yield "retrain, nothing changed, first", self.run("retrain/retrain")
        yield "bare, nothing changed", self.bare(_RETRAIN, CHANGE="")
        yield "retrain, nothing changed, again", self.run("retrain/retrain")
        yield "deploy at a few releases", self.run("deploy/local", **_FORCED)
        with self.many_releases():
            yield "deploy at 300 releases", self.run("deploy/local", **_FORCED)


def measure(home: Path | None = None, passes: int = _PASSES) -> Report:
    """Measure deliveries on a stack of their own.

    Args:
        home: Folder of the stack, which stays; None for one that goes.
        passes: How often each thing is measured.
    """
    return run_below_reaper(partial(_measure, home, passes))


def _measure(home: Path | None, passes: int) -> Report:
    os.environ["SLIPWAY_LOCAL_SOAK_SECONDS"] = "0"  # it is left out of both sides
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        local = Stack(folder, usual_ports=False, deploy_on_push=False)
        local.down()  # what another process has started is not below the reaper
        stack.callback(local.down, print)
        local.up(print)
        api = stack.enter_context(local.open_api())
        scene = Scene(local, api)
        scene.register_nothing()
        if not scene.is_prepared():
            scene.run("retrain/retrain")
            scene.run("deploy/local")
            scene.make_releases()
        costs: dict[str, list[Cost]] = defaultdict(list)
        for number in range(passes):
            collect(costs, scene.measure_pass(number))
        idle = scene.rest()  # at the end: a server that has just started is busy
    less = {name: [cost.less(idle) for cost in several] for name, several in costs.items()}
    return _make_report(less, idle)


def _make_report(costs: Costs, idle: float) -> Report:
    compared = [(compare(costs, name, bare), bound, kind) for name, bare, bound, kind in _GOALS]
    return Report(
        method=[
            "Slipway beside the bare commands, in turn, on one stack; ratios pair by pair: median"
            " (lowest-highest).",
            f"CPU of all processes, servers too, less what they use at rest ({idle:.3f} a second);"
            " soak_seconds is 0.",
        ],
        tables=[Table("Deliveries", COLUMNS, [comparison.row for comparison, *_ in compared])],
        goals=[comparison.make_goal(bound, kind) for comparison, bound, kind in compared],
        bars=[make_bars(costs)],
    )


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=_PASSES)
    parser.add_argument("--home", type=Path, help="folder of a stack that is kept")
    options = parser.parse_args()
    report = measure(options.home, options.passes)
    print(format_report("delivery", report, describe_machine()))


if __name__ == "__main__":
    main()

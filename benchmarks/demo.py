"""What `make demo` costs beside set-up and the bare commands, and once more with nothing changed.

`make bench ONLY=demo`, or `python -m benchmarks.demo --passes 1`. It takes the last commit of this
checkout. Packages come from the cache of uv; what it lacks is fetched by the first set-up, which is
not counted. The demo's stack is stopped and removed after each pass.
"""

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.comparison import COLUMNS, Costs, collect, compare, make_bars, run_script
from benchmarks.delivery import Scene
from benchmarks.meter import Cost, run_below_reaper
from benchmarks.report import Report, Table, describe_machine, format_report
from deployments.local.stack import Stack
from tasks.core.free_port import find_free_port
from tasks.core.settings import CHECKOUT
from tasks.repository.git import IDENTITY

_PASSES = 3
_CLONE = 'git clone --quiet "$SOURCE" work && cd work'
_SETUP = f"{_CLONE}; make --silent setup"
_BARE = f"""
{_SETUP}
PATH="$PWD/.venv/bin:$PATH"
printf '[remote "read-write"]\\n    url = %s/bucket\\n' "$PWD" > .dvc/config.local
dvc repro --quiet evaluate
git add --all
git commit --quiet --message=Train
dvc push --quiet --remote read-write
uv sync --quiet --frozen --compile-bytecode --project serving
pins=$(python -c 'import json
for package in json.load(open("model/wine.runtime.json"))["packages"].items():
    print(*package, sep="==")')
uv pip install --quiet --compile-bytecode --python "$UV_PROJECT_ENVIRONMENT" $pins
mkdir bundle && cp model/wine model/wine.* bundle/
"$UV_PROJECT_ENVIRONMENT/bin/python" -m serving --bundle bundle --port "$PORT" 2> log & server=$!
until curl --silent --fail --noproxy '*' --output ready "http://127.0.0.1:$PORT/readyz"; do
  kill -0 $server
  sleep 0.1
done
kill $server
wait $server || true
"""
# Beginnings of variables that would change what is measured. Certificates and proxies stay.
_OWN = ("AWS_", "PREFECT_", "PYTHON", "SLIPWAY_", "UV_", "VIRTUAL_ENV")
# What is measured, beside what, and the bound of the ratio.
_GOALS = (
    ("first make demo", "set-up and bare commands", 1.6),
    ("make demo, nothing changed", "two runs that do nothing", 1.5),
)


def run(script: str, folder: Path) -> Cost:
    """Run shell commands as a newcomer would, and return their cost."""
    environment = {
        **{key: os.environ[key] for key in os.environ if not key.startswith(_OWN)},
        **IDENTITY,
        "HOME": str(folder),
        "PORT": str(find_free_port()),
        "SOURCE": str(CHECKOUT),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
        "UV_PROJECT_ENVIRONMENT": str(folder / "runtime"),  # make setup leaves it aside
        "DVC_NO_ANALYTICS": "1",
    }
    return run_script(script, folder, environment)


def measure_pass(folder: Path) -> Iterator[tuple[str, Cost]]:
    """Do everything once; yield names and costs."""
    for name in ("bare", "demo"):
        (folder / name).mkdir()
    yield "set-up and bare commands", run(_BARE, folder / "bare")
    clone = folder / "demo" / "work"
    try:
        yield "first make demo", run(f"{_CLONE}; make --silent demo", folder / "demo")
        again = run("cd work; make --silent demo", folder / "demo")
        local = Stack(clone / ".slipway", clone)
        with local.open_api() as api:
            scene = Scene(local, api)
            idle = scene.rest()
            yield "make demo, nothing changed", again.less(idle)
            scene.register_nothing(clone)
            first, second = (scene.run("nothing/nothing").less(idle) for _ in range(2))
        both = Cost(first.cpu + second.cpu, first.wall + second.wall, 0)
        yield "two runs that do nothing", both
    finally:
        run("[ ! -d work ] || make --silent --directory=work down", folder / "demo")


def measure(passes: int = _PASSES) -> Report:
    """Measure demos on stacks of their own.

    Args:
        passes: How often each thing is measured.
    """
    return run_below_reaper(partial(_measure, passes))


def _measure(passes: int) -> Report:
    costs: dict[str, list[Cost]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        run(_SETUP, Path(folder))
    for _ in range(passes):
        with tempfile.TemporaryDirectory() as folder:
            collect(costs, measure_pass(Path(folder)))
    return _make_report(costs)


def _make_report(costs: Costs) -> Report:
    compared = [(compare(costs, name, beside), bound) for name, beside, bound in _GOALS]
    return Report(
        method=[
            "A clone, make demo in it, and again; beside a clone, make setup, dvc repro, commit,"
            " dvc push, an environment for the server, and its start until /readyz. Ratios pair by"
            " pair: median (lowest-highest).",
            "CPU of all processes; of the second demo and the runs beside it less what the stack"
            " uses at rest.",
        ],
        tables=[Table("Demos", COLUMNS, [comparison.row for comparison, _ in compared])],
        goals=[
            comparison.make_goal(bound, kind)
            for comparison, bound in compared
            for kind in comparison.ratios
        ],
        bars=[make_bars(costs)],
    )


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=_PASSES)
    options = parser.parse_args()
    print(format_report("demo", measure(options.passes), describe_machine()))


if __name__ == "__main__":
    main()

"""What it costs a CI job to ask Prefect for a run: the ways to do it, side by side in one run.

`PREFECT_API_URL=... PREFECT_API_AUTH_STRING=... python -m benchmarks.trigger`, with the local stack
up: `prefect.toml` has both. Each way starts as a
fresh CI machine does, and then with everything that is downloaded in uv's cache; the question is
the same for all of them, one deployment by its name, so that what differs is how one gets to ask.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENT = "deploy/local"
_WARM = 3
_CLIENT = f"""
import asyncio
from prefect.client.orchestration import get_client

async def ask():
    async with get_client() as client:
        print((await client.read_deployment_by_name({DEPLOYMENT!r})).id)

asyncio.run(ask())
"""
_OURS = f"""
from deployments.prefect_api.client import PrefectAPI
with PrefectAPI.from_environment() as api:
    print(api.find_deployment({DEPLOYMENT!r}).id)
"""

# The credential is no argument: everybody can read those.
_CURL = """printf 'user = "%s"' "$PREFECT_API_AUTH_STRING" |
curl --silent --fail --noproxy '*' --config - "$0"
"""


def ways() -> dict[str, list[str]]:
    """Return the argv of each way."""
    prefect = version("prefect")
    # What uv resolves without a lock is broken, see pyproject.toml.
    pins = ["--with", "fastapi<0.151", "--with", "sqlalchemy<2.1"]
    group = ["uv", "run", "--quiet", "--frozen", "--only-group", "trigger", "python"]
    client = ["uv", "run", "--quiet", "--no-project", "--with", f"prefect-client=={prefect}"]
    url = f"{os.environ['PREFECT_API_URL']}/deployments/name/{DEPLOYMENT}"
    return {
        "curl": ["sh", "-c", _CURL, url],
        "uv run, httpx from uv.lock": [*group, "-c", _OURS],
        "prefect-client": [*client, "python", "-c", _CLIENT],
        "uvx prefect": ["uvx", "--quiet", *pins, f"prefect@{prefect}", "deployment", "inspect",
                        DEPLOYMENT],
    }  # fmt: skip


def seconds(argv: Sequence[str], cache: Path, environment: Path) -> float:
    """Run one way in an environment that is not there yet."""
    shutil.rmtree(environment, ignore_errors=True)
    variables = {
        **os.environ,
        "UV_CACHE_DIR": str(cache),
        "UV_PROJECT_ENVIRONMENT": str(environment),
        "PREFECT_HOME": str(cache.parent / "home"),
        "PYTHONPATH": str(ROOT),
    }
    started = time.perf_counter()
    done = subprocess.run(
        argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv[:6])} ...: {done.stderr[-800:]}")
    return time.perf_counter() - started


def megabytes(folder: Path) -> float:
    """Return the size of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Print the table."""
    print("| way | nothing there, s | in uv's cache, s | times curl | cache, MB |")
    print("|---|---|---|---|---|")
    first = 0.0
    for name, argv in ways().items():
        with tempfile.TemporaryDirectory() as folder:
            cache, environment = Path(folder) / "cache", Path(folder) / "environment"
            cold = seconds(argv, cache, environment)
            warm = statistics.median(seconds(argv, cache, environment) for _ in range(_WARM))
            first = first or warm
            size = megabytes(cache)
        print(f"| {name} | {cold:.2f} | {warm:.2f} | {warm / first:.0f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()

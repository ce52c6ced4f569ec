"""The stack that `benchmarks.kills` fires at: its processes, and what is wrong after a kill."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psutil

from deployments.local import adoption, processes
from deployments.local.prefect_programs import SERVER, WORKER
from deployments.local.stack import Stack
from tasks.bucket.objects import StoredObject, outputs_of
from tasks.repository.workspace import Workspace

PROGRAMS = {"worker": WORKER, "server": SERVER, "S3": "object-store", "proxy": "gateway"}


class Scene:
    """The stack under fire."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def pick(self, victim: str, rng: random.Random) -> int | None:
        """Return the process to kill; None if there is none now."""
        if victim == "supervisord":
            return int((self.stack.home / "supervisor" / "supervisord.pid").read_text())
        running = adoption.running_programs(self.stack.logs)
        if victim in PROGRAMS:
            return running.get(PROGRAMS[victim])
        if victim == "model server":
            candidates = [running[name] for name in self.models()]
        else:
            candidates = [process.pid for process in self.engines()]
            if victim == "child":
                forks = {process.pid for process in self.members() if adoption.is_forked(process)}
                families = [_descendants(parent) for parent in {*candidates, *forks}]
                candidates = [*set().union(*families).difference(forks)]
        return rng.choice(sorted(candidates)) if candidates else None

    def engines(self) -> list[psutil.Process]:
        """Return the processes that execute flow runs."""
        return [process for process in self.members() if adoption.is_flow_run(process)]

    def members(self) -> list[psutil.Process]:
        """Return all processes of the stack."""
        return processes.of_stack(self.stack.credentials.stack)

    def models(self) -> list[str]:
        """Return the names of the model servers that run."""
        running = adoption.running_programs(self.stack.logs)
        return sorted(name for name in running if name.startswith("model-local-"))

    def orphans(self) -> list[str]:
        """Return the commands of processes that no program of the stack has started."""
        supervisord = int((self.stack.home / "supervisor" / "supervisord.pid").read_text())
        roots = {supervisord, *adoption.running_programs(self.stack.logs).values()}
        family = roots.union(*(_descendants(root) for root in roots))
        left = []
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                if process.pid not in family and not adoption.is_forked(process):
                    left.append(" ".join(process.cmdline())[:120])
        return left

    def git(self, *arguments: str) -> str:
        """Return the output of a command of Git in origin."""
        command = ["git", "-C", str(self.stack.origin), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def check_releases(self) -> Iterator[str]:
        """Find runs with two releases, and commits with two versions."""
        lines = self.git(
            "for-each-ref",
            "refs/tags",
            "--format=%(refname:short)%09%(*objectname)%09%(contents)%00",
        )
        runs: Counter[str] = Counter()
        commits: Counter[str] = Counter()
        for entry in lines.split("\0"):
            name, _, rest = entry.strip().partition("\t")
            commit, _, message = rest.partition("\t")
            if "#" in name:
                runs.update(line for line in message.splitlines() if line.startswith("Flow-Run: "))
            elif "@" in name:
                commits[commit] += 1
        yield from (f"{run} has {n} releases" for run, n in runs.items() if n > 1)
        yield from (f"{commit[:7]} has {n} versions" for commit, n in commits.items() if n > 1)

    def check_bytes(self) -> Iterator[str]:
        """Find objects that a branch names and the bucket lacks."""
        storage = self.stack.storage
        client = boto3.client(
            "s3", endpoint_url=self.stack.s3_endpoint_url, region_name="us-east-1",
            aws_access_key_id=storage.read.key_id, aws_secret_access_key=storage.read.secret,
        )  # fmt: skip
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=storage.bucket)
        keys = {item["Key"] for page in pages for item in page.get("Contents", [])}

        def lacks(item: StoredObject) -> bool:
            return not any(key.endswith(item.key) for key in keys)

        for branch in self.git("for-each-ref", "refs/heads", "--format=%(refname:short)").split():
            with tempfile.TemporaryDirectory() as folder:
                self.git("worktree", "add", "--quiet", "--detach", f"{folder}/tree", branch)
                try:
                    tree = Workspace(Path(folder) / "tree", branch, branch)
                    missing = [item for item in asyncio.run(outputs_of(tree)) if lacks(item)]
                finally:
                    self.git("worktree", "remove", "--force", f"{folder}/tree")
            yield from (f"{branch} names {item.path}, not in the bucket" for item in missing)

    def check_rest(self, state: str) -> Iterator[str]:
        """Find processes and locks that nobody needs."""
        allowed = 1 if state in {"COMPLETED", "FAILED"} else 2
        if len(models := self.models()) not in range(1, allowed + 1):
            yield f"{len(models)} model servers after {state}"
        yield from (f"orphan: {command}" for command in self.orphans())
        yield from (f"lock: {file.name}" for file in (self.stack.home / "locks").glob("*.json"))


def _descendants(pid: int) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return set()


def await_none(find: Callable[[], list[str]], seconds: float) -> list[str]:
    """Return what is still wrong after so much time: what has just ended needs a moment."""
    deadline = time.monotonic() + seconds
    while (wrong := find()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return wrong

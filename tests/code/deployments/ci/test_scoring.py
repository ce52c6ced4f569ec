"""The files of both models, where a check has no credentials."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from deployments.ci.scoring import Cache
from tasks.repository.workspace import Workspace
from tasks.training.served import NotComparable
from tests.commits import commit_all


async def test_files_are_those_that_the_commit_names(tmp_path: Path) -> None:
    content = b"the model"
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    stages = {"save": {"outs": [{"path": "model/wine", "md5": md5}]}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": stages}))
    (tmp_path / "params.yaml").write_text("name: wine\n")
    (tmp_path / ".gitignore").write_text("/model/wine\n/.dvc/cache\n")
    workspace = Workspace(tmp_path, commit_all(tmp_path, "A model"), "main")
    cache = tmp_path / ".dvc" / "cache"
    stored = cache / "files" / "md5" / md5[:2] / md5[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wine").write_bytes(b"another")
    assert await Cache(cache).find(workspace, "model/wine") == stored
    stored.write_bytes(b"corrupt")
    with pytest.raises(NotComparable, match=r"model/wine of wine@\w+ is not in this job's cache"):
        await Cache(cache).find(workspace, "model/wine")

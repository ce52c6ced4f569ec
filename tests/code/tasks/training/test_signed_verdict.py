"""A signed verdict on the same pair is taken as it is; any other pair is judged anew."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tasks.core.settings import Settings
from tasks.package.package import read_metrics
from tasks.package.signature import write_statement
from tasks.repository.git import WORKER
from tasks.repository.versions import Version
from tasks.repository.workspace import Workspace
from tasks.training.evidence import Comparison
from tasks.training.findings import Finding
from tasks.training.gate import Verdict
from tasks.training.rules import Rules, TrustedRules
from tasks.training.signing import find_differences, read_key
from tasks.training.verdict import judge_commit
from tests.code.light_model import write_light_model
from tests.commits import commit_all

_RULES = Rules(metric="accuracy", minimum=0.5, tolerance=0.01)


def _commit(folder: Path, accuracy: float, split: str) -> Workspace:
    if not (folder / "model").exists():
        write_light_model(folder / "model", "wine")
    runtime = json.loads((folder / "model" / "wine.runtime.json").read_text())
    out = {"path": "model/wine", "md5": runtime["artifacts"]["model/wine"]["md5"]}
    stages = {
        "save": {"outs": [out]},
        "evaluate": {"deps": [{"path": "data/test.csv", "md5": split}]},
    }
    for path, value in {
        "params.yaml": {"name": "wine", "data": {"target": "target"}},
        "dvc.lock": {"stages": stages},
        "reports/metrics.json": {"accuracy": accuracy},
        "serving/app.py": None,
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(value))
    (folder / ".gitignore").write_text("/model/wine\n")
    return Workspace(folder, commit_all(folder, f"accuracy {accuracy}"), "main")


async def _sign(workspace: Workspace, verdict: Verdict | None) -> Workspace:
    key = read_key(Settings().signing_key_file or Path())
    await write_statement(workspace, key, asdict(verdict) if verdict else None)
    return Workspace(workspace.path, commit_all(workspace.path, "Sign wine"), "main")


def _verdict(champion: str, rules: Rules, gain: float = 0.1) -> Verdict:
    comparison = Comparison(gain, (gain - 0.01, gain + 0.01), 100, 20, values=(0.9 + gain, 0.9))
    return Verdict(
        True,
        ("as it was signed",),
        findings=(Finding("accuracy", "no worse", 0.01, comparison),),
        pair={
            "champion": champion,
            "environment": "local",
            "rules": rules.describe(),
            "needs_scores": False,
        },
    )


def _trusted(workspace: Workspace, rules: Rules = _RULES, name: str = "local") -> TrustedRules:
    return TrustedRules(name, rules, workspace.path / "params.yaml")


async def test_verdict_counts_for_the_pair_that_it_is_on(tmp_path: Path) -> None:
    champion = Version("v0.0.1", _commit(tmp_path, 0.95, "a").commit)
    candidate = _commit(tmp_path, 0.3, "b")
    signed = await _sign(candidate, _verdict(champion.commit, _RULES))
    metrics = read_metrics(signed)
    verdict = await judge_commit(signed, metrics, champion, _trusted(signed))
    assert verdict == _verdict(champion.commit, _RULES)

    stricter = Rules(metric="accuracy", minimum=0.6, tolerance=0.01)
    other = Version("v0.0.2", candidate.commit)
    scored = replace(_trusted(signed), is_required=True)
    for version, trusted in (
        (other, _trusted(signed)),
        (champion, scored),  # where stated values do not count, the models have to be asked
        (champion, _trusted(signed, stricter)),
        (champion, _trusted(signed, name="production")),
        (None, _trusted(signed)),
    ):
        again = await judge_commit(signed, metrics, version, trusted)
        assert not again.passed, "0.3 misses the minimum"


async def test_verdict_that_a_person_signed_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People sign what they have made; that a gate was asked, a worker alone says."""
    champion = Version("v0.0.1", _commit(tmp_path, 0.95, "a").commit)
    signed = await _sign(_commit(tmp_path, 0.3, "b"), _verdict(champion.commit, _RULES))
    own = Settings().allowed_signers.read_text()
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "allowed_signers").write_text(own.replace(WORKER, "somebody@example.com"))
    monkeypatch.setenv("SLIPWAY_TRUST", str(trust))
    assert await find_differences(signed) == {}, "the signature itself is valid"
    verdict = await judge_commit(signed, read_metrics(signed), champion, _trusted(signed))
    assert not verdict.passed


@pytest.mark.parametrize("path", ["model/wine.provenance.json", "reports/metrics.json"])
async def test_verdict_that_no_signature_covers_counts_for_nothing(
    tmp_path: Path, path: str
) -> None:
    champion = Version("v0.0.1", _commit(tmp_path, 0.95, "a").commit)
    signed = await _sign(_commit(tmp_path, 0.3, "b"), _verdict(champion.commit, _RULES))
    file = signed.path / path
    file.write_text(file.read_text() + " ")
    changed = Workspace(tmp_path, commit_all(tmp_path, "Change"), "main")
    verdict = await judge_commit(changed, read_metrics(changed), champion, _trusted(changed))
    assert not verdict.passed

"""Attacks on the policy of an environment, through real commits, tags and branches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import CandidateRejected, ConfigurationError
from tasks.package.package import Package, read_metrics
from tasks.platforms.base.settings import Environment
from tasks.platforms.base.target import Live
from tasks.platforms.catalogue import gate_rules
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.release.approval import approval_not_needed
from tasks.release.policy import require_reason, was_live
from tasks.release.steps import ask_gate, check_policy
from tasks.repository.git import Git
from tasks.repository.release_history import champion_for, read_history, tag_message
from tasks.repository.versions import Version
from tasks.repository.workspace import Workspace
from tasks.training.dossier import Evidence
from tasks.training.evidence import Comparison
from tasks.training.findings import Finding
from tasks.training.gate import Verdict
from tasks.training.rules import Rules
from tasks.training.trials import Pair
from tasks.training.verdict import judge_commit, require_pass

_GOOD, _BAD, _WORSE_THAN_LIVE = 0.97, 0.5, 0.92


_LOCK = "stages: {{evaluate: {{deps: [{{path: data/test.csv, md5: {split}}}]}}}}"


def _environment(**keys: Any) -> Environment:
    return ProcessEnvironment(name="production", target="process", **keys)


class Origin:
    """A repository with branches and releases, and a clone of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.git = Git(folder / "origin")
        (folder / "origin").mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@localhost")
        self._tags = self._clones = 0

    def commit(self, branch: str, metric: float | None, minimum: float = 0.9) -> str:
        """Commit a model with its metric, and the rules that it would like."""
        self.git("checkout", "--quiet", "-B", branch)
        wrong = round(100 * (1 - (metric or 0)))  # of each of two classes with 100 rows
        answers = ["a,b", "b,a"] * wrong + ["a,a", "b,b"] * (100 - wrong)
        rules = f"gate: {{metric: f1_macro, minimum: {minimum}, tolerance: 0.01}}"
        self._write(
            {
                "reports/metrics.json": json.dumps({"f1_macro": metric} if metric else {}),
                "reports/predictions.csv": "\n".join(["actual,predicted", *answers]),
                "dvc.lock": _LOCK.format(split="a0"),
                "params.yaml": f"name: wine\n{rules}\n",
            }
        )
        return self._commit(f"{branch} {metric}")

    def commit_answers(
        self, errors: Sequence[float], split: str = "a0", verdict: Verdict | None = None
    ) -> str:
        """Commit to main a model with its errors on the test rows of a split."""
        self.git("checkout", "--quiet", "-B", "main")
        rmse = (sum(error * error for error in errors) / len(errors)) ** 0.5
        rows = [f"{row},{row + error}" for row, error in enumerate(errors)]
        self._write(
            {
                "reports/metrics.json": json.dumps({"rmse": rmse}),
                "reports/predictions.csv": "\n".join(["actual,predicted", *rows]),
                "dvc.lock": _LOCK.format(split=split),
                "model/wine.provenance.json": json.dumps(
                    {"gate": asdict(verdict) if verdict else None}
                ),
                "params.yaml": "name: wine\ngate: {metric: rmse, maximum: 2, tolerance: 0.01}\n",
            }
        )
        return self._commit(f"rmse {rmse}")

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self._folder / "origin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def _commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def release(self, commit: str, environment: str, *, rollback: bool = False) -> None:
        """Record a release, as a deploy does at its end."""
        self._tags += 1
        if not self.git("tag", "--list", "--points-at", commit, "wine@*"):
            self.git("tag", "--annotate", f"wine@v0.0.{self._tags}", commit, "--message=Registered")
        message = tag_message(before="-", approval="", run="", rollback=rollback)
        tag = f"wine#{environment}#{self._tags}"
        self.git("tag", "--annotate", tag, commit, f"--message={message}")

    def check_out(self, commit: str) -> Workspace:
        """Clone at a commit, as a flow does."""
        self._clones += 1
        path = self._folder / f"clone-{self._clones}"
        self.git("clone", "--quiet", str(self._folder / "origin"), str(path))
        Git(path)("checkout", "--quiet", "--detach", commit)
        return Workspace(path, commit, commit)

    async def check(
        self,
        commit: str,
        environment: Environment,
        live: Live | None = None,
        *,
        replace: bool = False,
    ) -> Verdict:
        """Ask the policy, as a deploy does."""
        workspace = self.check_out(commit)
        package = Package(workspace, workspace.model, commit, "", "", 0, "3.11", {}, {}, "")
        history = await read_history(workspace, environment.name)
        await check_policy.fn(package, environment, live, replace=replace)
        metrics = read_metrics(workspace)
        verdict: Verdict = await ask_gate.fn(package, metrics, environment, history, live)
        return verdict


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Origin:
    """A repository whose models have no bytes: here their stored answers stand for them."""

    async def believe(_: Pair, _rules: Rules, evidence: Evidence) -> Evidence:
        return replace(evidence, needs_scores=False)

    monkeypatch.setattr("tasks.training.verdict.try_models", believe)
    return Origin(tmp_path)


@pytest.fixture
def live(origin: Origin) -> str:
    """A good model on main, live in production."""
    commit = origin.commit("main", _GOOD)
    origin.release(commit, "production")
    return commit


async def test_commit_outside_the_allowed_branches_is_refused(origin: Origin, live: str) -> None:
    commit = origin.commit("candidate/main", _GOOD)
    origin.git("tag", "main", commit)  # a name decides nothing
    with pytest.raises(CandidateRejected) as refused:
        await origin.check(commit, _environment())
    assert refused.value.what == (
        f"wine@{commit[:7]} is on no branch from which production may be deployed (main);"
        " origin has it on: candidate/main"
    )
    assert refused.value.next_step.startswith("merge it into main")
    assert (await origin.check(commit, _environment(branches=["candidate/*"]))).passed
    assert (await origin.check(commit, _environment(branches=["*"]))).passed
    origin.git("tag", "--delete", "main")
    origin.git("branch", "--force", "main", commit)
    assert (await origin.check(live, _environment())).passed, "an ancestor of main is on main"


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (_BAD, "f1_macro 0.5000 misses the minimum 0.9"),
        (_WORSE_THAN_LIVE, "is worse, not accepted"),
        (None, "gate.metric = 'f1_macro' is not among the metrics"),
    ],
)
async def test_commit_that_lowers_the_rules_is_judged_by_those_of_the_live_one(
    origin: Origin, live: str, metric: float | None, problem: str
) -> None:
    merged_by_hand = origin.commit("main", metric, minimum=0.0)
    with pytest.raises(CandidateRejected, match=r"did not pass the gate of production: NOT") as no:
        await origin.check(merged_by_hand, _environment())
    assert problem in no.value.what
    assert not (await origin.check(merged_by_hand, _environment(gate="advised"))).passed


async def test_push_into_a_branch_asks_the_same_gate(origin: Origin, live: str) -> None:
    trusted = gate_rules(_environment())
    good = origin.check_out(origin.commit("good", _GOOD))
    worse = origin.check_out(origin.commit("worse", _BAD, minimum=0.0))
    verdicts = [
        await judge_commit(model, read_metrics(model), Version("v0.0.1", live), trusted)
        for model in (good, worse)
    ]
    require_pass(good, verdicts[0], "main")
    with pytest.raises(
        CandidateRejected, match=f"the gate rejects {worse.label}: NOT passed"
    ) as no:
        require_pass(worse, verdicts[1], "main")
    assert no.value.state == "nothing was uploaded; main is unchanged"


async def test_rules_of_the_environments_file_win(origin: Origin, live: str) -> None:
    commit = origin.commit("main", _BAD, minimum=0.0)
    rules = {"metric": "f1_macro", "minimum": 0.4, "tolerance": 0.6}
    verdict = await origin.check(commit, _environment(gate_rules=rules))
    assert (verdict.passed, verdict.source) == (True, "`gate_rules` of production")


async def test_first_release_is_judged_by_the_checkout_that_deploys(origin: Origin) -> None:
    commit = origin.commit("main", _BAD, minimum=0.0)
    with pytest.raises(CandidateRejected, match=r"params\.yaml of the checkout that deploys"):
        await origin.check(commit, _environment())


async def test_live_version_released_again_is_not_compared_with_itself(
    origin: Origin, live: str
) -> None:
    worse = origin.commit("main", _WORSE_THAN_LIVE, minimum=0.0)
    origin.release(worse, "production")
    with pytest.raises(CandidateRejected, match=r"the champion's 0\.9700"):
        await origin.check(worse, _environment())
    assert (await origin.check(live, _environment())).passed, "which was judged by other rules"


async def test_champion_stays_one_though_its_tags_are_gone(origin: Origin, live: str) -> None:
    release = Live("r", "wine", live, "", "", "v0.0.1", healthy=True)
    for tag in origin.git("tag").split():
        origin.git("tag", "--delete", tag)
    worse = origin.commit("main", _WORSE_THAN_LIVE)
    with pytest.raises(CandidateRejected, match=r"the champion's 0\.9700 is worse"):
        await origin.check(worse, _environment(), release)
    elsewhere = Live("r", "wine", "0" * 40, "", "", None, healthy=True)
    with pytest.raises(CandidateRejected, match=r"cannot be compared with the champion's"):
        await origin.check(worse, _environment(), elsewhere)


async def test_small_steps_add_up_where_each_release_has_data_of_its_own(origin: Origin) -> None:
    """No later commit has the answers by which two such releases were compared."""
    errors = [1.0 if row % 2 else -1.0 for row in range(200)]
    first = origin.commit_answers(errors, "a0")
    lost = Comparison(-0.008, (-0.009, -0.007), 200, 100, values=(1.008, 1.0))
    verdict = Verdict(
        True, (), findings=(Finding("rmse", "no worse", 0.01, lost),), pair={"champion": first}
    )
    second = origin.commit_answers([error * 1.008 for error in errors], "b0", verdict)
    origin.release(first, "production")
    origin.release(second, "production")
    third = origin.commit_answers([error * 1.012 for error in errors], "b0")
    with pytest.raises(CandidateRejected, match=r"have lost 0\.0120, which is more than the tol"):
        await origin.check(third, _environment())


async def test_small_steps_down_do_not_pass_one_by_one(origin: Origin) -> None:
    """Each loses 0.004 of 0.01, which the interval proves: a loss, but no worse than accepted."""
    errors = [1.0 if row % 2 else -1.0 for row in range(200)]
    steps = [origin.commit_answers([error * (1 + 0.004 * n) for error in errors]) for n in range(4)]
    production = _environment()
    origin.release(steps[0], "production")
    for step in steps[1:3]:
        verdict = await origin.check(step, production)
        assert "is no worse, accepted (tolerance 0.01) on the same 200 rows" in verdict.text
        origin.release(step, "production")
    with pytest.raises(CandidateRejected, match=r"have lost 0\.0120, which is more than the tol"):
        await origin.check(steps[3], production)
    better = origin.commit_answers([error * 0.98 for error in errors])
    assert "is better, accepted" in (await origin.check(better, production)).text
    origin.release(better, "production")
    slightly_worse = origin.commit_answers([error * 0.984 for error in errors])
    assert (await origin.check(slightly_worse, production)).passed, "the sum began anew"


async def test_version_is_promoted_only_from_where_it_stayed_live(
    origin: Origin, live: str
) -> None:
    staged = _environment(promote_from="staging")
    with pytest.raises(CandidateRejected, match="none of the newest 0 releases of staging"):
        await origin.check(live, staged)
    origin.release(live, "staging")
    assert (await origin.check(live, staged)).passed
    newer = origin.commit("main", _GOOD)
    with pytest.raises(CandidateRejected, match=r"takes only what was live.*there") as refused:
        await origin.check(newer, staged)
    assert refused.value.next_step.endswith(f"slipway deploy staging {newer}")
    origin.release(newer, "staging")
    assert (await origin.check(newer, staged)).passed
    origin.release(live, "staging", rollback=True)
    with pytest.raises(CandidateRejected, match="did not stay live in staging: it was rolled back"):
        await origin.check(newer, staged)


async def test_rollback_needs_no_policy_for_what_was_live(origin: Origin, live: str) -> None:
    newer = origin.commit("main", _GOOD)
    origin.release(newer, "production")
    workspace = Workspace(Path(origin.git("rev-parse", "--show-toplevel")), newer, newer)
    history = await read_history(workspace, "production")
    assert was_live(live, history)
    assert not was_live("0" * 40, history)
    champion = champion_for(newer, history)
    assert champion
    assert champion.commit == live
    asking = _environment(approval="suspend")
    assert approval_not_needed(asking).environment.approval == "none"


def test_forced_deploy_needs_a_reason_and_an_environment_that_allows_it() -> None:
    assert require_reason(_environment(), force=False, reason="ignored") == ""
    reason = require_reason(_environment(), force=True, reason="disk\nKind: rollback")
    assert reason == "disk Kind: rollback", "one line: a tag keeps its facts in lines"
    for empty in ("", " \n"):
        with pytest.raises(ConfigurationError, match="a forced deploy needs a reason"):
            require_reason(_environment(), force=True, reason=empty)
    with pytest.raises(ConfigurationError, match="production allows no forced deploy"):
        require_reason(_environment(force=False), force=True, reason="because")


async def test_model_with_another_interface_replaces_nothing_by_accident(
    origin: Origin, live: str
) -> None:
    def write(name: str, columns: str, classes: list[str]) -> str:
        folder = Path(origin.git("rev-parse", "--show-toplevel"))
        (folder / "model").mkdir(exist_ok=True)
        rows = [dict.fromkeys(columns.split(), 1)]
        facts = {"task": "classification", "classes": classes}
        (folder / "model" / f"{name}.golden.json").write_text(json.dumps({"inputs": rows}))
        (folder / "model" / f"{name}.runtime.json").write_text(json.dumps(facts))
        rules = "gate: {metric: f1_macro, minimum: 0.9}"
        (folder / "params.yaml").write_text(f"name: {name}\n{rules}\n")
        return origin._commit(f"{name} {columns}")

    old = write("wine", "alcohol colour", ["red", "white"])
    release = Live("r", "wine", old, "", "", "v0.0.1", healthy=True)
    same = write("wine", "colour alcohol", ["white", "red"])
    assert (await origin.check(same, _environment(), release)).passed
    for commit, says in (
        (write("wines", "alcohol colour", ["red", "white"]), "it is wines, and wine is live"),
        (write("wine", "alcohol hue", ["red", "white"]), "adds the column hue and lacks the col"),
        (write("wine", "alcohol colour", ["red"]), "it lacks the class white"),
    ):
        with pytest.raises(CandidateRejected, match="is no successor of what is live") as refused:
            await origin.check(commit, _environment(), release)
        assert says in refused.value.what
        assert "--replace" in refused.value.next_step
        assert (await origin.check(commit, _environment(), release, replace=True)).passed
        assert (await origin.check(commit, _environment(replace="allowed"), release)).passed
        if says.startswith("it is wines"):
            with pytest.raises(CandidateRejected, match="it is wines, and wine was live"):
                await origin.check(commit, _environment())
        else:
            assert (await origin.check(commit, _environment())).passed, "nothing is live"
    # What is live was made elsewhere: nothing but its name is known.
    foreign = Live("r", "wine", "0" * 40, "", "", None, healthy=True)
    assert (await origin.check(old, _environment(), foreign)).passed

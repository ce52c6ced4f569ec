from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from tasks.sandbox.bubblewrap import find_bubblewrap
from tests.code.flows.harness import Lab, is_in_box, select_running, stages_run

# The first test waits for a stack and a retraining.
pytestmark = pytest.mark.timeout(900)
# With one combination of parameters to try, training is soon over.
ONE = {"train.grid.C": [1.0], "train.grid.gamma": ["scale"]}


def test_an_unknown_override_is_refused_before_anything_runs(lab: Lab, delivered: str) -> None:
    before = lab.refs()
    refused = lab.run("train", {"overrides": {"train.girdd": 1}})
    assert (refused.state, refused.error) == ("Failed", "ConfigurationError")
    assert "override 'train.girdd' is not a key of params.yaml (did you mean 'train.grid'?)" in (
        refused.message
    )
    assert "known: name, seed, data, data.source" in refused.message
    assert "Running stage" not in refused.log
    assert lab.refs() == before


def test_parameters_the_model_refuses_name_file_and_key(lab: Lab, delivered: str) -> None:
    before = lab.refs()
    refused = lab.run("train", {"overrides": {"train.estimator": "sklearn.svm.SCV"}})
    assert (refused.state, refused.error) == ("Failed", "ConfigurationError")
    assert "params.yaml: " in refused.message
    assert "train.estimator" in refused.message
    assert "SVC" in refused.message
    assert refused.log.count("Running stage") == 1, "refused by the first stage, not retried"
    assert lab.refs() == before


def test_a_target_that_is_not_in_the_data_is_refused(lab: Lab, delivered: str) -> None:
    refused = lab.run("train", {"overrides": {"data.target": "cultivar"}})
    assert refused.error == "ConfigurationError"
    assert "params.yaml: " in refused.message
    assert "cultivar" in refused.message
    assert not stages_run(["train"], refused.log)


def test_retrain_refuses_an_unknown_environment_before_it_trains(lab: Lab, delivered: str) -> None:
    refused = lab.run("retrain", {"environment": "moon", "overrides": {"train.cv": 9}})
    assert refused.error == "ConfigurationError"
    assert "environment 'moon' does not exist; known: " in refused.message
    assert "checked out" not in refused.log


def test_a_ref_that_does_not_exist_is_terminal(lab: Lab, delivered: str) -> None:
    refused = lab.run("train", {"ref": "no-such-branch"})
    assert refused.error == "TerminalError"
    assert "ref 'no-such-branch' does not exist on origin; " in refused.message
    assert "branches: " in refused.message
    assert "git ls-remote" in refused.message
    assert refused.log.count("checked out") == 0
    assert "Retry" not in refused.log


def test_an_origin_that_does_not_exist_is_terminal(lab: Lab, delivered: str) -> None:
    refused = lab.run("train", SLIPWAY_ORIGIN=str(lab.folder / "nowhere.git"))
    assert refused.error == "TerminalError"
    assert "SLIPWAY_ORIGIN" in refused.message


def test_overrides_are_committed_and_comments_kept(lab: Lab, delivered: str, newer: str) -> None:
    params = lab.git("show", f"{newer}:params.yaml")
    assert "C: [2.0]" in params or "- 2.0" in params
    assert "# The model of the template's own tests" in params, "comments are kept"
    assert lab.git("merge-base", newer, delivered) == delivered


def test_runs_side_by_side_do_not_disturb_each_other(lab: Lab, delivered: str) -> None:
    folds = (3, 4)
    runs = [lab.start("train", {"overrides": {**ONE, "train.cv": number}}) for number in folds]
    outcomes = [run.outcome() for run in runs]
    assert [outcome.state for outcome in outcomes] == ["Completed", "Completed"]
    for number, outcome in zip(folds, outcomes, strict=True):
        assert stages_run(["process", "train"], outcome.log) == ["train"], "what depends on it"
        assert f"cv: {number}" in lab.git("show", f"{outcome.data}:params.yaml")


@pytest.mark.parametrize("alone", [False, True])
def test_killed_in_the_middle_the_next_run_completes(lab: Lab, delivered: str, alone: bool) -> None:
    # Children that are left alone must not be through before the next run is there.
    parameters = {"overrides": {"train.cv": 8} if alone else {**ONE, "train.cv": 6}}
    run = lab.start("train", parameters)
    run.wait_for("Running stage 'train'")
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.kill(alone=alone)
    again = lab.run("train", parameters)
    assert again.state == "Completed", again.log
    assert not list((lab.stack.home / "workspaces").iterdir()), "the killed run's workspace is gone"
    assert not select_running(children), "and so are its children"


def test_a_killed_stage_fails_the_run_and_leaves_origin_alone(lab: Lab, delivered: str) -> None:
    before = lab.refs()
    run = lab.start("train", {"overrides": {"train.cv": 7}}, SLIPWAY_RETRIES="0")
    run.wait_for("Running stage 'train'")
    for child in run.wait_for_children("model.train"):
        assert is_in_box(child)
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before it
            child.kill()
    outcome = run.outcome()
    assert outcome.state == "Failed"
    assert "the pipeline failed" in outcome.message
    assert lab.refs() == before


def test_another_worker_goes_on_with_a_candidate_that_was_never_pushed(
    lab: Lab, delivered: str, make_home: Callable[[str], Path]
) -> None:
    overrides = {"train.grid.C": [4.0], "train.grid.gamma": ["scale"]}
    trained = lab.run("train", {"ref": delivered, "overrides": overrides})
    saved = lab.run("save", {"ref": trained.data}, SLIPWAY_HOME=str(make_home("worker")))
    assert saved.state == "Completed", saved.log
    assert stages_run(["train", "save"], saved.log) == ["train", "save"], "made again, as it was"
    cached = lab.run("save", {"ref": trained.data})
    assert stages_run(["train", "save"], cached.log) == ["save"]
    both = [lab.show("model/wine.runtime.json", commit) for commit in (saved.data, cached.data)]
    assert both[0]["artifacts"] == both[1]["artifacts"]


def test_the_code_of_the_model_sees_no_credentials(lab: Lab, delivered: str) -> None:
    spy = "import os, sys\nprint('SEEN', sorted(k for k in os.environ if 'SECRET' in k or "
    spy += "'PASSWORD' in k or k.startswith('PREFECT_API')), file=sys.stderr, flush=True)\n"
    spy += f"print('SEES', sorted(os.listdir({str(lab.stack.home)!r})), file=sys.stderr)\n"
    start = 'if __name__ == "__main__":'
    commit = lab.commit(
        {"model/process.py": lambda old: old.replace(start, spy + start)}, delivered, "spy"
    )
    trained = lab.run("train", {"ref": commit})
    assert trained.state == "Completed", trained.log
    assert "SEEN []" in trained.log
    if find_bubblewrap():
        assert "SEES ['dvc-cache', 'environments', 'workspaces']" in trained.log


def test_tampered_bytes_from_the_bucket_are_not_unpickled_but_made_again(
    lab: Lab, delivered: str, newer: str, make_home: Callable[[str], Path]
) -> None:
    lock = yaml.safe_load(lab.git("show", f"{newer}:dvc.lock"))
    md5 = lock["stages"]["train"]["outs"][0]["md5"]
    s3, key = lab.s3(), lab.key(md5)
    good = s3.get_object(Bucket=lab.bucket, Key=key)["Body"].read()
    ref = lab.commit({"params.yaml": lambda old: old.replace("golden: 32", "golden: 25")},
                     newer, "fewer-golden")  # fmt: skip
    s3.put_object(Bucket=lab.bucket, Key=key, Body=good[:-1] + b"?")
    try:
        saved = lab.run("save", {"ref": ref}, SLIPWAY_HOME=str(make_home("worker")))
    finally:
        s3.put_object(Bucket=lab.bucket, Key=key, Body=good)
    assert saved.state == "Completed", saved.log
    assert stages_run(["train", "save"], saved.log) == ["train", "save"]
    again = yaml.safe_load(lab.git("show", f"{saved.data}:dvc.lock"))
    assert again["stages"]["train"]["outs"][0]["md5"] == md5

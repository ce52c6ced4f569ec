"""The faults: one line of code each, and the narrowest tests that should catch it."""

from __future__ import annotations

from dataclasses import dataclass, replace

_TASKS, _PLATFORMS = "tests/code/tasks", "tests/code/platforms"
_OLD_PLATFORMS = "tests/code/targets"
_DEPLOYMENTS, _SERVING, _MODEL = "tests/code/deployments", "tests/code/serving", "tests/code/model"
_DEPLOY = "tests/code/flows/test_deploy.py"
_PUSH, _OLD_PUSH = "tests/code/training/test_push.py", "tests/code/flows/test_push.py"


@dataclass(frozen=True)
class Old:
    """The place of a fault in revisions from before the rooms, if it is another.

    Attributes:
        file: The file; empty if it is the same.
        tests: Files and tests; empty if they are the same.
    """

    file: str = ""
    tests: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        room: What the code belongs to; the name of the fault.
        file: The file, relative to the repository.
        pattern: Regular expression that matches once in the file.
        fault: What stands there instead, as `re.sub` takes it.
        tests: Files and tests, as pytest takes them, separated by spaces.
        old: Where it is before the rooms.
    """

    room: str
    file: str
    pattern: str
    fault: str
    tests: str
    old: Old = Old()

    def before_rooms(self) -> Fault:
        """Return the same fault as it is in a revision from before the rooms."""
        file, tests = self.old.file or self.file, self.old.tests or self.tests
        return replace(self, file=file, tests=tests)


FAULTS = (
    Fault(
        "core/threads", "tasks/core/threads.py",
        r"return await asyncio\.shield\((\w+)\)", r"return await \1",
        f"{_TASKS}/core/test_threads.py",
        Old("tasks/threads.py", f"{_TASKS}/test_threads.py"),
    ),
    Fault(
        "core/fingerprint", "tasks/core/fingerprint.py",
        r"hexdigest\(\)\[:16\]", "hexdigest()[:0]",
        f"{_TASKS}/core/test_fingerprint.py",
        Old("tasks/fingerprint.py", f"{_TASKS}/test_fingerprint.py"),
    ),
    Fault(
        "runs", "tasks/runs/retrying.py",
        r"\(error, TransientError \| TimeoutError\)", "(error, TimeoutError)",
        f"{_PUSH}::test_errors_of_s3_are_retried",
        Old("tasks/capability.py", f"{_OLD_PUSH}::test_errors_of_s3_are_retried"),
    ),
    Fault(
        "repository", "tasks/repository/release_history.py",
        r"return (\w+)\[::-1\]", r"return \1",
        f"{_TASKS}/repository/test_release_history.py",
        Old("tasks/history.py", f"{_TASKS}/test_history.py"),
    ),
    Fault(
        "repository/git", "tasks/repository/git.py",
        r'"--end-of-options", (f"\{\w+\}\^\{\{commit\}\}")', r"\1",
        f"{_TASKS}/test_argv.py",
        Old("tasks/git.py"),
    ),
    Fault(
        "bucket", "tasks/bucket/dvc.py",
        '"--wait-for-lock"', '"--quiet"',
        f"{_TASKS}/test_argv.py",
        Old("tasks/dvc.py"),
    ),
    Fault(
        "package", "tasks/package/package.py",
        r"if \(size, sha256\) == \(package\.size, package\.sha256\):",
        "if size == package.size:",
        f"{_DEPLOY}::test_wrong_bytes_in_the_bucket_are_refused_before_unpickling",
        Old("tasks/packaging.py"),
    ),
    Fault(
        "training", "tasks/training/gate.py",
        "gain >= limit", "gain <= limit",
        f"{_TASKS}/training/test_gate.py",
        Old("tasks/gate.py", f"{_TASKS}/test_gate.py"),
    ),
    Fault(
        "release", "tasks/release/policy.py",
        r"if ANY in allowed or any\(", "if allowed or any(",
        f"{_TASKS}/release/test_policy.py",
    ),
    Fault(
        "images", "tasks/images/layers.py",
        r"st_size >= (\w+):", r"st_size < \1:",
        "tests/code/images/test_layers.py",
    ),
    Fault(
        "platforms/base", "tasks/platforms/base/golden.py",
        r"if not isinstance\((\w+), list\) or len\(\1\) != len\(expected\):",
        r"if not isinstance(\1, list):",
        f"{_TASKS}/platforms/test_golden.py",
        Old("tasks/golden.py", f"{_TASKS}/test_golden.py"),
    ),
    Fault(
        "platforms/host", "tasks/platforms/host/judgement.py",
        r"return difference - math\.hypot\(", "return difference + math.hypot(",
        f"{_PLATFORMS}/test_judgement.py",
        Old(tests=f"{_OLD_PLATFORMS}/test_judgement.py"),
    ),
    Fault(
        "platforms/process", "tasks/platforms/process/target.py",
        r'(f"\{self\.\w+\(release\)\})(?:\.log|\*)"', r'\1.out"',
        f"{_PLATFORMS}/test_process.py",
        Old("tasks/targets/process.py", f"{_OLD_PLATFORMS}/test_process.py"),
    ),
    Fault(
        "platforms/docker", "tasks/platforms/docker/target.py",
        r'container\.status != "exited"', 'container.status == "exited"',
        f"{_PLATFORMS}/test_docker.py",
        Old("tasks/targets/docker.py", f"{_OLD_PLATFORMS}/test_docker.py"),
    ),
    Fault(
        "platforms/kubernetes", "tasks/platforms/kubernetes/rollouts.py",
        r'status\.get\("availableReplicas", 0\) >= updated', "True",
        f"{_PLATFORMS}/test_kubernetes.py",
        Old(tests=f"{_OLD_PLATFORMS}/test_kubernetes.py"),
    ),
    Fault(
        "platforms/flyio", "tasks/platforms/flyio/fly_toml.py",
        r'"performance" if machine\.get\("cpu_kind"\) == "performance" else "shared-cpu"',
        '"shared-cpu"',
        f"{_TASKS}/platforms/test_fly_toml.py",
        Old("tasks/environments/fly_toml.py", f"{_TASKS}/test_fly_toml.py"),
    ),
    Fault(
        "platforms/heroku", "tasks/platforms/heroku/releases.py",
        r"\.version > newest\b", ".version < newest",
        f"{_PLATFORMS}/test_heroku.py::test_releases_give_images_of_an_app",
        Old(tests=f"{_OLD_PLATFORMS}/test_heroku.py::test_releases_say_which_images_an_app_has_run"),
    ),
    Fault(
        "platforms/sagemaker", "tasks/platforms/sagemaker/requests.py",
        r'if environment\.traffic == "canary":', 'if environment.traffic != "canary":',
        f"{_PLATFORMS}/test_sagemaker.py::test_requests_match_the_service_description",
        Old(
            "tasks/platforms/aws/requests.py",
            f"{_OLD_PLATFORMS}/test_sagemaker.py::test_requests_are_as_the_service_describes_them",
        ),
    ),
    Fault(
        "release", "tasks/release/status.py",
        r"\.at >= self\.(\w+)\.at", r".at < self.\1.at",
        f"{_TASKS}/release/test_status.py",
        Old("tasks/condition.py", f"{_TASKS}/test_condition.py"),
    ),
    Fault(
        "release/locks", "tasks/release/locks/shared.py",
        r"if (\w+) and self\._is_ours\(\1\):", r"if \1:",
        f"{_TASKS}/release/test_locks.py",
        Old("tasks/locks/shared.py", f"{_TASKS}/test_locks.py"),
    ),
    Fault(
        "reports", "tasks/reports/pictures.py",
        "data:image/png;base64,", "data:image/jpeg;base64,",
        f"{_TASKS}/reports/test_pictures.py",
        Old("tasks/pictures.py", f"{_TASKS}/test_pictures.py"),
    ),
    Fault(
        "flows/parameters", "flows/parameters.py",
        r'pattern=f"\^\{_REF\}\$"', "pattern=_REF",
        f"{_TASKS}/test_parameters.py",
        Old("tasks/parameters.py"),
    ),
    Fault(
        "flows/deploy", "flows/deploy.py",
        r"if not \((force or [\w.]+)\):", r"if (\1):",
        f"{_DEPLOY}::test_older_commit_is_superseded",
        Old(tests=f"{_DEPLOY}::test_an_older_commit_is_superseded"),
    ),
    Fault(
        "flows/push", "flows/push.py",
        "branch or None|branch if branch and passed else None", "None",
        f"{_PUSH}::test_a_person_who_changed_something_else_meanwhile_is_merged",
        Old(tests=f"{_OLD_PUSH}::test_a_person_who_changed_something_else_meanwhile_is_merged"),
    ),
    Fault(
        "deployments/catalogue", "deployments/catalogue/difference.py",
        r"if actual\.get\(name\) != value", "if actual.get(name) == value",
        f"{_DEPLOYMENTS}/test_difference.py",
        Old("deployments/difference.py"),
    ),
    Fault(
        "deployments/diagnosis", "deployments/diagnosis/origin.py",
        r"if (\w+)\.code:", r"if not \1.code:",
        f"{_DEPLOYMENTS}/test_doctor.py::test_unpushed_commit_for_workers_is_a_problem",
        Old(
            "deployments/checks.py",
            f"{_DEPLOYMENTS}/test_doctor.py"
            "::test_the_commit_that_workers_are_to_clone_has_to_be_on_origin",
        ),
    ),
    Fault(
        "deployments/prefect_api", "deployments/prefect_api/connection.py",
        r"if not _is_url\(url\):", "if _is_url(url):",
        f"{_DEPLOYMENTS}/test_trigger.py::test_links_lead_to_the_ui_of_prefect_cloud",
        Old(
            "deployments/api.py",
            f"{_DEPLOYMENTS}/test_trigger.py::test_the_ui_of_prefect_cloud_is_linked",
        ),
    ),
    Fault(
        "deployments/local", "deployments/local/ports.py",
        r"(\w+)\.connect_ex\(\(HOST, port\)\) == 0:", r"\1.connect_ex((HOST, port)) != 0:",
        f"{_DEPLOYMENTS}/local/test_ports.py",
    ),
    Fault(
        "deployments/ci", "deployments/ci/report.py",
        r"\) > _LONGEST_CARD:", ") < _LONGEST_CARD:",
        f"{_DEPLOYMENTS}/ci/test_report.py",
        Old("deployments/github/pull_request.py", f"{_DEPLOYMENTS}/github/test_pull_request.py"),
    ),
    Fault(
        "deployments/trigger", "deployments/trigger.py",
        r"if not _COMMIT\.fullmatch\(commit\):", "if _COMMIT.fullmatch(commit):",
        f"{_DEPLOYMENTS}/test_trigger.py::test_branch_is_refused",
        Old(tests=f"{_DEPLOYMENTS}/test_trigger.py::test_a_branch_is_refused_because_it_moves"),
    ),
    Fault(
        "serving/limits", "serving/limits.py",
        r"if size > self\._max_bytes:", "if size < 0:",
        f"{_SERVING}/test_limits.py",
    ),
    Fault(
        "serving/work", "serving/work.py",
        r"if self\._(\w+) <= 0:", r"if self._\1 < 0:",
        f"{_SERVING}/test_limits.py",
    ),
    Fault(
        "serving/batching", "serving/batching.py",
        r"predictions\[start:end\]", "predictions[:end]",
        f"{_SERVING}/test_batching.py",
    ),
    Fault(
        "serving/bundle", "serving/bundle.py",
        r"if expected is not None and expected != (\w+):", "if expected is None:",
        f"{_SERVING}/test_bundle.py",
    ),
    Fault(
        "model/params", "model/sections.py",
        "if not values:", "if values is None:",
        f"{_MODEL}/test_params.py",
    ),
    Fault(
        "model/process", "model/process.py",
        r"if len\(counts\) < 2:", "if len(counts) < 0:",
        f"{_MODEL}/test_params.py {_MODEL}/test_tables.py",
    ),
)  # fmt: skip

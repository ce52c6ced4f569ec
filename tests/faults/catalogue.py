"""The faults: one line of code each, and the narrowest tests that should catch it."""

from __future__ import annotations

from dataclasses import dataclass

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
        line: What is in the line; empty if it is the same.
        fault: What it becomes; empty if it is the same.
    """

    file: str = ""
    tests: str = ""
    line: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        room: What the code belongs to; the name of the fault.
        file: The file, relative to the repository.
        line: Text that is in one line of the file, and in no other.
        fault: What stands there instead.
        tests: Files and tests, as pytest takes them, separated by spaces.
        old: Where it is before the rooms.
    """

    room: str
    file: str
    line: str
    fault: str
    tests: str
    old: Old = Old()

    def before_rooms(self) -> Fault:
        """Return the same fault as it is in a revision from before the rooms."""
        old = self.old
        return Fault(
            self.room, old.file or self.file, old.line or self.line, old.fault or self.fault,
            old.tests or self.tests,
        )  # fmt: skip


FAULTS = (
    Fault(
        "core/threads", "tasks/core/threads.py",
        "return await asyncio.shield(call)", "return await call",
        f"{_TASKS}/core/test_threads.py",
        Old("tasks/threads.py", f"{_TASKS}/test_threads.py"),
    ),
    Fault(
        "core/fingerprint", "tasks/core/fingerprint.py",
        "return digest.hexdigest()[:16]", "return digest.hexdigest()[:0]",
        f"{_TASKS}/core/test_fingerprint.py",
        Old("tasks/fingerprint.py", f"{_TASKS}/test_fingerprint.py"),
    ),
    Fault(
        "runs", "tasks/runs/retrying.py",
        "isinstance(error, TransientError | TimeoutError)", "isinstance(error, TimeoutError)",
        f"{_PUSH}::test_errors_of_s3_are_retried",
        Old("tasks/capability.py", f"{_OLD_PUSH}::test_errors_of_s3_are_retried"),
    ),
    Fault(
        "repository", "tasks/repository/release_history.py",
        "return remaining[::-1]", "return remaining",
        f"{_TASKS}/repository/test_release_history.py",
        Old(
            "tasks/history.py", f"{_TASKS}/test_history.py",
            "return stand[::-1]", "return stand",
        ),
    ),
    Fault(
        "repository/git", "tasks/repository/git.py",
        '"--end-of-options", f"{ref}^{{commit}}"', 'f"{ref}^{{commit}}"',
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
        "if (size, sha256) == (package.size, package.sha256):", "if size == package.size:",
        f"{_DEPLOY}::test_wrong_bytes_in_the_bucket_are_refused_before_unpickling",
        Old("tasks/packaging.py"),
    ),
    Fault(
        "training", "tasks/training/gate.py",
        "good = sign * (value", "good = -sign * (value",
        f"{_TASKS}/training/test_gate.py",
        Old("tasks/gate.py", f"{_TASKS}/test_gate.py"),
    ),
    Fault(
        "images", "tasks/images/layers.py",
        "status.st_size >= _WORTH_LINKING", "status.st_size < _WORTH_LINKING",
        "tests/code/images/test_layers.py",
    ),
    Fault(
        "platforms/base", "tasks/platforms/base/golden.py",
        "if not isinstance(got, list) or len(got) != len(expected):",
        "if not isinstance(got, list):",
        f"{_TASKS}/platforms/test_golden.py",
        Old("tasks/golden.py", f"{_TASKS}/test_golden.py"),
    ),
    Fault(
        "platforms/host", "tasks/platforms/host/judgement.py",
        "return difference - math.hypot(", "return difference + math.hypot(",
        f"{_PLATFORMS}/test_judgement.py",
        Old(tests=f"{_OLD_PLATFORMS}/test_judgement.py"),
    ),
    Fault(
        "platforms/process", "tasks/platforms/process/target.py",
        'f"{self._program(release)}.log"', 'f"{self._program(release)}.out"',
        f"{_PLATFORMS}/test_process.py",
        Old("tasks/targets/process.py", f"{_OLD_PLATFORMS}/test_process.py"),
    ),
    Fault(
        "platforms/docker", "tasks/platforms/docker/target.py",
        "if _is_of_preflight(container):", "if not _is_of_preflight(container):",
        f"{_PLATFORMS}/test_docker.py",
        Old("tasks/targets/docker.py", f"{_OLD_PLATFORMS}/test_docker.py"),
    ),
    Fault(
        "platforms/kubernetes", "tasks/platforms/kubernetes/rollouts.py",
        'status.get("availableReplicas", 0) >= updated', "True",
        f"{_PLATFORMS}/test_kubernetes.py",
        Old(tests=f"{_OLD_PLATFORMS}/test_kubernetes.py"),
    ),
    Fault(
        "platforms/flyio", "tasks/platforms/flyio/fly_toml.py",
        "machine.get('cpus', 1)", "machine.get('cpus', 2)",
        f"{_TASKS}/platforms/test_fly_toml.py",
        Old("tasks/environments/fly_toml.py", f"{_TASKS}/test_fly_toml.py"),
    ),
    Fault(
        "platforms/heroku", "tasks/platforms/heroku/releases.py",
        ".version > newest", ".version < newest",
        f"{_PLATFORMS}/test_heroku.py::test_releases_give_images_of_an_app",
        Old(tests=f"{_OLD_PLATFORMS}/test_heroku.py::test_releases_say_which_images_an_app_has_run"),
    ),
    Fault(
        "platforms/sagemaker", "tasks/platforms/sagemaker/requests.py",
        'if environment.traffic == "canary":', 'if environment.traffic != "canary":',
        f"{_PLATFORMS}/test_sagemaker.py::test_requests_match_the_service_description",
        Old(
            "tasks/platforms/aws/requests.py",
            f"{_OLD_PLATFORMS}/test_sagemaker.py::test_requests_are_as_the_service_describes_them",
        ),
    ),
    Fault(
        "release", "tasks/release/status.py",
        "self.newest.at >= self.observation.at", "self.newest.at < self.observation.at",
        f"{_TASKS}/release/test_status.py",
        Old(
            "tasks/condition.py", f"{_TASKS}/test_condition.py",
            "self.released.at >= self.seen.at", "self.released.at < self.seen.at",
        ),
    ),
    Fault(
        "release/locks", "tasks/release/locks/shared.py",
        "if variable and self._is_ours(variable):", "if variable:",
        f"{_TASKS}/release/test_locks.py",
        Old(
            "tasks/locks/shared.py", f"{_TASKS}/test_locks.py",
            "if found and self._is_ours(found):", "if found:",
        ),
    ),
    Fault(
        "reports", "tasks/reports/pictures.py",
        'f"data:image/png;base64,', 'f"data:image/jpeg;base64,',
        f"{_TASKS}/reports/test_pictures.py",
        Old("tasks/pictures.py", f"{_TASKS}/test_pictures.py"),
    ),
    Fault(
        "flows/parameters", "flows/parameters.py",
        'pattern=f"^{_REF}$"', 'pattern=_REF',
        f"{_TASKS}/test_parameters.py",
        Old("tasks/parameters.py"),
    ),
    Fault(
        "flows/deploy", "flows/deploy.py",
        "if not (force or release.rollback):", "if force or release.rollback:",
        f"{_DEPLOY}::test_older_commit_is_superseded",
        Old(
            tests=f"{_DEPLOY}::test_an_older_commit_is_superseded",
            line="if not (force or rollback):", fault="if force or rollback:",
        ),
    ),
    Fault(
        "flows/push", "flows/push.py",
        "branch or None", "None",
        f"{_PUSH}::test_a_person_who_changed_something_else_meanwhile_is_merged",
        Old(tests=f"{_OLD_PUSH}::test_a_person_who_changed_something_else_meanwhile_is_merged"),
    ),
    Fault(
        "deployments/catalogue", "deployments/catalogue/difference.py",
        "if actual.get(name) != value", "if actual.get(name) == value",
        f"{_DEPLOYMENTS}/test_difference.py",
        Old("deployments/difference.py"),
    ),
    Fault(
        "deployments/diagnosis", "deployments/diagnosis/origin.py",
        "if done.code:", "if not done.code:",
        f"{_DEPLOYMENTS}/test_doctor.py::test_unpushed_commit_for_workers_is_a_problem",
        Old(
            "deployments/checks.py",
            f"{_DEPLOYMENTS}/test_doctor.py"
            "::test_the_commit_that_workers_are_to_clone_has_to_be_on_origin",
        ),
    ),
    Fault(
        "deployments/prefect_api", "deployments/prefect_api/connection.py",
        "if not _is_url(url):", "if _is_url(url):",
        f"{_DEPLOYMENTS}/test_trigger.py::test_links_lead_to_the_ui_of_prefect_cloud",
        Old(
            "deployments/api.py",
            f"{_DEPLOYMENTS}/test_trigger.py::test_the_ui_of_prefect_cloud_is_linked",
        ),
    ),
    Fault(
        "deployments/local", "deployments/local/ports.py",
        "if probe.connect_ex((HOST, port)) == 0:", "if probe.connect_ex((HOST, port)) != 0:",
        f"{_DEPLOYMENTS}/local/test_ports.py",
    ),
    Fault(
        "deployments/github", "deployments/github/pull_request.py",
        "if len(details) > _LONGEST_CARD:", "if len(details) < _LONGEST_CARD:",
        f"{_DEPLOYMENTS}/github/test_pull_request.py",
        Old(line="if len(inside) > _LONGEST_CARD:", fault="if len(inside) < _LONGEST_CARD:"),
    ),
    Fault(
        "deployments/trigger", "deployments/trigger.py",
        "if not _COMMIT.fullmatch(commit):", "if _COMMIT.fullmatch(commit):",
        f"{_DEPLOYMENTS}/test_trigger.py::test_branch_is_refused",
        Old(tests=f"{_DEPLOYMENTS}/test_trigger.py::test_a_branch_is_refused_because_it_moves"),
    ),
    Fault(
        "serving/limits", "serving/limits.py",
        "if size > self._max_bytes:", "if size < 0:",
        f"{_SERVING}/test_limits.py",
    ),
    Fault(
        "serving/work", "serving/work.py",
        "if self._room <= 0:", "if self._room < 0:",
        f"{_SERVING}/test_limits.py",
    ),
    Fault(
        "serving/bundle", "serving/bundle.py",
        "if expected is not None and expected != value:", "if expected is None:",
        f"{_SERVING}/test_bundle.py",
    ),
    Fault(
        "model/params", "model/params.py",
        "return {} if value is None else value", "return value",
        f"{_MODEL}/test_params.py",
    ),
    Fault(
        "model/process", "model/process.py",
        "if len(counts) < 2:", "if len(counts) < 0:",
        f"{_MODEL}/test_params.py {_MODEL}/test_data_sets.py",
    ),
)  # fmt: skip

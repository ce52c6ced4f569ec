"""A registry that refuses, hangs, or acts and drops its reply, at each call in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tasks.core.errors import TransientError
from tasks.images.layers import Layer, write_layer
from tasks.images.reference import parse_reference
from tasks.images.registry import Manifest, Repository, sha256
from tests.containers import run_registry
from tests.stand_ins.faults import Faults, Kind
from tests.stand_ins.relay import Relay
from tests.stand_ins.serve import serving

R = TypeVar("R")


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Faults, str]]:
    """The faults of a real registry, and its host."""
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        faults = Faults(Relay(f"http://{host}"), hang_seconds=1.5)
        with serving(faults) as url:
            yield faults, url.removeprefix("http://")


def _document(config: bytes, layer: Layer) -> Manifest:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    what = {"mediaType": "application/vnd.docker.container.image.v1+json"}
    return Manifest.of({
        "schemaVersion": 2, "mediaType": kind,
        "config": {**what, "size": len(config), "digest": sha256(config)},
        "layers": [layer.describe()],
    })  # fmt: skip


# Calls that hang have a shorter time-out here, so they are tried by themselves.
@pytest.mark.parametrize("kinds", [("429", "500", "drop"), ("hang",)], ids="-".join)
def test_image_is_complete_although_each_call_fails(
    kinds: tuple[Kind, ...],
    faults: tuple[Faults, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "hang" in kinds:
        monkeypatch.setattr("tasks.images.registry._SECONDS", 0.5)
    kind = "-".join(kinds)
    plan, host = faults
    repository = Repository(parse_reference(f"{host}/wine-{kind}"))
    errors: list[TransientError] = []

    def again(step: Callable[[], R]) -> R:
        for _ in range(40):
            try:
                return step()
            except TransientError as error:
                errors.append(error)
        return step()

    config = json.dumps({"architecture": "amd64", "os": "linux", "kind": kind}).encode()
    layer = write_layer(tmp_path / "layer", {"/kind": kind.encode()})
    manifest = _document(config, layer)
    plan.fail_each_call(*kinds)
    again(repository.try_push)
    again(lambda: repository.write(config))
    again(lambda: repository.upload(layer))
    again(lambda: repository.put(manifest, "one"))
    assert again(repository.tags) == ["one"]
    assert again(lambda: repository.manifest("one")) == manifest
    again(lambda: repository.fetch(layer.digest, tmp_path / "fetched"))
    assert layer.path
    assert (tmp_path / "fetched").read_bytes() == layer.path.read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    assert again(lambda: repository.drop(manifest.digest)) in {True, False}
    plan.clear()
    assert repository.manifest("one") is None
    assert len(errors) >= 7 * len(kinds)
    assert all(error.state and error.next_step for error in errors)

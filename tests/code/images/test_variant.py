"""Images of the same layers that are started in another way."""

from __future__ import annotations

import json

from tasks.images.variant import vary

_CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/bin", "PORT=8080"],
            "Entrypoint": ["python3", "-m", "serving"],
            "Labels": {"io.slipway.commit": "abc"},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    }
).encode()


def test_variant_differs_in_variables_and_arguments() -> None:
    before = json.loads(_CONFIG)
    after = json.loads(vary(_CONFIG, {"PORT": "1", "SLIPWAY_RELEASE": "{}"}, ["--host=0.0.0.0"]))
    assert after["config"].pop("Cmd") == ["--host=0.0.0.0"]
    assert after["config"].pop("Env") == ["PATH=/bin", "PORT=1", "SLIPWAY_RELEASE={}"]
    before["config"].pop("Env")
    assert after == before


def test_equal_variables_give_an_equal_image() -> None:
    assert vary(_CONFIG, {"A": "1"}, []) == vary(_CONFIG, {"A": "1"}, [])
    assert vary(_CONFIG, {"A": "1"}, []) != vary(_CONFIG, {"A": "2"}, [])

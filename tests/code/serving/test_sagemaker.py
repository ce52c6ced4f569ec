"""The two addresses that SageMaker knows of a container."""

import httpx
import pytest

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def invoke(server, body, attributes=None):
    headers = {ATTRIBUTES: attributes} if attributes else {}
    return server.post("/invocations", body, headers=headers)


def test_ping_is_readiness(served):
    assert httpx.get(f"{served('wine').url}/ping").status_code == 200


@pytest.mark.parametrize(
    ("attributes", "method"),
    [
        (None, "predict"),
        ("method=predict", "predict"),
        ("trace=7; method=predict_proba", "predict_proba"),
    ],
)
def test_invocations_answer_as_the_named_method(served, golden, attributes, method):
    wine = served("wine")
    body = {"data": {"values": golden("wine")["inputs"][:3]}}
    answer = invoke(wine, body, attributes)
    assert answer.status_code == 200
    assert answer.json() == wine.post(f"/{method}", body).json()
    version = httpx.get(f"{wine.url}/version").json()
    assert answer.headers[ATTRIBUTES].endswith(f";md5={version['md5']}")


def test_invocations_report_the_release(served):
    wine = served("wine")
    answer = invoke(wine, {}, "method=version")
    assert answer.json() == httpx.get(f"{wine.url}/version").json()


def test_unknown_method_and_bad_input_are_refused(served):
    unknown = invoke(served("wine"), {}, "method=fit")
    assert unknown.status_code == 400
    assert "predict, predict_proba and version" in unknown.json()["error"]
    assert invoke(served("wine"), {"data": 1}).status_code == 422


def test_sagemakers_argument_is_accepted(start, bundles):
    with start(bundles / "wine", "serve", is_new=True) as wine:
        assert httpx.get(f"{wine.url}/ping").status_code == 200

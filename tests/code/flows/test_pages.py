"""What a person sees of the main job: Prefect's UI, and the page of the live model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab
from tests.stack_access import wait_for_end

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_prefects_ui_shows_the_runs_and_their_tasks(
    lab: Lab, delivered: Delivery, visit: Callable[..., Page]
) -> None:
    page = visit(lab.stack.sign_in_url(lab.api.ui_url(delivered.deploy)), ours=False)
    page.get_by_text("deploy main to local").first.wait_for()
    page.get_by_text(f"preflight wine@{delivered.commit[:7]}").first.wait_for()
    page.get_by_text("Completed").first.wait_for()


def test_prefects_ui_shows_the_model_card_with_its_picture(
    lab: Lab, delivered: Delivery, visit: Callable[..., Page]
) -> None:
    (card,) = [
        artifact for artifact in lab.artifacts(delivered.retrain) if artifact["key"] == "wine-card"
    ]
    url = f"{lab.stack.prefect_ui_url}/artifacts/artifact/{card['id']}"
    page = visit(lab.stack.sign_in_url(url), ours=False)
    page.get_by_text("Model card of").first.wait_for()
    picture = page.locator("img[src^='data:image/png']")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300


def test_the_form_explains_itself_and_can_be_sent_as_it_is(
    lab: Lab, delivered: Delivery, visit: Callable[..., Page]
) -> None:
    deployment = lab.api.find_deployment("deploy/local")
    assert deployment
    url = f"{lab.stack.prefect_ui_url}/deployments/deployment/{deployment.id}/run"
    page = visit(lab.stack.sign_in_url(url), ours=False)
    page.get_by_text("Branch, tag or commit on origin to deploy").wait_for()
    page.locator("button[class*=select]", has_text="local").focus()
    page.keyboard.press("ArrowDown")
    page.locator(".p-select-option", has_text="production").wait_for()
    page.keyboard.press("Escape")
    with page.expect_response(lambda answer: "create_flow_run" in answer.url) as sent:
        page.get_by_role("button", name="Submit").click()
    run = sent.value.json()
    assert run["parameters"] == {
        "ref": "main",
        "environment": "local",
        "force": False,
        "reason": "",
        "replace": False,
    }
    assert wait_for_end(lab.api, run["id"]).succeeded


def test_a_person_tries_the_live_model(
    lab: Lab, delivered: Delivery, visit: Callable[..., Page]
) -> None:
    page = visit(f"{lab.url}/")
    page.wait_for_selector("#try:enabled")
    assert "version v0.0.1" in page.inner_text("#facts")
    assert "environment local" in page.inner_text("#facts")
    page.click("text=Try it out")
    page.wait_for_selector(".value")
    expected = lab.show("model/wine.golden.json")["outputs"]["predict"][0]
    assert page.inner_text(".value") == f"Class {expected}"
    assert page.locator("#result .bars .label").count() == 3

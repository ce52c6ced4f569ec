"""A person tries the model in a real browser, and nothing leaves the origin."""

import pytest


def test_page_tries_a_classifier(visit, served, golden):
    page = visit(f"{served('wine').url}/")
    page.wait_for_selector("#try:enabled")
    assert page.inner_text("#name") == "wine"
    assert "version v1.2.0" in page.inner_text("#facts")
    assert "0123456789" in page.inner_text("#facts")
    page.select_option("#sample", "9")
    value = golden("wine")["inputs"][9]["alcohol"]
    assert page.input_value("[data-column=alcohol]") == f"{value:g}"
    page.click("text=Try it out")
    page.wait_for_selector(".value")
    expected = golden("wine")["outputs"]["predict"][9]
    assert page.inner_text(".value") == f"Class {expected}"
    shares = golden("wine")["outputs"]["predict_proba"][9]
    labels = [text.split("\n")[-1] for text in page.locator(".bars .label").all_inner_texts()]
    assert labels == [f"{share:.1%}" for share in shares]

    page.fill("[data-column=proline]", "1600")
    page.fill("[data-column=flavanoids]", "3.9")
    page.keyboard.press("Enter")
    page.locator(".value", has_text="Class 0").wait_for()
    assert "sample: " in page.inner_text("#column-12-note")
    page.click("text=Undo changes")
    assert page.input_value("[data-column=alcohol]") == f"{value:g}"


def test_page_explains_a_mistake_at_its_field(visit, served):
    page = visit(f"{served('wine').url}/")
    page.wait_for_selector("#try:enabled")
    page.fill("[data-column=magnesium]", "33.7")
    page.click("#try")
    problem = page.wait_for_selector("[role=alert]")
    assert "column 'magnesium': must be a whole number" in problem.inner_text()
    assert page.get_attribute("[data-column=magnesium]", "aria-invalid") == "true"
    page.fill("[data-column=magnesium]", "100")
    page.click("#try")
    page.wait_for_selector(".value")


def test_page_tries_a_regression_on_arrays_on_a_phone(visit, served, golden):
    page = visit(f"{served('array').url}/", width=390)
    page.wait_for_selector("#try:enabled")
    page.click("#try")
    page.wait_for_selector(".value")
    shown = float(page.inner_text(".value").replace(",", ""))
    assert shown == pytest.approx(golden("array")["outputs"]["predict"][0], rel=1e-5)
    assert page.locator(".bars").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page_takes_missing_values_and_text(visit, served):
    page = visit(f"{served('mixed').url}/")
    page.wait_for_selector("#try:enabled")
    page.fill("[data-column=age]", "")
    page.fill("[data-column=colour]", "")
    page.select_option("[data-column=member]", "false")
    page.click("#try")
    page.wait_for_selector(".value")
    assert page.inner_text(".value") in {"yes", "no"}


def test_page_says_what_the_model_was_not_trained_on(visit, served):
    page = visit(f"{served('mixed').url}/")
    page.wait_for_selector("#try:enabled")
    page.fill("[data-column=colour]", "mauve")
    page.click("#try")
    page.wait_for_selector(".value")
    assert page.inner_text(".caution") == "The model was not trained on colour = mauve."


def test_docs_are_swagger_with_a_real_example(visit, served):
    page = visit(f"{served('wine').url}/docs")
    page.click("#operations-model-predict .opblock-summary")
    page.click("text=Execute")
    page.wait_for_selector(".live-responses-table")
    assert "od280/od315_of_diluted_wines" in page.input_value("textarea")
    assert page.inner_text(".live-responses-table tr.response td.response-col_status").startswith(
        "200"
    )

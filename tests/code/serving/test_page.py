"""A person tries the model in a real browser, and nothing leaves the origin."""

import json

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
    labels = [text.split("\n")[-1] for text in page.locator("#result .label").all_inner_texts()]
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
    shown = float(page.inner_text(".value").removesuffix(" g").replace(",", ""))
    assert shown == pytest.approx(golden("array")["outputs"]["predict"][0], rel=1e-5)
    assert page.locator("#result .bars").count() == 0
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


def test_page_says_what_is_predicted_and_how_well(visit, served):
    page = visit(f"{served('wide').url}/")
    page.wait_for_selector("#try:enabled")
    assert page.inner_text("#purpose") == "Predicts outcome: what comes out, in g"
    assert page.inner_text("#metrics tr").split("\t") == ["r2", "0.781", "0.7 to 0.84"]
    assert page.inner_text("#measured-title") == "Metrics on 69 test rows"
    labels = page.locator("#importance .label").all_inner_texts()
    assert [label.split("\n")[0] for label in labels] == ["sensor_299", "colour"]
    page.click("#try")
    page.wait_for_selector(".value")
    assert page.inner_text(".value").endswith(" g")


def test_page_of_a_wide_table_stays_short_and_finds_columns(visit, served):
    page = visit(f"{served('wide').url}/", width=390)
    page.wait_for_selector("#try:enabled")
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
    assert page.locator(".field:visible").count() == 24
    assert page.is_visible("[data-column=sensor_299]"), "it matters most"
    page.fill("#filter", "SENSOR_15")
    assert page.locator(".field:visible").count() == 10
    page.fill("#filter", "")
    page.click("text=Show all 300")
    assert page.locator(".field:visible").count() == 300
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
    page.fill("[data-column=sensor_150]", "x")
    page.click("text=Show fewer")
    page.click("#try")
    page.wait_for_selector("[role=alert]")
    assert page.is_visible("[data-column=sensor_150]"), "the mistake is shown"


ROW = {"age": 20.5, "visits": 1, "colour": "a, b", "member": True, "size": "small"}
CSV = 'visits;age;colour;member;size;more\n1;20.5;a, b;TRUE;small;x\n2;;"mauve";false;big;y\n'


@pytest.mark.parametrize("text", [CSV, f"[{json.dumps(ROW)}, {json.dumps(ROW)}]"])
def test_page_takes_pasted_rows(visit, served, text):
    page = visit(f"{served('mixed').url}/")
    page.wait_for_selector("#try:enabled")
    page.click("#paste summary")
    page.fill("#pasted", "age;visits\n1;2")
    page.click("#take")
    problem = "These rows cannot be read: the first line has no column 'colour'."
    assert page.inner_text("#paste-problem") == problem
    page.fill("#pasted", text)
    page.click("#take")
    page.wait_for_selector(".several")
    assert page.locator(".several tbody tr").count() == 2
    assert "colour (2)" in page.inner_text(".caution")
    assert page.input_value("[data-column=colour]") == "a, b"
    page.fill("[data-column=colour]", "red")
    page.click("#try")
    page.wait_for_selector(".value")


def test_labels_of_a_row_of_fields_are_aligned(visit, served):
    page = visit(f"{served('wine').url}/", width=1400)
    page.wait_for_selector("#try:enabled")
    tops = page.evaluate(
        "[...document.querySelectorAll('.field input')].map((e) => e.getBoundingClientRect().y)"
    )
    rows = [tops[at : at + 3] for at in range(0, 12, 3)]
    assert all(len(set(row)) == 1 for row in rows)


def test_docs_are_swagger_with_a_real_example(visit, served):
    page = visit(f"{served('wine').url}/docs")
    page.click("#operations-model-predict .opblock-summary")
    page.click("text=Execute")
    page.wait_for_selector(".live-responses-table")
    assert "od280/od315_of_diluted_wines" in page.input_value("textarea")
    assert page.inner_text(".live-responses-table tr.response td.response-col_status").startswith(
        "200"
    )

// The page to try the model: fills a form from /model.json, asks the model, shows the answer.
"use strict";

const $ = (id) => document.getElementById(id);
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const PERCENT = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const FIGURE = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

let model = null;
let fields = [];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const shown = (value) => (value === null || value === undefined ? "" : String(value));

// A long name may break after _ . and /
const breakable = (name) => name.split(/(?<=[_./])/).flatMap((part, at) => (at ? [element("wbr"), part] : [part]));

function range(column) {
  if (column.low === undefined) return column.nullable ? "may be empty" : "";
  const text = `samples: ${FIGURE.format(column.low)} to ${FIGURE.format(column.high)}`;
  return column.nullable ? `${text}; may be empty` : text;
}

function control(column, id) {
  if (column.kind === "boolean") {
    const select = element("select", { id });
    if (column.nullable) select.append(element("option", { value: "", textContent: "(missing)" }));
    for (const value of ["true", "false"]) select.append(element("option", { value, textContent: value }));
    return select;
  }
  const input = element("input", { id, type: "text", autocomplete: "off", spellcheck: false });
  if (column.kind === "number") input.inputMode = "decimal";
  if (column.kind === "integer") input.inputMode = "numeric";
  if (column.nullable) input.placeholder = "missing";
  if (column.choices) {
    const list = element("datalist", { id: `${id}-choices` });
    for (const value of column.choices) list.append(element("option", { value }));
    document.body.append(list);
    input.setAttribute("list", list.id);
  }
  return input;
}

function makeField(column, number) {
  const id = `column-${number}`;
  const name = model.container === "dataframe" ? column.name : model.flat ? "Value" : `Value ${number + 1}`;
  const input = control(column, id);
  input.dataset.column = column.name;
  const note = element("small", { id: `${id}-note`, textContent: range(column) });
  input.setAttribute("aria-describedby", note.id);
  const box = element("div", { className: "field" }, element("label", { htmlFor: id }, ...breakable(name)), input, note);
  const field = { column, input, note, box, original: "" };
  input.addEventListener("input", () => mark(field));
  return field;
}

function mark(field, problem = "") {
  const changed = field.input.value !== field.original;
  field.box.classList.toggle("wrong", Boolean(problem));
  field.box.classList.toggle("changed", changed && !problem);
  field.input.setAttribute("aria-invalid", problem ? "true" : "false");
  field.note.textContent = problem || (changed ? `sample: ${field.original || "(missing)"}` : range(field.column));
  $("reset").hidden = !fields.some((each) => each.input.value !== each.original);
}

function fill(number) {
  const sample = model.samples[number];
  fields.forEach((field, position) => {
    const value = model.container === "dataframe" ? sample[field.column.name] : model.flat ? sample : sample[position];
    field.original = shown(value);
    field.input.value = field.original;
    mark(field);
  });
}

// A value as the JSON it was typed as: digits are not rounded, and what is no number is sent as
// text, so that the service says in words what it wants.
function literal(field) {
  const text = field.input.value;
  const kind = field.column.kind;
  if (text.trim() === "" && field.column.nullable) return "null";
  if (kind === "boolean") return text;
  if ((kind === "number" || kind === "integer") && NUMBER.test(text.trim())) return text.trim();
  return JSON.stringify(text);
}

function body() {
  const values = fields.map(literal);
  if (model.container !== "dataframe") return `{"data": [${model.flat ? values[0] : `[${values.join(", ")}]`}]}`;
  const pairs = fields.map((field, position) => `${JSON.stringify(field.column.name)}: ${values[position]}`);
  return `{"data": {"values": [{${pairs.join(", ")}}]}}`;
}

async function ask(method, request) {
  let response;
  try {
    response = await fetch(method, { method: "POST", headers: { "Content-Type": "application/json" }, body: request });
  } catch {
    throw { error: "The service cannot be reached. It may be restarting: try again in a moment." };
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw { error: `The service gave an answer that cannot be read (status ${response.status}).` };
  }
  if (!response.ok) throw answer;
  const unseen = JSON.parse(response.headers.get("Slipway-Unseen-Categories") || "{}");
  return { prediction: answer[0], unseen: Object.keys(unseen) };
}

function bars(probabilities, predicted) {
  const classes = model.classes || probabilities.map((_, number) => number);
  const list = element("ul", { className: "bars", ariaLabel: "Probability of each class" });
  probabilities.forEach((share, number) => {
    const bar = element("div", { className: "bar" });
    list.append(
      element(
        "li",
        { className: String(classes[number]) === String(predicted) ? "best" : "" },
        element(
          "div",
          { className: "label" },
          element("span", { textContent: `${classLabel(classes[number])}` }),
          element("span", { textContent: PERCENT.format(share) }),
        ),
        element("div", { className: "track", ariaHidden: "true" }, bar),
      ),
    );
    requestAnimationFrame(() => { bar.style.width = `${100 * share}%`; });
  });
  return list;
}

const classLabel = (value) => (typeof value === "string" ? value : `Class ${value}`);

function outcome(prediction) {
  if (model.task === "classification") return classLabel(prediction);
  if (Array.isArray(prediction)) return prediction.map(outcome).join(", ");
  return typeof prediction === "number" ? FIGURE.format(prediction) : String(prediction);
}

function show(answers, unseen, milliseconds) {
  const prediction = answers.predict;
  const parts = [element("p", { className: "value", textContent: outcome(prediction), title: String(prediction) })];
  const probabilities = answers.predict_proba;
  if (Array.isArray(probabilities) && typeof probabilities[0] === "number") parts.push(bars(probabilities, prediction));
  if (unseen.length) {
    const columns = unseen.map((name) => `${name} = ${fields.find((field) => field.column.name === name).input.value}`);
    parts.push(element("p", { className: "caution", textContent: `The model was not trained on ${columns.join(", ")}.` }));
  }
  parts.push(element("p", { className: "took", textContent: `Answered in ${Math.max(1, Math.round(milliseconds))} ms` }));
  $("result").replaceChildren(...parts);
}

function complain(answer) {
  const text = answer.error || "Something went wrong.";
  $("result").replaceChildren(element("p", { className: "problem", textContent: text }));
  $("result").firstChild.setAttribute("role", "alert");
  for (const problem of answer.detail || []) {
    const last = problem.loc[problem.loc.length - 1];
    const place = model.container === "dataframe" ? fields.findIndex((field) => field.column.name === last) : Number(last);
    if (fields[place] && problem.loc.length > 3) mark(fields[place], `must be ${fields[place].column.expected}`);
  }
  fields.find((field) => field.box.classList.contains("wrong"))?.input.focus();
}

async function attempt(event) {
  event.preventDefault();
  fields.forEach((field) => mark(field));
  const button = $("try");
  button.disabled = true;
  const request = body();
  const start = performance.now();
  try {
    const methods = model.methods.filter((method) => method === "predict" || method === "predict_proba");
    const answers = await Promise.all(methods.map((method) => ask(method, request)));
    const predictions = methods.map((method, number) => [method, answers[number].prediction]);
    show(Object.fromEntries(predictions), answers[0].unseen, performance.now() - start);
  } catch (answer) {
    if (answer instanceof Error) throw answer;
    complain(answer);
  } finally {
    button.disabled = false;
  }
  const quoted = request.replaceAll("'", "'\\''");
  $("command").textContent =
    `curl -H 'Content-Type: application/json' \\\n  -d '${quoted}' \\\n  ${new URL("predict", location.href)}`;
  $("request").hidden = false;
  if (matchMedia("(max-width: 48rem)").matches) $("output-title").scrollIntoView({ block: "start" });
}

function introduce() {
  document.title = `${model.name}: try the model`;
  $("name").textContent = model.name;
  const facts = [];
  if (model.task) facts.push(element("span", { textContent: model.task }));
  facts.push(element("span", { textContent: model.version ? `version ${model.version}` : "not yet released" }));
  if (model.commit) facts.push(element("span", {}, "commit ", element("code", { textContent: model.commit.slice(0, 10), title: model.commit })));
  if (model.environment) facts.push(element("span", { textContent: `environment ${model.environment}` }));
  $("facts").replaceChildren(...facts);
}

async function start() {
  try {
    model = await (await fetch("model.json")).json();
  } catch {
    complain({ error: "The service cannot be reached. Reload this page in a moment." });
    return;
  }
  introduce();
  if (model.private.length) {
    $("hint").textContent = `Values of ${model.private.join(", ")} are made up, all others are of real rows. Change any value.`;
  }
  fields = model.columns.map(makeField);
  $("fields").replaceChildren(...fields.map((field) => field.box));
  model.samples.forEach((_, number) => $("sample").append(element("option", { value: number, textContent: `${number + 1} of ${model.samples.length}` })));
  const choose = (number) => { $("sample").value = number; fill(number); };
  $("sample").addEventListener("change", () => fill(Number($("sample").value)));
  $("another").addEventListener("click", () => choose((Number($("sample").value) + 1) % model.samples.length));
  $("reset").addEventListener("click", () => fill(Number($("sample").value)));
  $("form").addEventListener("submit", attempt);
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  });
  choose(0);
  $("try").disabled = false;
}

start();

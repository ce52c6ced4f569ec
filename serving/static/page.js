// The page to try the model: fills a form from /model.json, asks the model, shows the answer.
"use strict";

const $ = (id) => document.getElementById(id);
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const PERCENT = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const FIGURE3 = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WIDE = 24; // columns; more are filtered
const MOST_BARS = 10;
const FIGURE = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

let model = null;
let fields = [];
let pasted = []; // rows that were pasted, until the form is edited
let isComplete = false; // whether all columns of a wide table are shown

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
  if (column.long) return element("textarea", { id, rows: 3, spellcheck: false, placeholder: column.nullable ? "missing" : "" });
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
  const box = element("div", { className: column.long ? "field long" : "field" }, element("label", { htmlFor: id }, ...breakable(name)), input, note);
  const field = { column, input, note, box, original: "" };
  input.addEventListener("input", () => { pasted = []; mark(field); });
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
  pasted = [];
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

// The request for the form, or for several rows that were pasted.
function body() {
  if (pasted.length > 1) return wrap(pasted.map((row) => JSON.stringify(row)));
  return wrap([formRow()]);
}

const wrap = (rows) =>
  model.container === "dataframe" ? `{"data": {"values": [${rows.join(", ")}]}}` : `{"data": [${rows.join(", ")}]}`;

function formRow() {
  const values = fields.map(literal);
  if (model.container !== "dataframe") return model.flat ? values[0] : `[${values.join(", ")}]`;
  const pairs = fields.map((field, position) => `${JSON.stringify(field.column.name)}: ${values[position]}`);
  return `{${pairs.join(", ")}}`;
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
  return { predictions: answer, unseen };
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
  const parts = [element("p", { className: "value", textContent: withUnit(outcome(prediction)), title: String(prediction) })];
  const probabilities = answers.predict_proba;
  if (Array.isArray(probabilities) && typeof probabilities[0] === "number") parts.push(bars(probabilities, prediction));
  if (unseen.length) {
    const columns = unseen.map((name) => `${name} = ${fields.find((field) => field.column.name === name).input.value}`);
    parts.push(element("p", { className: "caution", textContent: `The model was not trained on ${columns.join(", ")}.` }));
  }
  parts.push(element("p", { className: "took", textContent: `Answered in ${Math.max(1, Math.round(milliseconds))} ms` }));
  $("result").replaceChildren(...parts);
}

const withUnit = (text) => (model.task === "regression" && model.card.unit ? `${text} ${model.card.unit}` : text);

function showSeveral(answer, milliseconds) {
  const rows = answer.predictions.map((prediction, number) =>
    element("tr", {}, element("td", { textContent: number + 1 }), element("td", { textContent: withUnit(outcome(prediction)) })));
  const head = element("tr", {}, element("th", { scope: "col", textContent: "row" }), element("th", { scope: "col", textContent: model.card.target || "prediction" }));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  const parts = [element("div", { className: "several", tabIndex: 0 }, table)];
  const unseen = Object.entries(answer.unseen).map(([name, count]) => `${name} (${count})`);
  if (unseen.length) {
    parts.push(element("p", { className: "caution", textContent: `Rows with a category that the model was not trained on: ${unseen.join(", ")}.` }));
  }
  parts.push(element("p", { className: "took", textContent: `${rows.length} rows answered in ${Math.max(1, Math.round(milliseconds))} ms` }));
  $("result").replaceChildren(...parts);
}

// Lines of CSV as lists of cells; the separator is the one that the first line has most of.
function parseCsv(text) {
  const first = text.split("\n", 1)[0];
  const separator = [",", ";", "\t"].sort((a, b) => first.split(b).length - first.split(a).length)[0];
  const rows = [[""]];
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const row = rows[rows.length - 1];
    const mark = text[at];
    if (isQuoted) {
      if (mark !== '"') row[row.length - 1] += mark;
      else if (text[at + 1] === '"') { row[row.length - 1] += '"'; at += 1; }
      else isQuoted = false;
    } else if (mark === '"' && row[row.length - 1] === "") isQuoted = true;
    else if (mark === separator) row.push("");
    else if (mark === "\n") rows.push([""]);
    else if (mark !== "\r") row[row.length - 1] += mark;
  }
  return rows.filter((row) => row.length > 1 || row[0] !== "");
}

// A cell as what a request has for its column.
function convertCell(cell, column) {
  if (cell.trim() === "" && column.nullable) return null;
  if (column.kind === "boolean" && /^(true|false)$/i.test(cell.trim())) return cell.trim().toLowerCase() === "true";
  if ((column.kind === "number" || column.kind === "integer") && NUMBER.test(cell.trim())) return Number(cell);
  if (column.kind === "number" && column.nullable && /^(na|nan|null|none|n\/a)$/i.test(cell.trim())) return null;
  return cell;
}

function readRows(text) {
  const isTable = model.container === "dataframe";
  if (/^\s*[[{]/.test(text)) {
    const content = JSON.parse(text);
    const inner = content.data?.values || content.data || content;
    const rows = Array.isArray(inner) && (isTable || model.flat || Array.isArray(inner[0])) ? inner : [inner];
    if (!rows.length) throw new Error("there is no row");
    return rows;
  }
  const [header, ...lines] = parseCsv(text.trim());
  if (!isTable) return [header, ...lines].map((cells) => cells.map((cell, at) => convertCell(cell, model.columns[at] || model.columns[0])));
  const absent = model.columns.find((column) => !header.includes(column.name));
  if (absent) throw new Error(`the first line has no column '${absent.name}'`);
  if (!lines.length) throw new Error("there is no row below the line with the names");
  const places = model.columns.map((column) => [column, header.indexOf(column.name)]);
  return lines.map((cells) => Object.fromEntries(places.map(([column, at]) => [column.name, convertCell(cells[at] ?? "", column)])));
}

function takePasted() {
  $("paste-problem").hidden = true;
  try {
    const rows = readRows($("pasted").value);
    pasted = rows;
    fields.forEach((field, position) => {
      const row = rows[0];
      const value = model.container === "dataframe" ? row[field.column.name] : model.flat ? row : row[position];
      field.input.value = shown(value);
      mark(field);
    });
    $("form").requestSubmit();
  } catch (error) {
    $("paste-problem").textContent = `These rows cannot be read: ${error.message}.`;
    $("paste-problem").hidden = false;
  }
}

// Of a wide table the columns that matter most are shown first, and others when they are asked for.
function filterFields() {
  const words = $("filter").value.trim().toLowerCase();
  const limit = isComplete || words ? fields.length : WIDE;
  const ranks = new Map((model.card.importance?.columns || []).map((column, rank) => [column.name, rank]));
  const order = [...fields].sort((a, b) => (ranks.get(a.column.name) ?? fields.length) - (ranks.get(b.column.name) ?? fields.length));
  const chosen = new Set(order.filter((field) => field.column.name.toLowerCase().includes(words)).slice(0, limit));
  for (const field of fields) field.box.hidden = !chosen.has(field) && !field.box.classList.contains("wrong");
  $("fields").classList.toggle("many", chosen.size > WIDE);
  $("all").textContent = isComplete ? "Show fewer" : `Show all ${fields.length}`;
  $("shown").textContent = `${chosen.size} of ${fields.length} columns are shown. All are sent.`;
}

function describeModel() {
  const card = model.card;
  if (card.target) {
    const meaning = card.meaning ? `: ${card.meaning}` : "";
    const unit = card.unit ? `, in ${card.unit}` : "";
    $("purpose").textContent = `Predicts ${card.target}${meaning}${unit}`;
    $("purpose").hidden = false;
    $("output-title").textContent = `Prediction of ${card.target}`;
  }
  const metrics = Object.entries(card.metrics || {});
  for (const [name, value] of metrics) {
    const [low, high] = card.intervals?.[name] || [];
    const interval = low === undefined ? "" : `${FIGURE3.format(low)} to ${FIGURE3.format(high)}`;
    $("metrics").append(element("tr", {}, ...[name, FIGURE3.format(value), interval].map((text) => element("td", { textContent: text }))));
  }
  $("measured").hidden = !metrics.length;
  if (card.rows) $("measured-title").textContent = `Metrics on ${card.rows} test rows`;
  const columns = (card.importance?.columns || []).filter((column) => column.loss > 0).slice(0, MOST_BARS);
  for (const column of columns) {
    const bar = element("div", { className: "bar" });
    bar.style.width = `${(100 * column.loss) / columns[0].loss}%`;
    const label = element("div", { className: "label" }, element("span", {}, ...breakable(column.name)), element("span", { textContent: FIGURE3.format(column.loss) }));
    $("importance").append(element("li", {}, label, element("div", { className: "track", ariaHidden: "true" }, bar)));
  }
  $("mattering").hidden = !columns.length;
  $("importance-note").textContent = `What ${card.importance?.metric} loses if the values of a column are shuffled.`;
  if (model.report) $("report-link").href = model.report;
  $("report").hidden = !model.report;
  $("card").hidden = !metrics.length && !columns.length && !model.report;
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
  if (fields.length > WIDE) filterFields();
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
    const milliseconds = performance.now() - start;
    if (pasted.length > 1) showSeveral(answers[methods.indexOf("predict")] || answers[0], milliseconds);
    else {
      const predictions = methods.map((method, number) => [method, answers[number].predictions[0]]);
      show(Object.fromEntries(predictions), Object.keys(answers[0].unseen), milliseconds);
    }
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
  describeModel();
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
  $("take").addEventListener("click", takePasted);
  $("filter").addEventListener("input", filterFields);
  $("filter").addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  $("all").addEventListener("click", () => { isComplete = !isComplete; filterFields(); });
  $("finder").hidden = fields.length <= WIDE;
  if (fields.length > WIDE) filterFields();
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  });
  choose(0);
  $("try").disabled = false;
}

start();

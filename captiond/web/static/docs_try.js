// A form for each operation. It sends the request and shows the answer as it arrives.

import { at, element } from "./docs_elements.js";

const FORM = "multipart/form-data";
const SHOWN = 200_000; // characters of an answer

export function tryForm(path, method, operation, schemas) {
  const form = element("form", { className: "try" }, element("h3", {}, "Try it"));
  const inputs = (operation.parameters ?? []).map((each) => ({
    ...each, control: control(schemas.plain(each.schema), each.required),
  }));
  for (const each of inputs) form.append(label(each.name, each.control));
  const body = operation.requestBody ? bodyControls(operation.requestBody.content, schemas) : null;
  if (body) form.append(...body.nodes);
  const send = element("button", { type: "submit" }, "Send");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const answer = element("div", { className: "answer" });
  answer.setAttribute("aria-live", "polite");
  form.append(send, stop, answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const aborting = new AbortController();
    stop.onclick = () => aborting.abort();
    send.disabled = !(stop.disabled = false);
    await show(answer, request(path, method, inputs, body), aborting.signal);
    send.disabled = !(stop.disabled = true);
    if (document.activeElement === document.body) send.focus(); // a disabled button loses the focus
  });
  return form;
}

function label(name, field) {
  return element("label", {}, element("code", {}, name), " ", field);
}

function control(schema, required = false) {
  if (schema.format === "binary") return element("input", { type: "file", required });
  if (schema.type === "array" && schema.items?.format === "binary") {
    return element("input", { type: "file", multiple: true, required });
  }
  if (schema.type === "boolean") return element("input", { type: "checkbox" });
  if (schema.enum) {
    const choices = ["", ...schema.enum].map((each) => element("option", {}, each));
    return element("select", { required }, ...choices);
  }
  const field = element("input", { type: "text", required, autocomplete: "off" });
  if (schema.type === "integer" || schema.type === "number") {
    field.type = "number";
    field.step = schema.type === "integer" ? 1 : "any";
    field.min = schema.minimum ?? "";
    field.max = schema.maximum ?? "";
  }
  if (schema.default !== undefined) field.placeholder = String(schema.default);
  return field;
}

// A form has a field for each property. JSON is one field for the whole body.
function bodyControls(content, schemas) {
  if (content[FORM]) {
    const properties = Object.entries(schemas.plain(content[FORM].schema).properties);
    const fields = properties.map(([name, schema]) => ({ name, control: control(schema) }));
    const files = fields.filter((each) => each.control.type === "file");
    const others = fields.filter((each) => each.control.type !== "file");
    const more = element("details", {}, element("summary", {}, "Options"),
      element("div", { className: "inside" }, ...others.map((each) => label(each.name, each.control))));
    return { fields, nodes: [...files.map((each) => label(each.name, each.control)), more] };
  }
  const [[mediaType, { schema, examples }]] = Object.entries(content);
  const example = Object.values(examples ?? {})[0]?.value ?? skeleton(schemas.plain(schema));
  const text = element("textarea", { rows: 8, spellcheck: false, value: JSON.stringify(example, null, 2) });
  return { mediaType, text, nodes: [label("body", text)] };
}

function skeleton(schema) {
  const required = new Set(schema.required ?? []);
  return Object.fromEntries(Object.entries(schema.properties ?? {})
    .filter(([name]) => required.has(name))
    .map(([name, field]) => [name, field.default ?? { array: [], object: {} }[field.type] ?? ""]));
}

function request(path, method, inputs, body) {
  const headers = new Headers(), query = new URLSearchParams();
  if (at("key").value) headers.set("X-API-Key", at("key").value);
  for (const { name, in: place, control: field } of inputs) {
    if (!field.value) continue;
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(field.value));
    else if (place === "query") query.set(name, field.value);
    else headers.set(name, field.value);
  }
  const options = { method: method.toUpperCase(), headers };
  if (body?.fields) options.body = formData(body.fields);
  else if (body) {
    headers.set("Content-Type", body.mediaType);
    options.body = body.text.value;
  }
  const search = query.size ? `?${query}` : "";
  // Relative to this page, so that a proxy may serve captiond under a path of its own.
  return { url: path.slice(1) + search || "./", options };
}

function formData(fields) {
  const data = new FormData();
  for (const { name, control: field } of fields) {
    if (field.type === "file") for (const file of field.files) data.append(name, file);
    else if (field.type === "checkbox") field.checked && data.append(name, "true");
    else if (field.value) data.append(name, field.value);
  }
  return data;
}

async function show(answer, { url, options }, signal) {
  answer.replaceChildren(element("p", {}, "Sending …"));
  try {
    const response = await fetch(url, { ...options, signal });
    const status = element("p", {}, element("span",
      { className: response.ok ? "status" : "status bad" }, `${response.status} ${response.statusText}`));
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const text = element("pre", { tabIndex: 0 });
    answer.replaceChildren(status, element("details", {}, element("summary", {}, "Headers"),
      element("pre", { tabIndex: 0 }, headers)), text);
    await fill(text, response);
  } catch (error) {
    const stopped = error.name === "AbortError";
    answer.append(element("p", { className: "error" }, stopped ? "Stopped." : `No answer: ${error.message}`));
  }
}

async function fill(text, response) {
  if (response.body === null) return;
  let received = "";
  for await (const part of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    received += part;
    text.textContent = received.slice(0, SHOWN);
  }
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    text.textContent = JSON.stringify(JSON.parse(received), null, 2).slice(0, SHOWN);
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

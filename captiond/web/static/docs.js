// This page shows openapi.json, and sends the requests that are filled into its forms.
// All text of the document becomes text nodes, never HTML.

import { tryForm } from "./docs_try.js";
import { element, inside, markdown, at } from "./docs_elements.js";
import { Schemas, fieldList } from "./docs_schemas.js";

const USUAL_ADDRESS = "http://localhost:8000";
const METHODS = ["get", "post", "put", "patch", "delete"];

async function start() {
  let api;
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    api = await response.json();
  } catch (error) {
    at("message").className = "error";
    at("message").textContent = `The description of the API cannot be loaded: ${error.message}`;
    return;
  }
  at("message").remove();
  at("version").textContent = api.info.version;
  at("introduction").append(...markdown(api.info.description));
  const schemas = new Schemas(api);
  for (const tag of api.tags) at("operations").append(group(api, tag, schemas));
  at("schemas").append(...schemas.all().map(([name, schema]) => type(name, schema, schemas)));
  at("schemas").hidden = false;
  at("filter").addEventListener("input", filter);
  addEventListener("hashchange", openLinked);
  openLinked();
}

function group(api, tag, schemas) {
  const section = element("section", { className: "group" });
  section.append(element("h2", {}, tag.name), ...markdown(tag.description));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (operation?.tags.includes(tag.name)) {
        section.append(entry(path, method, operation, schemas));
      }
    }
  }
  return section;
}

// The content is made when the entry is opened for the first time.
function entry(path, method, operation, schemas) {
  const details = element("details", { className: "operation", id: operation.operationId });
  details.dataset.text = JSON.stringify([path, method, operation]).toLowerCase();
  details.append(element("summary", {},
    element("span", { className: `method ${method}` }, method.toUpperCase()),
    element("code", { className: "path" }, path),
    element("span", {}, operation.summary)));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(inside(...content(path, method, operation, schemas)));
    }
  });
  return details;
}

function content(path, method, operation, schemas) {
  // The form comes first: what follows it is several screens long.
  const nodes = [...markdown(operation.description ?? ""), tryForm(path, method, operation, schemas)];
  if (operation.parameters) {
    nodes.push(element("h3", {}, "Parameters"), parameters(operation.parameters, schemas));
  }
  if (operation.requestBody) nodes.push(...requestBody(operation.requestBody, schemas));
  for (const sample of operation["x-codeSamples"] ?? []) {
    nodes.push(element("h3", {}, sample.label), element("pre", { tabIndex: 0 }, here(sample.source)));
  }
  nodes.push(element("h3", {}, "Responses"));
  for (const [status, response] of Object.entries(operation.responses)) {
    nodes.push(responseEntry(status, response, schemas));
  }
  const codes = operation["x-image-error-codes"];
  if (codes) {
    nodes.push(element("h3", {}, "Errors of single images"));
    nodes.push(...markdown(`The result of an image can have one of these codes: ${
      codes.map((code) => `\`${code}\``).join(", ")}.`));
  }
  return nodes;
}

// The commands of the document name the usual address. This page knows the real one.
function here(source) {
  return source.replaceAll(USUAL_ADDRESS, new URL(".", location.href).href.replace(/\/$/, ""));
}

function parameters(list, schemas) {
  const fields = {}, required = [];
  for (const each of list) {
    const where = `In the ${each.in}. ${each.description}`;
    fields[each.name] = { ...schemas.plain(each.schema), description: where };
    if (each.required) required.push(each.name);
  }
  return fieldList({ properties: fields, required }, schemas);
}

function requestBody(body, schemas) {
  const nodes = [element("h3", {}, "Body"), ...markdown(body.description ?? "")];
  for (const [mediaType, { schema }] of Object.entries(body.content)) {
    nodes.push(element("h4", {}, mediaType), fieldList(schemas.plain(schema), schemas));
  }
  return nodes;
}

function responseEntry(status, response, schemas) {
  const details = element("details", {}, element("summary", {},
    element("span", { className: Number(status) < 400 ? "status" : "status bad" }, status), " ",
    ...summaryOf(response.description)));
  const box = inside(...markdown(response.description));
  const headers = Object.fromEntries(Object.entries(response.headers ?? {})
    .map(([name, header]) => [name, schemas.header(header)]));
  box.append(element("h4", {}, "Headers"), fieldList({ properties: headers }, schemas));
  for (const [mediaType, media] of Object.entries(response.content ?? {})) {
    box.append(element("h4", {}, mediaType), fieldList(schemas.plain(media.schema), schemas));
    if (media["x-item-schema"]) {
      box.append(element("h4", {}, "Each line or event"),
        fieldList(schemas.plain(media["x-item-schema"]), schemas));
    }
    for (const example of Object.values(media.examples ?? {})) {
      const { value } = example;
      const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
      box.append(element("h4", {}, `Example: ${example.summary}`), element("pre", { tabIndex: 0 }, text));
    }
  }
  details.append(box);
  return details;
}

// The codes of an error stand in a list; the summary has their names.
function summaryOf(description) {
  const codes = [...description.matchAll(/^- `(\w+)`/gm)].map((found) => found[1]);
  const text = description.split("\n")[0];
  const sentence = text.startsWith("- ") ? "" : `${text} `;
  return [sentence, ...codes.flatMap((code) => [element("code", {}, code), " "])];
}

function type(name, schema, schemas) {
  return element("details", { id: `type-${name}` }, element("summary", {}, name),
    inside(...markdown(schema.description ?? ""), fieldList(schema, schemas)));
}

function filter() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const each of document.querySelectorAll(".operation")) {
    each.hidden = !words.every((word) => each.dataset.text.includes(word));
  }
  for (const each of document.querySelectorAll(".group")) {
    each.hidden = each.querySelector(".operation:not([hidden])") === null;
  }
}

function openLinked() {
  const linked = at(decodeURIComponent(location.hash.slice(1)));
  if (linked?.tagName === "DETAILS") {
    linked.open = true;
    linked.scrollIntoView();
  }
}

start();

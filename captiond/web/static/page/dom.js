// Elements. All text becomes text nodes, never HTML: names and captions come from elsewhere.

export const at = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

// A symbol of the page's sprite. It is decoration: the button around it has a text or a label.
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function button(text, onclick, properties = {}) {
  return element("button", { type: "button", onclick, ...properties }, text);
}

export function iconButton(name, label, onclick, className = "icon-button") {
  const made = element("button", { type: "button", className, title: label, onclick }, icon(name));
  made.setAttribute("aria-label", label);
  return made;
}

let saying;

// Tells a screen reader, and shows the sentence for a moment.
export function say(text) {
  at("toast").textContent = text;
  at("toast").classList.add("shown");
  clearTimeout(saying);
  saying = setTimeout(() => at("toast").classList.remove("shown"), 4000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text); // without TLS there is no navigator.clipboard, unless the host is this machine
  }
  say(`Copied: ${what}`);
}

function copyOldWay(text) {
  const field = element("textarea", { value: text, className: "visually-hidden" });
  const place = document.querySelector("dialog[open]") ?? document.body;
  const before = document.activeElement;
  place.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  before?.focus();
}

// Gives a file to the browser's downloads.
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
}

// One image, larger, with all that the service says about it.

import { at, button, copy, element, icon } from "./dom.js";
import { showBlob } from "./thumbnails.js";
import { digits, percent, size } from "./wording.js";

export class DetailsDialog {
  #dialog = at("details");
  #items = [];
  #item;

  constructor(matches) {
    this.matches = matches;
    at("details-close").addEventListener("click", () => this.#dialog.close());
    at("details-previous").addEventListener("click", () => this.#step(-1));
    at("details-next").addEventListener("click", () => this.#step(1));
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#step(-1);
      if (event.key === "ArrowRight") this.#step(1);
    });
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#dialog.close(); // beside the content
    });
  }

  open(item, items) {
    this.#items = items;
    this.#fill(item);
    this.#dialog.showModal();
  }

  // The item has changed while it is shown.
  update(item) {
    if (this.#dialog.open && item === this.#item) this.#fill(item);
  }

  #step(by) {
    for (let n = this.#item.index + by; this.#items[n]; n += by) {
      if (this.matches(this.#items[n])) return this.#fill(this.#items[n]);
    }
  }

  #fill(item) {
    const changed = item !== this.#item;
    this.#item = item;
    at("details-title").textContent = item.name || `Image ${item.index + 1}`;
    if (changed || !at("details-picture").hasChildNodes()) this.#picture(item);
    at("details-facts").replaceChildren(...facts(item));
  }

  // The file itself if the page has it, otherwise the thumbnail.
  #picture(item) {
    const place = at("details-picture"), none = () => place.replaceChildren(element("span", { className: "placeholder" }, icon("image")));
    const blob = item.file ?? item.thumbnail;
    none();
    if (!(blob instanceof Blob)) return;
    const picture = element("img", { alt: item.result?.caption ?? "" });
    showBlob(picture, blob, none);
    place.replaceChildren(picture);
  }
}

function facts(item) {
  const { result, reason } = item;
  if (!result || result.error !== null) {
    return [element("p", { className: reason ? "reason" : "state" }, reason ?? "There is no caption yet."),
      ...(result ? [list([["code", result.code]])] : [])];
  }
  return [
    element("p", { className: "caption" }, result.caption),
    ...(result.alt_text && result.alt_text !== result.caption ? [element("p", {}, `Alternative text: ${result.alt_text}`)] : []),
    element("p", { className: "row" }, button("Copy caption", () => copy(result.caption, result.caption)),
      button("Copy tags", () => copy(result.tags.join(", "), "the tags"))),
    ...others(result),
    tagTable(result.tag_details),
    list([
      ["Model", result.model],
      ["Confidence", result.confidence === null ? "not known" : percent(result.confidence)],
      ["Score", result.score === null ? "not known" : `${digits(result.score)} (mean log-probability)`],
      ["From the cache", result.cached ? "yes" : "no"],
      ["Size", `${result.width} × ${result.height} pixels${item.size ? `, ${size(item.size)}` : ""}`],
      ["SHA-256", result.sha256 ?? "not known"],
    ]),
  ];
}

function others({ captions }) {
  if (!captions) return [];
  return [element("h3", {}, "All captions"), element("ol", {}, ...captions.map((each) => element("li", {},
    each.caption, " ", element("span", { className: "muted" }, each.score === null ? "" : digits(each.score)))))];
}

function tagTable(tags) {
  if (tags.length === 0) return element("p", { className: "muted" }, "The caption has no tags.");
  const rows = tags.map((tag) => element("tr", {}, element("td", {}, tag.tag), element("td", {}, tag.category),
    element("td", {}, tag.confidence === null ? "" : percent(tag.confidence))));
  const heads = ["Tag", "Category", "Sure"].map((text) => element("th", { scope: "col" }, text));
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
}

function list(pairs) {
  return element("dl", {}, ...pairs.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));
}

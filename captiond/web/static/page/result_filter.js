// Which images are shown: those with a word, a category, or a state.

import { at, element } from "./dom.js";
import { number } from "./wording.js";

const SHOWN = {
  "": () => true,
  done: (item) => item.state === "done",
  failed: (item) => item.state === "failed",
  open: (item) => !["done", "failed"].includes(item.state),
};

export class ResultFilter {
  #categories = new Map(); // how many images have a tag of it
  #counted = new WeakSet();

  constructor(onChange) {
    for (const [id, kind] of [["filter-words", "input"], ["filter-category", "change"], ["filter-state", "change"]]) {
      at(id).addEventListener(kind, onChange);
    }
    at("filter-clear").addEventListener("click", () => {
      this.clear();
      onChange();
      at("filter-words").focus();
    });
  }

  clear() {
    for (const id of ["filter-words", "filter-category", "filter-state"]) at(id).value = "";
  }

  // Shows only images with this tag.
  pick(tag) {
    at("filter-words").value = `"${tag}"`;
  }

  get active() {
    return Boolean(at("filter-words").value.trim() || at("filter-category").value || at("filter-state").value);
  }

  // A text in quotation marks is a whole tag. Words may be parts of the caption, a tag or the name.
  matches(item) {
    const words = at("filter-words").value.trim().toLowerCase(), category = at("filter-category").value;
    if (!SHOWN[at("filter-state").value](item)) return false;
    const { result } = item;
    if (category && !result?.tag_details?.some((tag) => tag.category === category)) return false;
    const tags = result?.tags ?? [];
    if (/^".*"$/.test(words)) return tags.includes(words.slice(1, -1));
    const text = `${item.name} ${result?.caption ?? ""} ${tags.join(" ")}`.toLowerCase();
    return words.split(/\s+/).every((word) => text.includes(word));
  }

  reset() {
    this.clear();
    this.#categories.clear();
    this.#counted = new WeakSet();
    this.#showCategories();
  }

  count(item) {
    if (!item.result?.tag_details || this.#counted.has(item.result)) return;
    this.#counted.add(item.result);
    const before = this.#categories.size;
    for (const category of new Set(item.result.tag_details.map((tag) => tag.category))) {
      this.#categories.set(category, (this.#categories.get(category) ?? 0) + 1);
    }
    if (this.#categories.size !== before) this.#showCategories();
  }

  #showCategories() {
    const field = at("filter-category"), chosen = field.value;
    field.replaceChildren(element("option", { value: "" }, "All categories"),
      ...[...this.#categories.keys()].sort().map((name) => element("option", { value: name }, name)));
    field.value = this.#categories.has(chosen) ? chosen : "";
  }

  report(items) {
    at("filter-clear").hidden = !this.active;
    const shown = this.active ? items.filter((item) => this.matches(item)).length : items.length;
    at("filter-count").textContent = this.active ? `${number(shown)} of ${number(items.length)} shown` : "";
  }
}

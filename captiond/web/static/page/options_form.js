// The options of a request. Those that the model does not support are left out.

import { at, element } from "./dom.js";

const OPTIONS = [
  { name: "prompt", label: "Begin each caption with", type: "text", placeholder: "a photograph of", wide: true },
  { name: "num_captions", label: "Captions for each image", type: "number", min: 1, max: 5, placeholder: "1" },
  { name: "num_beams", label: "Beams", type: "number", min: 1, max: 8, hint: "More are slower and often better." },
  { name: "max_new_tokens", label: "Longest caption, in tokens", type: "number", min: 1, max: 100 },
  { name: "context", label: "What is known about the images", type: "text", placeholder: "names: Ada, Ben; place: Lisbon", maxLength: 500, wide: true },
  { name: "no_repeat_ngram_size", label: "Tokens in a row that occur only once", type: "number", min: 0, max: 100, hint: "0: no limit." },
  { name: "vocabulary", label: "Tags to choose from", type: "text", placeholder: "cat, dog, red bicycle", wide: true },
  { name: "language", label: "Language of the tags", choices: (info) => info.tags.languages },
  { name: "caption_language", label: "Language of the captions", choices: (info) => info.caption_languages },
  { name: "tag_kinds", label: "Kind of tags", choices: (info) => info.tags.kinds },
  { name: "tag_deny", label: "Tags to leave out", type: "text", placeholder: "person, *ground" },
  { name: "no_cache", label: "Caption images anew that were captioned before", type: "checkbox", wide: true },
];

export class OptionsForm {
  #known = "";

  // Called again when another model runs. What is filled in stays.
  show(info) {
    const shown = OPTIONS.filter((each) => info.options.includes(each.name) && !(each.choices?.(info).length < 2));
    const known = JSON.stringify([shown, info.tags, info.caption_languages]);
    if (known === this.#known) return;
    this.#known = known;
    const before = this.values;
    at("option-fields").replaceChildren(...shown.map((each) => label(each, info)));
    this.#fill(before);
    at("options").hidden = shown.length === 0;
  }

  get #fields() {
    return [...at("option-fields").querySelectorAll("input, select")];
  }

  // The fields of the form of a request; one that is empty is not sent.
  get values() {
    const pairs = this.#fields.map((each) => [each.name, each.type === "checkbox" ? (each.checked ? "true" : "") : each.value.trim()]);
    return Object.fromEntries(pairs.filter(([, value]) => value !== ""));
  }

  get valid() {
    const wrong = this.#fields.find((each) => !each.checkValidity());
    if (wrong) {
      at("options").open = true;
      wrong.reportValidity();
    }
    return !wrong;
  }

  #fill(values) {
    for (const each of this.#fields) {
      if (each.type === "checkbox") each.checked = each.name in values;
      else each.value = values[each.name] ?? "";
    }
  }
}

function label({ name, label: text, hint, wide, choices, ...properties }, info) {
  const field = choices
    ? element("select", { name }, element("option", { value: "" }, "as the service is set up"),
      ...choices(info).map((each) => element("option", { value: each }, each)))
    : element("input", { name, autocomplete: "off", ...properties });
  const checkbox = properties.type === "checkbox";
  return element("label", { className: `${wide ? "wide" : ""} ${checkbox ? "check" : ""}` },
    ...(checkbox ? [field, text] : [element("span", {}, text), field]),
    ...(hint ? [element("small", {}, hint)] : []));
}

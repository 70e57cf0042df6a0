// One image of the grid.

import { element, icon, iconButton, copy } from "./dom.js";
import { showBlob } from "./thumbnails.js";
import { digits, percent } from "./wording.js";

const STATES = {
  chosen: "", sending: "Sending …", waiting: "Waiting …", unsent: "Not sent", closed: "No caption", failed: "No caption",
};

export class ResultCard {
  #item;
  #callbacks; // open, pick (a tag), remove
  #shown = "";

  constructor(item, callbacks) {
    this.#item = item;
    this.#callbacks = callbacks;
    this.image = element("span", { className: "picture" });
    this.thumb = element("button", { type: "button", className: "thumb", onclick: () => callbacks.open(item) }, this.image);
    this.text = element("div", { className: "text" });
    this.node = element("li", { className: "card" }, this.thumb, this.text);
    this.node.card = this;
    this.update();
  }

  get item() {
    return this.#item;
  }

  update() {
    const { name, state, index, result } = this.#item;
    const now = [name, state, index, result?.sha256, this.#item.reason].join("\n");
    if (now === this.#shown) return;
    this.#shown = now;
    this.node.dataset.state = state;
    this.thumb.setAttribute("aria-label", `Image ${index + 1}: ${name || "name not known yet"}. Show more.`);
    this.text.replaceChildren(...this.#content(), this.#name());
    if (this.#item.thumbnail === false) this.placeholder();
  }

  // The picture is loaded when the card comes near the screen.
  show() {
    const { thumbnail } = this.#item;
    if (!(thumbnail instanceof Blob)) {
      if (thumbnail === false) this.placeholder();
      return thumbnail === false;
    }
    const picture = element("img", { alt: "", decoding: "async" });
    showBlob(picture, thumbnail, () => this.placeholder());
    this.image.replaceChildren(picture);
    return true;
  }

  placeholder() {
    const [, ending] = /\.(\w{1,5})$/.exec(this.#item.name) ?? [];
    this.image.replaceChildren(element("span", { className: "placeholder" }, icon("image"), ending?.toUpperCase() ?? ""));
  }

  #content() {
    const { state, result, reason } = this.#item;
    if (state === "done") {
      return [element("p", { className: "caption" }, result.caption), ...this.#tags(), this.#score(), this.#actions()];
    }
    if (state === "chosen") {
      return [iconButton("close", `Remove ${this.#item.name}`, () => this.#callbacks.remove(this.#item), "icon-button remove")];
    }
    return [
      element("p", { className: "state" }, ...(state === "failed" ? [icon("alert")] : []), STATES[state]),
      ...(reason ? [element("p", { className: "reason" }, reason)] : []),
    ];
  }

  #tags() {
    const { tags } = this.#item.result;
    if (tags.length === 0) return [];
    const list = element("ul", { className: "tags" });
    list.setAttribute("aria-label", "Tags");
    list.append(...tags.map((tag) => element("li", {}, element("button", {
      type: "button", className: "tag", title: `Show images with the tag ${tag}`, onclick: () => this.#callbacks.pick(tag),
    }, tag))));
    return [list];
  }

  #score() {
    const { confidence, score, model } = this.#item.result;
    const sure = confidence === null ? "" : `${percent(confidence)} sure · `;
    return element("p", { className: "score" }, `${sure}score ${score === null ? "not known" : digits(score)} · ${model}`);
  }

  #actions() {
    const { caption, tags } = this.#item.result;
    return element("div", { className: "actions" },
      iconButton("copy", `Copy the caption of image ${this.#item.index + 1}`, () => copy(caption, caption)),
      iconButton("tags", `Copy the tags of image ${this.#item.index + 1}`, () => copy(tags.join(", "), "the tags")));
  }

  #name() {
    const { name, index } = this.#item;
    return element("p", { className: "name", title: name },
      element("span", { className: "number" }, `${index + 1}`), " ", element("span", {}, name || "…"));
  }
}

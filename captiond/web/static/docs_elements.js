// Elements of the page of the API, and the part of Markdown that its texts use.

import { at, element } from "./page/dom.js";

export { at, element };

export const inside = (...children) => element("div", { className: "inside" }, ...children);

// Paragraphs, lists with "- ", **bold** and `code`.
export function markdown(text) {
  const nodes = [];
  for (const block of text.split(/\n{2,}/).map((each) => each.trim()).filter(Boolean)) {
    if (block.startsWith("- ")) {
      const items = block.split(/\n(?=- )/).map((item) => element("li", {}, ...inline(item.slice(2))));
      nodes.push(element("ul", {}, ...items));
    } else {
      nodes.push(element("p", {}, ...inline(block)));
    }
  }
  return nodes;
}

export function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).filter(Boolean).map((part) => {
    if (part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    return part;
  });
}

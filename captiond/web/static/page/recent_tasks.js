// The list of tasks that this browser has sent or shown. Only this browser has it.

import { BASE } from "./api_client.js";
import { forget, forgetThumbnails, loadThumbnail } from "./browser_store.js";
import { at, element, iconButton, icon } from "./dom.js";
import { showBlob } from "./thumbnails.js";
import { ago, images } from "./wording.js";

const STORED = `captiond.recent ${BASE.pathname}`;
const MOST = 30, MOST_PICTURES = 5000; // older tasks lose their thumbnails

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORED)) ?? [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(STORED, JSON.stringify(entries));
  } catch { // it is full, or this browser keeps nothing: the list is a convenience
  }
}

export class RecentTasks {
  #current;
  #shown = ""; // the ids of the rows

  constructor() {
    addEventListener("storage", (event) => event.key === STORED && this.draw());
    at("recent-clear").addEventListener("click", () => {
      for (const { ids } of read()) forget(ids[0]);
      write([]);
      this.draw();
    });
  }

  // Puts a batch on the list, or brings its entry up to date.
  note(batch) {
    const { total, done, failed } = batch.counts, ids = batch.tasks.map((task) => task.id);
    const others = read().filter((entry) => entry.ids[0] !== ids[0]);
    const entry = { ids, total, done, failed, finished: batch.finished, created: batch.created, name: batch.items[0]?.name ?? "" };
    const entries = [entry, ...others].sort((a, b) => b.created - a.created);
    for (const old of entries.splice(MOST)) forget(old.ids[0]);
    let pictures = 0;
    for (const each of entries) {
      pictures += each.total;
      if (pictures > MOST_PICTURES && each.ids[0] !== ids[0] && !each.bare) {
        each.bare = true;
        forgetThumbnails(each.ids[0]);
      }
    }
    write(entries);
    this.draw();
  }

  // The batch that is shown now.
  mark(id) {
    this.#current = id;
    this.draw();
  }

  draw() {
    const entries = read(), shown = entries.map(({ ids }) => ids[0]).join();
    at("recent").hidden = entries.length === 0;
    // The rows stay if they can: a new one would not have the focus.
    if (shown !== this.#shown) at("recent-list").replaceChildren(...entries.map(row));
    this.#shown = shown;
    entries.forEach((entry, n) => this.#update(at("recent-list").children[n], entry));
  }

  #update(line, { ids, total, failed, done, finished, name, created }) {
    const link = line.querySelector("a"), [title, file, state] = link.lastChild.children;
    const text = finished ? (failed ? `${failed} without a caption` : "finished") : `${done + failed} of ${total} finished`;
    link.href = `#${ids.join(",")}`;
    title.textContent = images(total);
    file.textContent = name;
    state.textContent = `${ago(created)} · ${text}`;
    line.lastChild.setAttribute("aria-label", `Remove ${images(total)} from the list`);
    line.lastChild.onclick = () => {
      forget(ids[0]);
      write(read().filter((each) => each.ids[0] !== ids[0]));
      this.draw();
    };
    if (ids[0] === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function row({ ids, bare }) {
  const picture = element("span", { className: "mini" }, icon("image"));
  if (!bare) showFirst(ids[0], picture);
  const texts = ["strong", "span", "span"].map((tag) => element(tag, { className: tag === "span" ? "muted" : "" }));
  return element("li", {}, element("a", {}, picture, element("span", {}, ...texts)), iconButton("close", "Remove"));
}

async function showFirst(id, place) {
  const blob = await loadThumbnail(id, 0);
  if (!blob) return;
  const image = element("img", { alt: "" });
  showBlob(image, blob);
  place.replaceChildren(image);
}

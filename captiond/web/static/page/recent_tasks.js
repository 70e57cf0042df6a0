// The list of tasks that this browser has sent or shown. Only this browser has it.

import { BASE } from "./api_client.js";
import { forget, forgetThumbnails, loadThumbnails } from "./browser_store.js";
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
    const entries = read();
    at("recent").hidden = entries.length === 0;
    at("recent-list").replaceChildren(...entries.map((entry) => this.#row(entry)));
  }

  #row(entry) {
    const { ids, total, failed, done, finished, name, created } = entry;
    const picture = element("span", { className: "mini" }, icon("image"));
    if (!entry.bare) showFirst(ids[0], picture);
    const state = finished ? (failed ? `${failed} without a caption` : "finished") : `${done + failed} of ${total} finished`;
    const link = element("a", { href: `#${ids.join(",")}` }, picture, element("span", {},
      element("strong", {}, images(total)), element("span", { className: "muted" }, name),
      element("span", { className: "muted" }, `${ago(created)} · ${state}`)));
    if (ids[0] === this.#current) link.setAttribute("aria-current", "page");
    return element("li", {}, link, iconButton("close", `Remove ${images(total)} from the list`, () => {
      forget(ids[0]);
      write(read().filter((each) => each.ids[0] !== ids[0]));
      this.draw();
    }));
  }
}

const firstPictures = new Map(); // of this page's life; the list is drawn often

async function showFirst(id, place) {
  if (!firstPictures.get(id)) firstPictures.set(id, (await loadThumbnails(id, 0)).get(0));
  const blob = firstPictures.get(id);
  if (!blob) return;
  const image = element("img", { alt: "" });
  showBlob(image, blob);
  place.replaceChildren(image);
}

// The batch that is shown: what can be done with it, how far it is, and its images.

import { at, button, element, say } from "./dom.js";
import { download, FORMATS } from "./downloads.js";
import { DetailsDialog } from "./details_dialog.js";
import { ResultFilter } from "./result_filter.js";
import { ResultGrid } from "./result_grid.js";
import { TimeLeft } from "./time_left.js";
import { duration, images, number, size } from "./wording.js";

const BRIEF_MS = 3000; // a task that was finished before it was opened is no news

export class TaskView {
  #batch = null;
  #abort;
  #left = new TimeLeft();
  #client;
  #finished = false;
  #said = 0;
  #shown = 0;

  constructor(client, thumbnails, actions) {
    this.#client = client;
    this.filter = new ResultFilter(() => this.#grid.refilter());
    this.#details = new DetailsDialog((item) => this.filter.matches(item));
    this.#grid = new ResultGrid(at("grid"), {
      thumbnails,
      filter: this.filter,
      onFiltered: () => this.filter.report(this.#batch.items),
      callbacks: {
        open: (item) => this.#details.open(item, this.#batch.items),
        remove: (item) => this.#remove(item),
        pick: (tag) => {
          this.filter.pick(tag);
          this.#grid.refilter();
          at("toolbar").scrollIntoView({ block: "nearest" });
        },
      },
    });
    at("send").addEventListener("click", actions.send);
    at("discard").addEventListener("click", actions.leave);
    at("leave").addEventListener("click", actions.leave);
    at("cancel").addEventListener("click", () => this.#run(actions.cancel));
    at("retry").addEventListener("click", () => this.#run(actions.retry));
    at("with-score").addEventListener("change", (event) => at("grid").classList.toggle("with-score", event.target.checked));
    at("download-list").append(...FORMATS.map(([format, text]) => element("li", {}, button(text, () => {
      at("download").open = false;
      return this.#run(() => download(client, this.#batch, format));
    }))));
    addEventListener("click", (event) => at("download").contains(event.target) || (at("download").open = false));
    at("download").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      at("download").open = false;
      at("download").firstElementChild.focus();
    });
  }

  #details;
  #grid;

  show(batch) {
    this.#abort?.abort();
    this.#abort = new AbortController();
    this.#batch = batch;
    this.#left = new TimeLeft();
    this.#finished = batch?.finished ?? false;
    this.#said = 0;
    this.#shown = performance.now();
    at("batch").hidden = !batch;
    document.body.classList.toggle("empty", !batch);
    document.title = "captiond";
    if (!batch) return at("grid").replaceChildren();
    this.filter.reset();
    const { signal } = this.#abort;
    batch.addEventListener("item", ({ detail }) => this.#changed(detail), { signal });
    batch.addEventListener("items", () => this.#restructured(), { signal });
    batch.addEventListener("state", () => this.#later(), { signal });
    this.#grid.show(batch);
    for (const item of batch.items) this.filter.count(item);
    this.#draw();
  }

  // A thumbnail is ready.
  pictureReady(item) {
    if (this.#batch?.items[item.index] === item) this.#grid.update(item);
  }

  #changed(item) {
    this.filter.count(item);
    this.#details.update(item);
    this.#grid.update(item);
    this.#later();
  }

  #restructured() {
    this.#grid.restructure();
    this.#later();
  }

  #remove(item) {
    const { index } = item;
    this.#batch.remove(item);
    const next = at("grid").children[Math.min(index, at("grid").children.length - 1)];
    next?.querySelector(".remove")?.focus();
  }

  async #run(action) {
    this.#error("");
    try {
      await action();
    } catch (error) {
      this.#error(error.message);
    }
  }

  #error(text) {
    at("action-problem").textContent = text;
  }

  #frame = 0;

  #later() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const batch = this.#batch;
    if (!batch) return;
    const { total, done, failed } = batch.counts, open = batch.running && !batch.finished;
    at("batch-title").textContent = total ? images(total) : "Task";
    at("batch-state").textContent = this.#state(batch);
    for (const id of ["send", "discard"]) at(id).hidden = batch.running;
    at("send-text").textContent = `Caption ${images(total)}`;
    at("send").disabled = total === 0;
    at("options").classList.toggle("away", batch.running);
    at("cancel").hidden = !open;
    at("leave").hidden = !batch.running;
    at("retry").hidden = batch.retryable.length === 0;
    for (const id of ["toolbar", "download"]) at(id).hidden = done + failed === 0;
    at("snippets").hidden = !batch.running || total === 0;
    this.#progress(batch, done + failed, total, open);
    at("batch-problem").textContent = batch.problem;
    this.#announce(done + failed, total, open, failed);
  }

  #state(batch) {
    const { done, failed, closed, unsent } = batch.counts;
    if (!batch.running) return size(batch.items.reduce((sum, item) => sum + item.size, 0));
    const parts = [`${number(done)} captioned`, failed && `${number(failed)} failed`,
      closed && `${number(closed)} without a result`, unsent && `${number(unsent)} not sent`];
    return parts.filter(Boolean).join(" · ");
  }

  #progress(batch, finished, total, open) {
    const { bytes, total: all, done } = batch.sent;
    at("upload-row").hidden = done || all === 0;
    at("upload").max = all || 1;
    at("upload").value = bytes;
    at("upload-text").textContent = `Sent ${size(bytes)} of ${size(all)}`;
    at("progress-row").hidden = !open;
    at("progress").max = total || 1;
    at("progress").value = finished;
    this.#left.add(finished);
    const seconds = this.#left.seconds(total);
    const ahead = Math.max(0, ...batch.tasks.map((task) => task.ahead ?? 0));
    const waits = finished === 0 && ahead > 0 ? ` · waits behind ${images(ahead)} of other tasks` : "";
    const left = seconds === null ? waits : ` · ${duration(seconds)} left`;
    at("progress-text").textContent = `${number(finished)} of ${number(total)} finished${left}`;
    document.title = open && total ? `${Math.floor(100 * finished / total)} % · captiond` : "captiond";
  }

  // A screen reader hears of each tenth, and of the end.
  #announce(finished, total, open, failed) {
    const tenth = Math.floor(10 * finished / total);
    if (open && tenth > this.#said) at("announcement").textContent = `${finished} of ${images(total)} finished`;
    this.#said = tenth;
    const seen = this.#batch.items[0]?.file || performance.now() - this.#shown > BRIEF_MS;
    if (!open && this.#batch.running && !this.#finished && seen) {
      say(failed ? `Finished. ${images(failed)} failed.` : "Finished");
    }
    this.#finished = !open && this.#batch.running;
  }
}

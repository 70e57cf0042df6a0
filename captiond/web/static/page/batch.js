// The images that are captioned together, and the tasks that they are sent as. A large batch is
// more than one task, because a request may have only so many files.
//
// The events: "items" (some were added or removed), "item" (one has changed), "state".

export const FINAL = ["COMPLETED", "FAILED", "CANCELLED"];

// Codes of images that can be captioned again; the service has the same list.
export const RETRYABLE = ["poison_image", "image_too_slow", "too_much_memory", "out_of_memory", "spool_error"];

export class Batch extends EventTarget {
  items = [];
  tasks = [];
  options = {};
  created = Date.now();
  running = false; // it has been sent, or begun to be
  sent = { bytes: 0, total: 0, done: true };
  problem = ""; // what holds it up, for people

  // ---------------------------------------------------------------- images

  add(found) {
    const items = found.map(({ file, path }) => ({ name: path, size: file.size, file, state: "chosen" }));
    this.items.push(...items);
    this.#number();
    return items;
  }

  remove(item) {
    this.items.splice(item.index, 1);
    this.#number();
  }

  #number() {
    this.items.forEach((item, index) => { item.index = index; });
    this.#emit("items");
  }

  change(item, changes) {
    Object.assign(item, changes);
    this.#emit("item", item);
  }

  // ---------------------------------------------------------------- tasks

  accepted(id, items) {
    const task = { id, items: items.map((item) => item.index), status: "PENDING" };
    this.tasks.push(task);
    for (const item of items) this.change(item, { state: "waiting" });
    this.changed();
    return task;
  }

  // The images of a task of which this browser knows nothing but its id.
  described(task, total) {
    const first = this.items.length;
    task.items = Array.from({ length: total }, (_, n) => first + n);
    for (const index of task.items) this.items.push({ index, state: "waiting", name: "", thumbnail: false });
    this.#emit("items");
  }

  take(task, { position, ...result }) {
    const item = this.items[task.items[position]];
    if (!item) return;
    const state = result.error === null ? "done" : "failed";
    this.change(item, { state, result, reason: result.error, name: item.name || result.image_path });
  }

  // The images without a result get none any more, for this reason.
  closed(task, reason) {
    for (const index of task.items ?? []) {
      const item = this.items[index];
      if (item.state === "waiting") this.change(item, { state: "closed", reason });
    }
  }

  // Failed images wait again.
  reopened(task) {
    task.status = "PENDING";
    for (const index of task.items) {
      const item = this.items[index];
      if (RETRYABLE.includes(item.result?.code)) {
        this.change(item, { state: "waiting", result: undefined, reason: undefined });
      }
    }
    this.changed();
  }

  get id() {
    return this.tasks[0]?.id;
  }

  get address() {
    return `#${this.tasks.map((task) => task.id).join(",")}`;
  }

  get finished() {
    return this.running && this.sent.done && this.tasks.every((task) => task.gone || FINAL.includes(task.status));
  }

  get counts() {
    const counts = { total: this.items.length, done: 0, failed: 0, closed: 0, unsent: 0 };
    for (const { state } of this.items) if (state in counts) counts[state] += 1;
    return counts;
  }

  get retryable() {
    return this.tasks.filter((task) => FINAL.includes(task.status) && task.items?.some(
      (index) => RETRYABLE.includes(this.items[index].result?.code)));
  }

  // It is being sent: nothing can be added any more.
  begin() {
    this.running = true;
    this.sent.done = false;
    this.changed();
  }

  changed() {
    this.#emit("state");
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // ---------------------------------------------------------------- after a reload

  get record() {
    return {
      names: this.items.map((item) => item.name),
      tasks: this.tasks.map(({ id, items }) => ({ id, items })),
      refused: this.items.filter((item) => item.state === "failed" && !item.result)
        .map(({ index, reason }) => ({ index, reason })),
      options: this.options,
      created: this.created,
    };
  }

  static restored(ids, record) {
    const batch = new Batch();
    batch.running = true;
    const kept = record?.tasks.map((task) => task.id) ?? [];
    if (!ids.every((id, n) => id === kept[n])) { // an address that was copied early has only the first ones
      batch.tasks = ids.map((id) => ({ id, items: null, status: "PENDING" }));
      return batch;
    }
    batch.options = record.options;
    batch.created = record.created;
    batch.tasks = record.tasks.map((task) => ({ ...task, status: "PENDING" }));
    batch.items = record.names.map((name, index) => ({
      index, name, state: "unsent", reason: "Not sent: the page was closed during the upload.",
    }));
    for (const index of batch.tasks.flatMap((task) => task.items)) {
      Object.assign(batch.items[index], { state: "waiting", reason: undefined });
    }
    for (const { index, reason } of record.refused) {
      Object.assign(batch.items[index], { state: "failed", reason });
    }
    return batch;
  }
}

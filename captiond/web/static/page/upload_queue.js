// Sends the images of a batch, in requests that the limits of the service allow.

import { Backoff, sleep } from "./pauses.js";
import { size } from "./wording.js";

const FIRST_BYTES = 16 * 2 ** 20; // so that the first captions come soon
const PART_BYTES = 256 * 2 ** 20; // what has to be sent again if the connection breaks
const FORM_SHARE = 0.95; // of the largest body; the rest is for the form around the files
const CAUTIOUS = { files: 100, file_bytes: Infinity, body_bytes: 64 * 2 ** 20 }; // if /info cannot be read

export function partsOf(items, limits) {
  const parts = [], most = limits.body_bytes * FORM_SHARE;
  let bytes = Infinity;
  for (const item of items) {
    const allowed = Math.min(most, parts.length > 1 ? PART_BYTES : FIRST_BYTES);
    if (bytes + item.size > allowed || parts.at(-1).length >= limits.files) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1).push(item);
    bytes += item.size;
  }
  return parts;
}

export function formOf(items, options) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  for (const item of items) form.append("images", item.file, item.name);
  return form;
}

export class UploadQueue {
  #client;
  #batch;
  #limits;
  #onTask;

  constructor(client, batch, limits, onTask) {
    this.#client = client;
    this.#batch = batch;
    this.#limits = limits ?? CAUTIOUS;
    this.#onTask = onTask;
  }

  async run(signal) {
    const parts = partsOf(this.#checked(), this.#limits), { sent } = this.#batch;
    Object.assign(sent, { bytes: 0, total: sum(parts.flat()), done: parts.length === 0 });
    for (const part of parts) {
      if (!await this.#send(part, signal)) break;
      sent.done = part === parts.at(-1);
    }
    sent.done = true;
    this.#batch.changed();
  }

  // A file that is too large is not sent, only to be refused.
  #checked() {
    const most = this.#limits.file_bytes;
    return this.#batch.items.filter((item) => {
      const fits = item.size <= most;
      const reason = `Too large: ${size(item.size)}. This service takes files of up to ${size(most)}.`;
      this.#batch.change(item, fits ? { state: "sending" } : { state: "failed", reason });
      return fits;
    });
  }

  // Sends one request until it is accepted or refused. The key lets the service recognise it.
  async #send(part, signal) {
    const backoff = new Backoff(), before = this.#batch.sent.bytes, idempotencyKey = randomKey();
    const bytes = sum(part);
    while (!signal.aborted) {
      try {
        const onProgress = (loaded) => this.#progress(before + Math.min(loaded, bytes));
        const form = formOf(part, this.#batch.options);
        const { task_id } = await this.#client.send(form, { idempotencyKey, onProgress, signal });
        this.#progress(before + bytes);
        this.#problem("");
        this.#onTask(this.#batch.accepted(task_id, part));
        return true;
      } catch (error) {
        if (error.name === "AbortError") break;
        this.#progress(before);
        if (error.status !== 401 && !error.passing) {
          for (const item of part) this.#batch.change(item, { state: "failed", reason: error.message });
          return true; // the other parts may be right
        }
        const pause = error.status === 401 ? 2 ** 30 : backoff.pause(error.retryAfter);
        this.#problem(error.status === 401 ? "The upload waits for a key." : `The upload waits: ${error.message}`);
        await sleep(pause, signal, [this.#client, "key"], [window, "online"]);
      }
    }
    for (const item of this.#batch.items) {
      if (item.state === "sending") this.#batch.change(item, { state: "closed", reason: "Not sent." });
    }
    return false;
  }

  #progress(bytes) {
    this.#batch.sent.bytes = bytes;
    this.#batch.changed();
  }

  #problem(text) {
    this.#batch.problem = text;
    this.#batch.changed();
  }
}

const sum = (items) => items.reduce((total, item) => total + item.size, 0);

// crypto.randomUUID is missing on pages without TLS.
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

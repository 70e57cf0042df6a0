// Follows a task until it is finished: by its events, and by polls if these do not come.

import { FINAL } from "./batch.js";
import { Backoff, sleep } from "./pauses.js";

const POLLED = 5, MOST_POLLED = 80; // polls after a stream that failed; each further failure doubles them
const GONE = "The service does not have this task any more.";
const HIDDEN_MS = 5000; // between two polls of a page that nobody sees

export class TaskFollower {
  #client;
  #batch;
  #task;
  #polls = 0; // that are left before another stream is tried
  #nextPolls = POLLED;

  constructor(client, batch, task) {
    this.#client = client;
    this.#batch = batch;
    this.#task = task;
  }

  async run(signal) {
    this.#watchQueue(signal);
    const backoff = new Backoff();
    while (!signal.aborted && !this.#finished) {
      const before = this.#task.last;
      try {
        await this.#look(signal);
        this.#problem("");
      } catch (error) {
        if (error.status === 404) return this.#gone();
        if (this.#polls === 0 && (error.status === 0 || error.code === "too_many_waiting")) this.#pollFirst();
        this.#problem(problemOf(error));
        const pause = error.status === 401 || error.status === 403 ? 2 ** 30 : backoff.pause(error.retryAfter);
        await sleep(pause, signal, [this.#client, "key"], [window, "online"]);
        continue;
      }
      if (this.#task.last !== before) backoff.reset();
      if (!this.#finished) await this.#pause(backoff, signal);
    }
  }

  // While the task waits: how many images come first, which no event says.
  async #watchQueue(signal) {
    try {
      while (!signal.aborted && !this.#task.gone && this.#task.status === "PENDING") {
        const { status, queue_position: ahead = 0 } = await this.#client.task(this.#task.id);
        this.#task.ahead = status === "PENDING" ? ahead : 0;
        this.#batch.changed();
        await sleep(HIDDEN_MS, signal);
      }
    } catch { // the stream reports what is wrong
    } finally {
      this.#task.ahead = 0;
    }
  }

  // A proxy may hold streams back, or too many clients may wait.
  #pollFirst() {
    this.#polls = this.#nextPolls;
    this.#nextPolls = Math.min(2 * this.#nextPolls, MOST_POLLED);
  }

  get #finished() {
    return this.#task.gone || FINAL.includes(this.#task.status);
  }

  // One stream, which lasts until the task is finished if nothing goes wrong, or one poll. A hidden
  // page polls: a browser has six connections for all its pages of one service.
  async #look(signal) {
    if (!this.#task.items) await this.#describe();
    const follow = !document.hidden && this.#polls === 0;
    const stop = new AbortController(), abort = () => stop.abort();
    const onHidden = () => document.hidden && abort();
    signal.addEventListener("abort", abort);
    if (follow) document.addEventListener("visibilitychange", onHidden);
    try {
      for await (const event of this.#client.events(this.#task.id, { last: this.#task.last, follow, signal: stop.signal })) {
        this.#take(event);
        if (follow) this.#nextPolls = POLLED;
      }
      if (!follow && this.#polls > 0) this.#polls -= 1;
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", abort);
      document.removeEventListener("visibilitychange", onHidden);
    }
  }

  async #pause(backoff, signal) {
    const visible = [document, "visibilitychange"];
    if (document.hidden) await sleep(HIDDEN_MS, signal, visible);
    else await sleep(backoff.pause(), signal);
  }

  // Its number of images is all that this browser has to know.
  async #describe() {
    const task = await this.#client.task(this.#task.id);
    this.#batch.described(this.#task, task.progress.total);
  }

  #take({ name, id, data }) {
    if (name === "image") this.#batch.take(this.#task, data);
    if (name === "progress" || name === "end") {
      this.#task.status = data.status;
      if (name === "end" && data.status === "CANCELLED") this.#batch.closed(this.#task, "Cancelled.");
      this.#batch.changed();
    }
    this.#task.last = id ?? this.#task.last;
  }

  #gone() {
    this.#task.gone = true;
    this.#task.items ??= [];
    this.#batch.closed(this.#task, GONE);
    this.#problem(GONE);
  }

  #problem(text) {
    if (this.#batch.problem === text) return;
    this.#batch.problem = text;
    this.#batch.changed();
  }
}

function problemOf(error) {
  if (error.status === 401) return "The results wait for a key.";
  if (error.status === 403) return "This key may not read results. It needs the scope “read”.";
  return `${error.message} The page tries again.`;
}

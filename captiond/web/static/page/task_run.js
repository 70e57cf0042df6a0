// Brings a batch to its end: sends its images and follows its tasks.

import { FINAL } from "./batch.js";
import { TaskFollower } from "./task_follower.js";
import { UploadQueue } from "./upload_queue.js";

const FOLLOWED = 2; // tasks at a time; each takes a connection, and a browser has six

export class TaskRun {
  #client;
  #batch;
  #stop = new AbortController();
  #waiting = [];
  #followed = 0;

  constructor(client, batch) {
    this.#client = client;
    this.#batch = batch;
  }

  async send(limits) {
    await new UploadQueue(this.#client, this.#batch, limits, (task) => this.follow([task])).run(this.#stop.signal);
  }

  follow(tasks) {
    this.#waiting.push(...tasks);
    while (this.#followed < FOLLOWED && this.#waiting.length > 0) this.#followNext();
  }

  async #followNext() {
    const task = this.#waiting.shift();
    this.#followed += 1;
    await new TaskFollower(this.#client, this.#batch, task).run(this.#stop.signal);
    this.#followed -= 1;
    this.#batch.changed();
    this.follow([]);
  }

  // Cancels what is not finished. The results so far are kept.
  async cancel() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#waiting = [];
    const open = this.#batch.tasks.filter((task) => !task.gone && !FINAL.includes(task.status));
    for (const task of open) {
      try {
        await this.#client.cancel(task.id);
      } catch (error) {
        if (error.status !== 409 && error.status !== 404) {
          this.follow(open);
          throw error;
        }
      }
    }
    this.follow(open); // for the results that came before
  }

  async retry() {
    for (const task of this.#batch.retryable) {
      await this.#client.retry(task.id);
      this.#batch.reopened(task);
      this.follow([task]);
    }
  }
}

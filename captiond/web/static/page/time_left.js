// How long the rest takes, at the pace of the last minute.

const WINDOW_MS = 60_000, LEAST_MS = 2000, MOST_SAMPLES = 200;

export class TimeLeft {
  #samples = [];

  add(done, now = performance.now()) {
    this.#samples.push({ done, now });
    while (this.#samples.length > 2
      && (now - this.#samples[1].now > WINDOW_MS || this.#samples.length > MOST_SAMPLES)) {
      this.#samples.shift();
    }
  }

  // The seconds, or null while the pace is not known.
  seconds(total, now = performance.now()) {
    const first = this.#samples[0], last = this.#samples.at(-1);
    if (!first || now - first.now < LEAST_MS || last.done <= first.done) return null;
    return (total - last.done) * (now - first.now) / (last.done - first.done) / 1000;
  }
}

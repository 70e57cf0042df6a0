// Pauses between attempts, and waits that can be aborted.

const FIRST_MS = 500, LONGEST_MS = 15_000, LONGEST_ASKED_MS = 120_000;

export class Backoff {
  #next = FIRST_MS;

  reset() {
    this.#next = FIRST_MS;
  }

  // `retryAfter` is what the service asks for, in seconds. Half of a pause is random, so that many
  // pages do not come back at the same moment.
  pause(retryAfter = null) {
    const own = this.#next * (0.5 + Math.random() / 2);
    this.#next = Math.min(2 * this.#next, LONGEST_MS);
    return Math.min(Math.max(own, 1000 * (retryAfter ?? 0)), LONGEST_ASKED_MS);
  }
}

// Resolves after a time, or earlier: when aborted, or when one of the `events` comes,
// which are pairs of a target and a name.
export function sleep(ms, signal, ...events) {
  return new Promise((resolve) => {
    const targets = [[signal, "abort"], ...events];
    const timer = setTimeout(end, ms);
    function end() {
      clearTimeout(timer);
      for (const [target, name] of targets) target.removeEventListener(name, end);
      resolve();
    }
    for (const [target, name] of targets) target.addEventListener(name, end);
    if (signal.aborted) end();
  });
}

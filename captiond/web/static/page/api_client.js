// The calls of the HTTP API that this page uses. Their addresses are relative to this file, so a
// proxy may serve captiond under any path.

import { readEvents } from "./event_reader.js";

export const BASE = new URL("../../", import.meta.url);
export const TASKS = "async-batch-caption";
const STORED_KEY = `captiond.key ${BASE.pathname}`; // sessionStorage: gone with the tab
const PASSING = [0, 408, 429, 502, 503, 504]; // statuses that may be others at the next attempt; 0: no answer
const FIRST_BYTE_MS = 10_000; // a stream begins at once, unless a proxy collects it
const SILENCE_MS = 40_000; // the service sends something every 15 seconds

export class ServiceError extends Error {
  constructor(message, { status = 0, code = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }

  get passing() {
    return PASSING.includes(this.status);
  }
}

export class ApiClient extends EventTarget {
  #key = rememberedKey();

  get hasKey() {
    return this.#key !== "";
  }

  setKey(key) {
    this.#key = key;
    rememberKey(key);
    this.dispatchEvent(new Event("key"));
  }

  get headers() {
    return this.#key ? { "X-API-Key": this.#key } : {};
  }

  info() {
    return this.#json("info");
  }

  async health() {
    const response = await this.#fetch("health", {}, [503]); // 503: why nothing is captioned
    return response.json();
  }

  task(id) {
    return this.#json(`${TASKS}/status/${id}?limit=1`);
  }

  cancel(id) {
    return this.#json(`${TASKS}/${id}?limit=1`, { method: "DELETE" });
  }

  retry(id) {
    return this.#json(`${TASKS}/${id}/retry`, { method: "POST" });
  }

  async results(id, format) {
    return (await this.#fetch(`${TASKS}/results/${id}?format=${format}`)).blob();
  }

  // Yields the events of a task that follow the one with the id `last`. Without `follow`, these are
  // the events that there are.
  async* events(id, { last, follow, signal }) {
    const stop = new AbortController(), abort = () => stop.abort();
    signal.addEventListener("abort", abort);
    let timer = setTimeout(abort, FIRST_BYTE_MS);
    const onBytes = () => {
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
    };
    try {
      const response = await this.#fetch(`${TASKS}/events/${id}?follow=${follow}`, {
        headers: last ? { "Last-Event-ID": last } : {}, signal: stop.signal, cache: "no-store",
      });
      if (response.status !== 204) yield* readEvents(response.body, onBytes);
    } catch (error) {
      throw asServiceError(error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      stop.abort(); // whoever reads no further holds no connection
    }
  }

  // Sends a form and returns the task. Only XMLHttpRequest reports how much has been sent.
  send(form, { idempotencyKey, onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", new URL(TASKS, BASE));
      for (const [name, value] of Object.entries(this.headers)) request.setRequestHeader(name, value);
      request.setRequestHeader("Idempotency-Key", idempotencyKey);
      request.upload.onprogress = (event) => onProgress(event.loaded);
      request.onload = () => {
        if (request.status === 202) resolve(JSON.parse(request.responseText));
        else reject(this.#failure(request.status, request.responseText,
          request.getResponseHeader("Retry-After")));
      };
      request.onerror = () => reject(new ServiceError("The service does not answer."));
      request.onabort = () => reject(new DOMException("aborted", "AbortError"));
      signal.addEventListener("abort", () => request.abort());
      request.send(form);
    });
  }

  async #json(path, options) {
    return (await this.#fetch(path, options)).json();
  }

  async #fetch(path, options = {}, accepted = []) {
    let response;
    try {
      const headers = { ...this.headers, ...options.headers };
      response = await fetch(new URL(path, BASE), { ...options, headers });
    } catch (error) {
      throw asServiceError(error);
    }
    if (response.ok || accepted.includes(response.status)) return response;
    throw this.#failure(response.status, await response.text(), response.headers.get("Retry-After"));
  }

  #failure(status, text, retryAfter) {
    let body = {};
    try {
      body = JSON.parse(text);
    } catch {
      body.detail = `The answer has the status ${status} and is not from captiond.`;
    }
    const message = Array.isArray(body.detail)
      ? body.detail.map((each) => `${each.loc?.at(-1)}: ${each.msg}`).join("; ") : body.detail;
    const error = new ServiceError(message, { status, code: body.code, retryAfter: Number(retryAfter) || null });
    if (["unauthorized", "forbidden"].includes(error.code)) {
      this.dispatchEvent(new CustomEvent("refused", { detail: error }));
    }
    return error;
  }
}

// A browser that keeps nothing refuses sessionStorage. The key is then gone with the page.
function rememberedKey() {
  try {
    return sessionStorage.getItem(STORED_KEY) ?? "";
  } catch {
    return "";
  }
}

function rememberKey(key) {
  try {
    if (key) sessionStorage.setItem(STORED_KEY, key);
    else sessionStorage.removeItem(STORED_KEY);
  } catch { // see above
  }
}

function asServiceError(error) {
  if (error instanceof ServiceError) return error;
  return new ServiceError("The service does not answer.");
}

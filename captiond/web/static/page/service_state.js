// What the service is: its health, its model, its limits, and whether it asks for a key.

import { at, copy, element, iconButton } from "./dom.js";

const SEEN_MS = 15_000, STARTING_MS = 2000;
const SMALL_MODEL = "captiond/scenes";
const USUAL_MODEL = "Salesforce/blip-image-captioning-base";
const TEXTS = { starting: "Starting", healthy: "Ready", degraded: "Not ready", unhealthy: "Not ready" };

export class ServiceState {
  info = null;
  #client;
  #onInfo;
  #noted = "";

  constructor(client, onInfo) {
    this.#client = client;
    this.#onInfo = onInfo;
    client.addEventListener("key", () => this.#readInfo());
    client.addEventListener("refused", ({ detail }) => this.#askForKey(detail));
    at("key-form").addEventListener("submit", (event) => this.#takeKey(event));
    at("key-forget").addEventListener("click", () => client.setKey(""));
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
  }

  // Looks at the service for as long as the page is open.
  async watch() {
    this.ready = this.#readInfo();
    for (;;) {
      const health = document.hidden ? null : await this.#look();
      const pause = health && health.status !== "healthy" ? STARTING_MS : SEEN_MS;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  async #look() {
    let health;
    try {
      health = await this.#client.health();
      at("version").textContent = health.version;
    } catch (error) {
      health = { status: "unhealthy", reasons: [error.message] };
    }
    const doubtful = health.fallback || health.model === SMALL_MODEL;
    at("health").dataset.state = doubtful && health.status === "healthy" ? "fallback" : health.status;
    const parts = [TEXTS[health.status] ?? health.status, health.model?.split("/").at(-1), ...(health.reasons ?? [])];
    const text = parts.filter(Boolean).join(" · ");
    if (at("health-text").textContent !== text) at("health-text").textContent = text;
    if (health.model && this.info?.model?.name !== health.model) await this.#readInfo();
    this.#note(health);
    return health;
  }

  async #readInfo() {
    try {
      this.info = await this.#client.info();
    } catch {
      return; // without a key; or the next look says that the service does not answer
    }
    at("key-panel").hidden = !this.#client.hasKey;
    at("key-panel").classList.toggle("known", this.#client.hasKey);
    at("key-problem").textContent = "";
    this.#onInfo(this.info);
  }

  // ---------------------------------------------------------------- the model that knows scenes only

  #note(health) {
    const small = health.model === SMALL_MODEL;
    at("fallback").hidden = !small && !health.fallback;
    const wanted = health.fallback ? this.info?.model?.requested ?? "" : USUAL_MODEL;
    const note = `${health.model} ${health.fallback} ${wanted}`;
    if (at("fallback").hidden || note === this.#noted) return;
    this.#noted = note;
    at("fallback-title").textContent = small
      ? `${SMALL_MODEL} knows drawn scenes, no photographs` : `${health.model} captions in place of another model`;
    at("fallback-text").replaceChildren(...advice(health, wanted, small));
  }

  // ---------------------------------------------------------------- keys

  #askForKey(error) {
    at("key-panel").hidden = false;
    at("key-panel").classList.remove("known");
    const wrong = error.status === 403 ? error.message : "The service does not know this key.";
    at("key-problem").textContent = this.#client.hasKey ? wrong : "";
  }

  #takeKey(event) {
    event.preventDefault();
    const key = at("key").value.trim();
    at("key").value = "";
    if (/^[\x21-\x7e]+$/.test(key)) this.#client.setKey(key);
    else at("key-problem").textContent = "A key has only letters, digits and simple signs.";
  }
}

function advice(health, wanted, small) {
  const command = health.fallback ? `captiond pull ${wanted || "MODEL"}` : `captiond serve --model ${wanted}`;
  const why = health.fallback ? `${wanted || "The model of the settings"} is not available, so the small model of captiond is used. ` : "";
  const code = element("code", {}, command);
  return [
    why, small ? "Its captions of photographs are wrong. " : "",
    health.fallback ? "Run this command where captiond runs, then restart it: " : "Start captiond with another model: ",
    element("span", { className: "command" }, code, iconButton("copy", "Copy the command", () => copy(command, "the command"))),
  ];
}

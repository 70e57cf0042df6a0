// This page sends images to the API as any client would, and shows the results.

const at = (id) => document.getElementById(id);
const POLL_MS = 500, HEALTH_MS = 5000;

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function say(text, isError = false) {
  at("message").textContent = text;
  at("message").className = isError ? "error" : "";
}

async function call(path, field, files) {
  const form = new FormData();
  for (const file of files) form.append(field, file);
  return read(await request(path, { method: "POST", body: form }));
}

// Asks for the key once the service has refused a request without one.
async function request(path, options = {}) {
  const key = at("key").value;
  const response = await fetch(path, { ...options, headers: key ? { "X-API-Key": key } : {} });
  if (response.status === 401) at("key-field").hidden = false;
  return response;
}

async function read(response) {
  const body = await response.json();
  if (response.ok) return body;
  const detail = body.detail;
  throw new Error(Array.isArray(detail) ? detail.map((d) => d.msg).join("; ") : detail);
}

function show(results, files) {
  at("results").replaceChildren(...results.map((result) => row(result, files)));
}

function row(result, files) {
  const item = document.createElement("li");
  const file = files.find((candidate) => candidate.name === result.image_path);
  if (file) item.append(thumbnail(file));
  const text = document.createElement("div");
  text.append(
    result.error === null
      ? element("h2", result.caption)
      : element("p", result.error, "error"),
    element("p", result.image_path, "name"),
  );
  const tags = element("ul", "", "tags");
  tags.append(...(result.tags ?? []).map((tag) => element("li", tag)));
  text.append(tags);
  item.append(text);
  return item;
}

function thumbnail(file) {
  const image = document.createElement("img");
  image.alt = "";
  const url = URL.createObjectURL(file);
  image.src = url;
  image.onload = () => URL.revokeObjectURL(url);
  image.onerror = () => {
    URL.revokeObjectURL(url);
    image.replaceWith(element("div", "", "no-preview")); // no sign of the browser for a broken image
  };
  return image;
}

async function captionOne(file) {
  const body = await call("/caption", "image", [file]);
  show([{ image_path: body.filename, error: null, ...body }], [file]);
  say(`Captioned in ${body.processing_time.toFixed(2)} s.`);
}

async function captionSeveral(files) {
  const body = await call("/batch-caption", "images", files);
  show(body.results, files);
  say(`${body.results.length} images in ${body.total_processing_time.toFixed(2)} s.`);
}

async function captionAsTask(files) {
  const { task_id: id, message } = await call("/async-batch-caption", "images", files);
  say(`${message} (${id})`);
  for (;;) {
    const task = await read(await request(`/async-batch-caption/status/${id}`));
    at("progress").max = task.progress.total;
    at("progress").value = task.progress.done;
    show(task.result ?? [], files);
    say(task.message);
    if (!["PENDING", "PROCESSING"].includes(task.status)) return;
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

async function submit(event) {
  event.preventDefault();
  const files = [...at("files").files];
  const asTask = event.submitter?.value === "task";
  busy(true);
  at("results").replaceChildren();
  say("Sending …");
  try {
    if (asTask) await captionAsTask(files);
    else if (files.length === 1) await captionOne(files[0]);
    else await captionSeveral(files);
  } catch (error) {
    say(error.message, true);
  }
  busy(false);
  // A button that is disabled loses the focus, and with it the place of whoever uses the keyboard.
  if (document.activeElement === document.body) event.submitter?.focus();
}

function busy(yes) {
  for (const button of document.querySelectorAll("button")) button.disabled = yes;
  at("progress").hidden = !yes;
  at("progress").removeAttribute("value");
}

async function watchHealth() {
  try {
    const health = await (await fetch("/health")).json();
    at("health").className = health.status;
    at("health").textContent = [health.status, health.model, ...(health.reasons ?? [])]
      .filter(Boolean).join(" · ");
    at("warning").textContent = health.warning ?? "";
    at("warning").hidden = !health.warning;
  } catch {
    at("health").className = "unhealthy";
    at("health").textContent = "The service does not answer.";
  }
  setTimeout(watchHealth, HEALTH_MS);
}

function chosen() {
  const names = [...at("files").files].map((file) => file.name);
  at("chosen").textContent = names.length ? names.join(", ") : "No image chosen.";
}

at("form").addEventListener("submit", submit);
at("files").addEventListener("change", chosen);
for (const kind of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") {
      at("files").files = event.dataTransfer.files;
      chosen();
    }
  });
}
watchHealth();

// The results as files. The service makes them; those of several tasks are put together.

import { save } from "./dom.js";
import { zip } from "./zip.js";

const HEADER_ENDS = /\r?\n/;

export const FORMATS = [
  ["csv", "CSV, for spreadsheets"],
  ["json", "JSON"],
  ["ndjson", "JSON lines"],
  ["txt", "Text: a line for each image"],
  ["zip", "Text files in a zip: one for each image"],
];

export async function download(client, batch, format) {
  const name = `captions-${new Date(batch.created).toISOString().slice(0, 16).replace(/[:T]/g, "-")}`;
  if (format === "txt") return save(new Blob([lines(batch)], { type: "text/plain" }), `${name}.txt`);
  if (format === "zip") return save(await zip(sidecars(batch)), `${name}.zip`);
  const parts = await Promise.all(batch.tasks.filter((task) => !task.gone)
    .map((task) => client.results(task.id, format)));
  save(await joined(parts, format), `${name}.${format === "ndjson" ? "jsonl" : format}`);
}

async function joined(parts, format) {
  if (parts.length === 1) return parts[0];
  if (format === "ndjson") return new Blob(parts);
  const texts = await Promise.all(parts.map((part) => part.text()));
  if (format === "csv") {
    return new Blob(texts.map((text, n) => n ? text.slice(text.search(HEADER_ENDS)).replace(HEADER_ENDS, "") : text));
  }
  const bodies = texts.map((text) => JSON.parse(text));
  return new Blob([JSON.stringify({
    task_ids: bodies.map((body) => body.task_id),
    complete: bodies.every((body) => body.complete),
    results: bodies.flatMap((body) => body.results),
  })], { type: "application/json" });
}

const captioned = (batch) => batch.items.filter((item) => item.state === "done");
const oneLine = (text) => text.replace(/\s+/g, " ");

function lines(batch) {
  return captioned(batch).map((item) => `${oneLine(item.name)}\t${oneLine(item.result.caption)}\n`).join("");
}

// boat.png gets boat.txt, as programs for training sets expect it. Files of the same name are numbered.
function sidecars(batch) {
  const used = new Set(); // in small letters, as some file systems compare names
  return captioned(batch).map((item) => {
    const stem = item.name.replace(/\.\w{1,5}$/, "").replace(/(^|\/)\.+(?=\/|$)/g, "$1_").replace(/^\/+/, "") || "image";
    let name = stem;
    for (let n = 2; used.has(name.toLowerCase()); n += 1) name = `${stem}-${n}`;
    used.add(name.toLowerCase());
    return [`${name}.txt`, `${item.result.caption}\n`];
  });
}

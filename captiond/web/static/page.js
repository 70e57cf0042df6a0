// The page that captions images. It sends them as tasks, as any client would, and shows the results.

import { ApiClient } from "./page/api_client.js";
import { Batch } from "./page/batch.js";
import { loadRecord, loadThumbnails, saveRecord, saveThumbnails } from "./page/browser_store.js";
import { at, say } from "./page/dom.js";
import { OptionsForm } from "./page/options_form.js";
import { ACCEPTED, chosen, dropped, pasted, pictures } from "./page/picture_files.js";
import { RecentTasks } from "./page/recent_tasks.js";
import { ServiceState } from "./page/service_state.js";
import { Snippets } from "./page/snippets.js";
import { TaskRun } from "./page/task_run.js";
import { TaskView } from "./page/task_view.js";
import { ThumbnailMaker } from "./page/thumbnails.js";
import { images } from "./page/wording.js";

const TASK_IDS = /task_\d+_[0-9a-f]{32}/g;
const NOTE_MS = 1000; // between two changes of the list of recent tasks

const client = new ApiClient();
const options = new OptionsForm();
const service = new ServiceState(client, (info) => options.show(info));
const thumbnails = new ThumbnailMaker(pictureReady);
const recent = new RecentTasks();
const snippets = new Snippets();
const view = new TaskView(client, thumbnails, {
  send, leave: () => go(""), cancel: () => runs.get(batch).cancel(), retry: () => runs.get(batch).retry(),
});
const known = new Map(); // the batches of this page's life, by the id of their first task
const owners = new WeakMap(); // the batch of an item
const runs = new WeakMap();
const sending = new Set();
let batch = null;

// ---------------------------------------------------------------- images come

function add({ wanted, others }) {
  if (wanted.length > 0) {
    if (!batch || batch.running) show(new Batch());
    for (const item of batch.add(wanted)) {
      owners.set(item, batch);
      thumbnails.add(item);
    }
    requestAnimationFrame(() => at("send").focus()); // once it is there
  }
  const left = others ? `${others} other ${others === 1 ? "file was" : "files were"} left out.` : "";
  if (wanted.length + others > 0) say(`${images(wanted.length)} added. ${left}`);
}

for (const id of ["files", "folder", "camera"]) {
  at(`choose-${id}`).addEventListener("click", () => at(id).click());
  at(id).addEventListener("change", () => {
    add(pictures(chosen(at(id).files)));
    at(id).value = ""; // so that the same file can be chosen again
  });
}
at("files").accept = ACCEPTED;

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
let entered = 0; // each element that the pointer passes is entered and left

for (const [kind, step] of [["dragenter", 1], ["dragleave", -1]]) {
  addEventListener(kind, (event) => {
    if (!hasFiles(event)) return;
    entered += step;
    document.body.classList.toggle("dragging", entered > 0);
  });
}
addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
addEventListener("drop", async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  entered = 0;
  document.body.classList.remove("dragging");
  add(pictures(await dropped(event.dataTransfer)));
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(pictures(pasted(event.clipboardData)));
});

// ---------------------------------------------------------------- a batch is sent and kept

async function send() {
  if (!options.valid || batch.running) return;
  const sent = batch;
  sent.begin();
  await service.ready; // the limits
  sent.options = options.values;
  const { files } = service.info?.limits ?? { files: sent.items.length };
  sent.request = { names: sent.items.slice(0, files).map((item) => item.name), options: sent.options };
  snippets.show({ ...sent.request, hasKey: client.hasKey });
  at("grid-region").focus({ preventScroll: true });
  sending.add(sent);
  sent.addEventListener("state", () => keepNew(sent));
  await begin(sent).send(service.info?.limits);
  sending.delete(sent);
}

function begin(begun) {
  const run = new TaskRun(client, begun);
  runs.set(begun, run);
  let timer = 0;
  const note = () => {
    timer = 0;
    if (begun.id && begun.items.length > 0) recent.note(begun);
  };
  begun.addEventListener("state", () => { timer ||= setTimeout(note, NOTE_MS); });
  return run;
}

// A task is accepted: its id comes into the address, and what a reload needs into the browser.
function keepNew(sent) {
  if (!sent.id || sent.kept === sent.tasks.length) return;
  sent.kept = sent.tasks.length;
  if (!known.has(sent.id)) {
    const ready = sent.items.filter((item) => item.thumbnail instanceof Blob);
    saveThumbnails(sent.id, ready.map((item) => [item.index, item.thumbnail]));
    known.set(sent.id, sent);
    recent.note(sent);
  }
  saveRecord(sent.id, sent.record);
  if (sent === batch) {
    history.replaceState(null, "", sent.address);
    recent.mark(sent.id);
  }
}

function pictureReady(item) {
  view.pictureReady(item);
  const { id } = owners.get(item);
  if (id && item.thumbnail) saveThumbnails(id, [[item.index, item.thumbnail]]);
}

addEventListener("beforeunload", (event) => {
  if (sending.size > 0 || (batch && !batch.running)) event.preventDefault(); // the browser asks
});

// ---------------------------------------------------------------- the address says what is shown

function go(address) {
  if (location.hash === address) open();
  else if (address) location.hash = address;
  else {
    history.pushState(null, "", location.pathname + location.search);
    open();
  }
}

async function open() {
  const address = location.hash, ids = [...new Set(address.match(TASK_IDS))];
  if (ids.length === 0) return show(null);
  if (known.get(ids[0])) return show(known.get(ids[0]));
  const opened = Batch.restored(ids, await loadRecord(ids[0]));
  if (location.hash !== address) return;
  opened.request = { names: opened.items.map((item) => item.name), options: opened.options };
  known.set(ids[0], opened);
  show(opened);
  begin(opened).follow(opened.tasks);
  const kept = await loadThumbnails(ids[0]);
  for (const item of opened.items) {
    item.thumbnail ??= kept.get(item.index) ?? false;
    view.pictureReady(item);
  }
}

function show(shown) {
  batch = shown;
  view.show(shown);
  recent.mark(shown?.id);
  if (shown?.request) snippets.show({ ...shown.request, hasKey: client.hasKey });
  if (!shown) at("choose-files").focus({ preventScroll: true });
}

addEventListener("hashchange", open);
addEventListener("popstate", open);
service.watch();
open();

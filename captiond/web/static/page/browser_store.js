// What this browser keeps about tasks: names and thumbnails, so that a task can be shown after a
// reload. A browser that keeps nothing, as in some private windows, still works.

import { BASE } from "./api_client.js";

const NAME = `captiond ${BASE.pathname}`;
const RECORDS = "tasks", THUMBNAILS = "thumbnails";

let opening;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(RECORDS);
      request.result.createObjectStore(THUMBNAILS);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function within(store, mode, work) {
  try {
    const transaction = (await open()).transaction(store, mode);
    const request = work(transaction.objectStore(store));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } catch (error) {
    console.info(`captiond: this browser keeps no thumbnails (${error})`);
    return undefined;
  }
}

// A task is known by the id of its first request.
const thumbnailsOf = (id) => IDBKeyRange.bound([id], [id, []]);

export const saveRecord = (id, record) => within(RECORDS, "readwrite", (store) => store.put(record, id));
export const loadRecord = (id) => within(RECORDS, "readonly", (store) => store.get(id));

// `pairs` are positions and blobs.
export const saveThumbnails = (id, pairs) => within(THUMBNAILS, "readwrite", (store) => {
  for (const [index, blob] of pairs) store.put(blob, [id, index]);
});

export async function loadThumbnails(id) {
  const [keys, blobs] = await Promise.all([
    within(THUMBNAILS, "readonly", (store) => store.getAllKeys(thumbnailsOf(id))),
    within(THUMBNAILS, "readonly", (store) => store.getAll(thumbnailsOf(id))),
  ]);
  return new Map((keys ?? []).map(([, index], n) => [index, blobs?.[n]]));
}

export const loadThumbnail = (id, index) => within(THUMBNAILS, "readonly", (store) => store.get([id, index]));

export const forgetThumbnails = (id) =>
  within(THUMBNAILS, "readwrite", (store) => store.delete(thumbnailsOf(id)));

export async function forget(id) {
  await forgetThumbnails(id);
  await within(RECORDS, "readwrite", (store) => store.delete(id));
}

// Which files are meant: chosen ones, those of folders, dropped and pasted ones.

// As SUFFIXES in captiond/imagetypes.py. Browsers know no type of some of them.
const SUFFIXES = [
  ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff",
  ".webp", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
  ".jxl", ".dng", ".nef", ".cr2", ".arw", ".pef",
];
const HIDDEN = /(^|\/)(\.|@eaDir\/|Thumbs\.db$|desktop\.ini$)/i; // also ._photo.jpg of macOS

export const ACCEPTED = ["image/*", ...SUFFIXES].join(",");

function isImageName(path) {
  return SUFFIXES.some((suffix) => path.toLowerCase().endsWith(suffix));
}

// Returns the images among files, and how many others there were. A file that a person chose
// counts as an image whatever its name is; the service looks at its content.
export function pictures(found) {
  const wanted = found.filter(({ file, path, fromFolder }) => !fromFolder
    || (!HIDDEN.test(path) && (file.type.startsWith("image/") || isImageName(path))));
  const collator = new Intl.Collator("en", { numeric: true });
  wanted.sort((a, b) => a.fromFolder && b.fromFolder ? collator.compare(a.path, b.path) : 0);
  return { wanted, others: found.length - wanted.length };
}

export function chosen(fileList) {
  return [...fileList].map((file) => ({
    file, path: file.webkitRelativePath || file.name, fromFolder: Boolean(file.webkitRelativePath),
  }));
}

export function pasted(data) {
  return [...data.files].map((file) => ({ file, path: file.name, fromFolder: false }));
}

// The entries have to be taken from the event at once: afterwards it has none any more.
export async function dropped(data) {
  const parts = [...data.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = await Promise.all(parts.map(async ({ entry, file }) => entry?.isDirectory
    ? walk(entry) : [{ file, path: file.name, fromFolder: false }]));
  return found.flat();
}

async function walk(folder) {
  const reader = folder.createReader(), found = [];
  for (;;) { // a reader returns at most 100 entries at a time
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (entries.length === 0) return found;
    for (const entry of entries) found.push(...await (entry.isDirectory ? walk(entry) : one(entry)));
  }
}

// A file that cannot be read is left out: it may have been removed meanwhile.
async function one(entry) {
  const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
  return file ? [{ file, path: entry.fullPath.replace(/^\//, ""), fromFolder: true }] : [];
}

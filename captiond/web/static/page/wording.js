// Numbers, sizes and times as people read them.

const NUMBER = new Intl.NumberFormat("en");
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

export const number = (value) => NUMBER.format(value);

export const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

export function size(bytes) {
  for (const [unit, step] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["KB", 1024]]) {
    if (bytes >= step) return `${(bytes / step).toFixed(bytes < 10 * step ? 1 : 0)} ${unit}`;
  }
  return `${bytes} bytes`;
}

export function duration(seconds) {
  if (seconds < 10) return "a few seconds";
  if (seconds < 90) return `${Math.round(seconds / 10) * 10} seconds`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return `${Math.round(seconds / 3600)} hours`;
}

export function ago(time, now = Date.now()) {
  const seconds = (now - time) / 1000;
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return AGO.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.99 && share < 0.9995 ? 1 : 0)} %`;

export const digits = (value) => String(Number(value.toPrecision(3)));

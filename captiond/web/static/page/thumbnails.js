// Small pictures of the chosen files. They are what the grid shows, and what is left after a reload.

const SIDE = 320, AT_ONCE = 2;

export class ThumbnailMaker {
  #urgent = [];
  #waiting = [];
  #running = 0;
  #onReady;

  constructor(onReady) {
    this.#onReady = onReady;
  }

  // Makes the thumbnail of an item, after those that are seen now.
  add(item) {
    this.#waiting.push(item);
    this.#next();
  }

  // The item is on the screen.
  hurry(item) {
    if (item.file && item.thumbnail === undefined) this.#urgent.push(item);
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const item = this.#urgent.shift() ?? this.#waiting.shift();
      if (!item) return;
      if (item.thumbnail === undefined && item.file) this.#make(item);
    }
  }

  async #make(item) {
    this.#running += 1;
    item.thumbnail = null; // begun
    try {
      item.thumbnail = await thumbnailOf(item.file);
    } catch {
      item.thumbnail = false; // the browser cannot show this file
    }
    this.#running -= 1;
    this.#onReady(item);
    this.#next();
  }
}

async function thumbnailOf(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/webp", quality: 0.8 });
}

// Shows a blob. Its URL is given back as soon as the picture is loaded.
export function showBlob(image, blob, onError) {
  const url = URL.createObjectURL(blob);
  image.onload = () => URL.revokeObjectURL(url);
  image.onerror = () => {
    URL.revokeObjectURL(url);
    onError?.();
  };
  image.src = url;
}

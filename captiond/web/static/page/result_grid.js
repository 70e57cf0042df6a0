// The cards of all images. It stays smooth with thousands: cards are made in portions, pictures are
// loaded near the screen only, and the browser skips what is off the screen (content-visibility).

import { ResultCard } from "./result_card.js";

const PORTION = 100, NEAR = "600px";

export class ResultGrid {
  #list;
  #batch = null;
  #cards = [];
  #changed = new Set();
  #frame = 0;
  #callbacks;
  #filter;
  #thumbnails;
  #observer;
  #onFiltered;

  constructor(list, { callbacks, thumbnails, filter, onFiltered }) {
    this.#list = list;
    this.#callbacks = callbacks;
    this.#thumbnails = thumbnails;
    this.#filter = filter;
    this.#onFiltered = onFiltered;
    this.#observer = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: NEAR });
  }

  show(batch) {
    this.#batch = batch;
    this.#observer.disconnect();
    this.#cards = [];
    this.#list.replaceChildren();
    this.later();
  }

  // The item has another state, or its picture is ready.
  update(item) {
    this.#changed.add(item);
    this.later();
  }

  // Items were added, removed or renumbered.
  restructure() {
    const items = new Set(this.#batch.items);
    this.#cards = this.#cards.filter((card) => {
      if (items.has(card.item)) return true;
      card.node.remove();
      return false;
    });
    for (const card of this.#cards) this.#changed.add(card.item);
    this.later();
  }

  refilter() {
    for (const card of this.#cards) this.#changed.add(card.item);
    this.later();
  }

  later() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#batch) return;
    for (const item of this.#changed) this.#redraw(this.#cards[item.index]);
    this.#changed.clear();
    const { items } = this.#batch, made = [];
    for (const item of items.slice(this.#cards.length, this.#cards.length + PORTION)) {
      const card = new ResultCard(item, this.#callbacks);
      card.node.hidden = !this.#filter.matches(item);
      this.#cards.push(card);
      this.#observer.observe(card.node);
      made.push(card.node);
    }
    this.#list.append(...made);
    if (this.#cards.length < items.length) this.later();
    this.#onFiltered(items.length);
  }

  #redraw(card) {
    if (!card) return;
    card.update();
    card.node.hidden = !this.#filter.matches(card.item);
    if (card.near && card.show()) this.#loaded(card);
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const { card } = target;
      card.near = isIntersecting;
      if (!isIntersecting) continue;
      if (card.show()) this.#loaded(card);
      else this.#thumbnails.hurry(card.item);
    }
  }

  #loaded(card) {
    card.near = false;
    this.#observer.unobserve(card.node);
  }
}

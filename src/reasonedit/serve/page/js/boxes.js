/**
 * Boxes on a picture: drawn with a mouse, a pen or a finger, moved and sized with these or with the keyboard.
 *
 * A box is [left, top, right, bottom] in shares of the upright picture, and belongs to a sentence.
 */

import { T } from "./texts.js";
import { fill, h, percent } from "./dom.js";

const SMALLEST = 0.02;
const STEP = 0.01;
const CORNERS = ["nw", "ne", "sw", "se"];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const round = (value) => Math.round(value * 1e4) / 1e4;

/** Lay an element over the part of the picture that a box is. */
export function place(element, [left, top, right, bottom]) {
  element.style.left = `${left * 100}%`;
  element.style.top = `${top * 100}%`;
  element.style.width = `${(right - left) * 100}%`;
  element.style.height = `${(bottom - top) * 100}%`;
  return element;
}

/** Move a box, which stays within the picture. */
export function moved([left, top, right, bottom], dx, dy) {
  const x = clamp(dx, -left, 1 - right);
  const y = clamp(dy, -top, 1 - bottom);
  return [left + x, top + y, right + x, bottom + y].map(round);
}

/** Pull one corner of a box (`nw` is the upper left), which never gets smaller than can be seen. */
export function resized([left, top, right, bottom], corner, dx, dy) {
  const west = corner.includes("w");
  const north = corner.includes("n");
  return [
    west ? clamp(left + dx, 0, right - SMALLEST) : left,
    north ? clamp(top + dy, 0, bottom - SMALLEST) : top,
    west ? right : clamp(right + dx, left + SMALLEST, 1),
    north ? bottom : clamp(bottom + dy, top + SMALLEST, 1),
  ].map(round);
}

/** The box between two points. */
export function between(a, b) {
  const box = [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
  return box.map((value) => round(clamp(value, 0, 1)));
}

export class BoxLayer {
  /**
   * @param {(sentence: object) => void} changed Called after the boxes of a sentence changed.
   * @param {(text: string) => void} tell Says something to a person who does not see the picture.
   */
  constructor(changed, tell) {
    this.element = h("div", { class: "boxes" });
    this.sentences = [];
    this.active = null;
    this.above = null;
    this.changed = changed;
    this.tell = tell;
    this.element.addEventListener("pointerdown", (event) => this.#begin(event));
  }

  /** Show the boxes of sentences: objects with `boxes` and `guess`. */
  show(sentences) {
    this.sentences = sentences;
    const focused = document.activeElement?.dataset?.box;
    const drawn = sentences.flatMap((sentence, i) => sentence.boxes.map((_, j) => this.#box(sentence, i, j)));
    fill(this.element, drawn);
    if (focused && this.element.isConnected) this.element.querySelector(`[data-box="${focused}"]`)?.focus();
  }

  /** Bring the boxes of a sentence before those that they share a place with. */
  raise(sentence) {
    this.above = this.sentences.indexOf(sentence);
    for (const box of this.element.querySelectorAll("[data-box]")) {
      box.classList.toggle("above", box.dataset.box.startsWith(`${this.above}-`));
    }
  }

  /** Let the next drag draw a box for a sentence; null ends it. */
  draw(sentence) {
    this.active = sentence;
    this.element.classList.toggle("drawing", sentence !== null);
  }

  /** Add a box in the middle, to be moved by keyboard. */
  add(sentence) {
    const middle = [0.333, 0.333, 0.667, 0.667];
    this.#set(sentence, sentence.guess ? [middle] : [...sentence.boxes, middle]);
    this.element.querySelector(`[data-box="${this.sentences.indexOf(sentence)}-${sentence.boxes.length - 1}"]`)?.focus();
  }

  #set(sentence, boxes) {
    sentence.boxes = boxes;
    sentence.guess = false;
    this.changed(sentence);
  }

  #replace(sentence, j, box) {
    this.#set(sentence, sentence.boxes.map((old, i) => (i === j ? box : old)));
    this.tell(T.boxes.at(...box.map(percent)));
  }

  #box(sentence, i, j) {
    const label = T.boxes.label(i + 1, ...sentence.boxes[j].map(percent), sentence.guess);
    const body = h("button", {
      type: "button",
      class: `box s${i % 8}${sentence.guess ? " guess" : ""}${i === this.above ? " above" : ""}`,
      "aria-label": label,
      "aria-describedby": "boxes-help",
      dataset: { box: `${i}-${j}` },
      onkeydown: (event) => this.#key(event, sentence, j),
      onpointerdown: (event) => this.#drag(event, sentence, j, null),
    });
    fill(body, h("span", { class: "number" }, String(i + 1)), CORNERS.map((corner) => this.#corner(sentence, j, corner)));
    return place(body, sentence.boxes[j]);
  }

  #corner(sentence, j, corner) {
    const start = (event) => this.#drag(event, sentence, j, corner);
    return h("span", { class: `corner ${corner}`, "aria-hidden": "true", onpointerdown: start });
  }

  #key(event, sentence, j) {
    const box = sentence.boxes[j];
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.#set(sentence, sentence.boxes.filter((_, i) => i !== j));
      this.tell(T.boxes.removed);
      return;
    }
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const [dx, dy] = by.map((value) => value * STEP * (event.ctrlKey ? 5 : 1));
    this.#replace(sentence, j, event.shiftKey ? resized(box, "se", dx, dy) : moved(box, dx, dy));
  }

  #point(event) {
    const frame = this.element.getBoundingClientRect();
    return { x: (event.clientX - frame.left) / frame.width, y: (event.clientY - frame.top) / frame.height };
  }

  /** Follow a pointer until it is lifted; `done(moved)` is told whether it was, or was taken away by the system. */
  #follow(event, move, done) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    event.stopPropagation();
    const { pointerId } = event;
    const ours = (call) => (next) => next.pointerId === pointerId && call(next);
    const stop = new AbortController();
    const end = (kept) => {
      stop.abort();
      done(kept);
    };
    window.addEventListener("pointermove", ours((next) => move(this.#point(next))), { signal: stop.signal });
    window.addEventListener("pointerup", ours(() => end(true)), { signal: stop.signal });
    window.addEventListener("pointercancel", ours(() => end(false)), { signal: stop.signal });
  }

  #drag(event, sentence, j, corner) {
    const start = this.#point(event);
    const before = sentence.boxes[j];
    const element = event.currentTarget.closest(".box");
    let box = before;
    element.focus();
    this.#follow(
      event,
      (point) => {
        const [dx, dy] = [point.x - start.x, point.y - start.y];
        box = corner ? resized(before, corner, dx, dy) : moved(before, dx, dy);
        place(element, box);
      },
      (kept) => {
        if (kept && box.some((value, i) => value !== before[i])) this.#replace(sentence, j, box);
        else place(element, before);
      },
    );
  }

  #begin(event) {
    const sentence = this.active;
    if (sentence === null) return;
    const start = this.#point(event);
    const rubber = h("div", { class: `box s${this.sentences.indexOf(sentence) % 8} rubber` });
    let box = null;
    this.element.append(rubber);
    this.#follow(
      event,
      (point) => {
        box = between(start, point);
        place(rubber, box);
      },
      (kept) => {
        rubber.remove();
        if (!kept || !box || box[2] - box[0] < SMALLEST || box[3] - box[1] < SMALLEST) return;
        this.#set(sentence, sentence.guess ? [box] : [...sentence.boxes, box]);
        this.tell(T.boxes.at(...box.map(percent)));
      },
    );
  }
}

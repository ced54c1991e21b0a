/** A picture with what is drawn over it: boxes, and a heat map of what the model saw where. */

import { pictureAddress } from "./api.js";
import { BoxLayer, place } from "./boxes.js";
import { T } from "./texts.js";
import { fill, h, percent } from "./dom.js";

const HEAT = 96;
const HEAT_COLOUR = [226, 74, 20];
const STRONGEST = 150;

/**
 * How sure the model is at each point of a grid: the mean over the windows there, in which small ones count more.
 * @param {{box: number[], p_yes: number}[]} windows What was scored.
 * @returns {Float32Array} HEAT × HEAT shares, row by row; NaN where nothing was asked.
 */
export function heatOf(windows) {
  const sums = new Float32Array(HEAT * HEAT);
  const weights = new Float32Array(HEAT * HEAT);
  for (const { box, p_yes: share } of windows) {
    const [left, top, right, bottom] = box.map((value) => Math.round(value * HEAT));
    const weight = 1 / Math.max((right - left) * (bottom - top), 1);
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) {
        sums[y * HEAT + x] += share * weight;
        weights[y * HEAT + x] += weight;
      }
    }
  }
  return sums.map((sum, i) => sum / weights[i]);
}

function heatMap(windows) {
  const canvas = h("canvas", { class: "heat", width: HEAT, height: HEAT, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(HEAT, HEAT);
  heatOf(windows).forEach((share, i) => {
    pixels.data.set([...HEAT_COLOUR, Number.isNaN(share) ? 0 : share * STRONGEST], i * 4);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** A large picture on which boxes can be drawn. */
export class Stage {
  /** @param {(sentence: object) => void} changed Called after the boxes of a sentence changed. */
  constructor(changed = () => {}) {
    this.image = h("img", { alt: "", draggable: "false" });
    this.spoken = h("p", { class: "unseen", "aria-live": "polite" });
    this.layer = new BoxLayer(changed, (text) => {
      this.spoken.textContent = text;
    });
    this.heat = h("div", { class: "heat-place" });
    this.frame = h("div", { class: "frame" }, this.image, this.heat, this.layer.element);
    this.legend = h("p", { class: "help", hidden: true });
    this.cannot = h("p", { class: "note", hidden: true }, T.picture.unshown);
    this.image.addEventListener("error", () => this.#seen(false));
    this.image.addEventListener("load", () => this.#seen(true));
    const help = h("p", { class: "unseen", id: "boxes-help" }, T.boxes.help);
    this.element = h("div", { class: "stage" }, this.frame, this.legend, this.cannot, this.spoken, help);
  }

  /** Show a picture. */
  load(address, alt) {
    this.image.alt = alt;
    this.image.src = address;
    this.showHeat(null);
  }

  /** Lay the heat map of a sentence over the picture; null takes it away. */
  showHeat(windows) {
    const scored = (windows ?? []).filter((one) => typeof one.p_yes === "number");
    fill(this.heat, scored.length ? heatMap(scored) : null);
    this.legend.hidden = !scored.length;
    this.legend.textContent = scored.length ? T.picture.heat(percent(Math.max(...scored.map((one) => one.p_yes)))) : "";
  }

  #seen(seen) {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    this.frame.style.maxWidth = seen && height ? `calc(var(--tallest) * ${width / height})` : "";
    this.frame.hidden = !seen;
    this.cannot.hidden = seen;
  }
}

/**
 * A small picture with boxes that cannot be changed.
 * @param {string} path Where the server, or this page, has it.
 * @param {{boxes: number[][], number?: number, guess?: boolean}[]} groups The boxes of each sentence.
 * @param {string} alt What it shows.
 */
export function thumbnail(path, groups, alt) {
  const image = h("img", { alt, loading: "lazy" });
  const marks = groups.flatMap(({ boxes, number = 1, guess = false }) =>
    (boxes || []).map((box) => place(h("span", { class: `box s${(number - 1) % 8}${guess ? " guess" : ""}` }), box)),
  );
  const frame = h("span", { class: "thumb" }, h("span", { class: "frame" }, image, marks));
  if (/^(data|blob):|^\/app\//.test(path)) image.src = path;
  else {
    pictureAddress(path).then(
      (address) => {
        image.src = address;
      },
      () => frame.classList.add("missing"),
    );
  }
  return frame;
}

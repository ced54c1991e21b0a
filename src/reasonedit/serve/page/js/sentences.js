/** The reasoning of a correction: one sentence a line, each with its boxes on the picture. */

import { T } from "./texts.js";
import { fill, freshId, grow, h, percent } from "./dom.js";
import { thumbnail } from "./stage.js";

/**
 * A sentence of a correction. Its `boxes` and `pictures` were given by a person for some `wording` of it; boxes that are a
 * `guess` were found by the model.
 */
export const sentence = (text = "", more = {}) => ({ text, boxes: [], pictures: [], guess: false, wording: "", confidence: null, heat: null, ...more });

/** What a person gave as evidence of a sentence. */
export const givenFor = (one) => (one.guess ? [] : [...one.pictures, ...one.boxes]);

/** Whether that was given for another wording; a sentence that only goes on is the one that it was given for. */
const isReworded = (one) => givenFor(one).length > 0 && !one.text.trim().startsWith(one.wording);

export class Sentences {
  /**
   * @param {Stage} stage Where their boxes are drawn.
   * @param {() => void} changed Called after any of them changed.
   */
  constructor(stage, changed) {
    this.stage = stage;
    this.changed = changed;
    this.all = [sentence()];
    this.drawing = null;
    this.list = h("ol", { class: "sentences" });
    this.error = h("p", { class: "error", id: freshId("error"), hidden: true });
    this.element = h("fieldset", { class: "field" }, h("legend", {}, T.sentences.title), h("p", { class: "help" }, T.sentences.help), this.list, this.error);
    this.render();
  }

  /** The first line, for a complaint to move to. */
  get input() {
    return this.list.querySelector("textarea");
  }

  /** Say what is wrong beside them. */
  complain(message, param = "") {
    this.error.hidden = !message;
    this.error.textContent = message || "";
    const at = Number(param?.split(".")[1] ?? -1);
    this.list.querySelectorAll("textarea").forEach((area, i) => {
      if (message && (at < 0 || at === i)) area.setAttribute("aria-invalid", "true");
      else area.removeAttribute("aria-invalid");
    });
  }

  /** Those that say something. */
  get written() {
    return this.all.filter((one) => one.text.trim());
  }

  /** Put others in their place. */
  set(sentences) {
    this.all = sentences.length ? sentences : [sentence()];
    this.draw(null);
    this.render();
  }

  /** Draw them all anew. */
  render() {
    fill(this.list, this.all.map((one, i) => this.#row(one, i)));
    this.stage.layer.show(this.all);
  }

  /** Their boxes changed on the picture. */
  boxesChanged(one) {
    Object.assign(one, { heat: null, wording: one.text.trim() });
    this.stage.showHeat(null);
    this.render();
    this.changed();
  }

  /** Let a sentence be drawn for; null ends it. */
  draw(one) {
    this.drawing = one;
    this.stage.layer.draw(one);
  }

  #focus(i) {
    const area = this.list.querySelectorAll("textarea")[i];
    area?.focus();
    area?.setSelectionRange(area.value.length, area.value.length);
  }

  #row(one, i) {
    const area = grow(
      h("textarea", {
        rows: 1,
        value: one.text,
        "aria-label": T.sentences.label(i + 1),
        "aria-describedby": this.error.id,
        placeholder: T.sentences.placeholder[Math.min(i, 1)],
        onfocus: () => this.#point(one),
        oninput: (event) => this.#typed(event, one),
        onkeydown: (event) => this.#key(event, one),
      }),
    );
    const sure = one.confidence === null ? null : h("span", { class: `sure ${one.confidence < 0.5 ? "low" : ""}` }, T.sentences.sure(percent(one.confidence)));
    return h(
      "li",
      { class: `s${i % 8}` },
      h("span", { class: "number", "aria-hidden": "true" }, String(i + 1)),
      area,
      h("div", { class: "tools" }, sure, this.#tools(one, i)),
      one.pictures.length ? h("div", { class: "tools" }, one.pictures.map((path) => thumbnail(path, [], T.sentences.evidence(i + 1)))) : null,
    );
  }

  #tools(one, i) {
    const drawing = this.drawing === one;
    const toggle = () => {
      this.draw(drawing ? null : one);
      this.render();
      this.list.querySelectorAll("li")[i].querySelector("[aria-pressed]")?.focus();
      if (!drawing) this.stage.element.scrollIntoView({ block: "nearest" });
    };
    const boxes = one.boxes.length ? h("span", { class: "count" }, T.boxes.count(one.boxes.length, one.guess)) : null;
    const heat = one.heat?.length ? h("button", { type: "button", class: "link", onclick: () => this.stage.showHeat(one.heat) }, T.sentences.heat) : null;
    const clear = one.boxes.length || one.pictures.length ? h("button", { type: "button", class: "link", onclick: () => this.#clear(one) }, T.sentences.clear(one.boxes.length, one.pictures.length)) : null;
    return [
      h("button", { type: "button", class: "link", "aria-pressed": String(drawing), onclick: toggle }, drawing ? T.sentences.drawing : T.sentences.draw),
      drawing ? h("button", { type: "button", class: "link", onclick: () => this.stage.layer.add(one) }, T.sentences.add) : null,
      boxes,
      isReworded(one) ? h("span", { class: "old" }, T.sentences.old(one.wording)) : null,
      heat,
      clear,
      this.all.length > 1 || one.text ? h("button", { type: "button", class: "link", "aria-label": T.sentences.strikeOne(i + 1), onclick: () => this.#strike(one) }, T.sentences.strike) : null,
    ];
  }

  /** Show what a sentence says on the picture. */
  #point(one) {
    this.stage.layer.raise(one);
    this.stage.showHeat(one.guess ? one.heat : null);
  }

  #clear(one) {
    Object.assign(one, { boxes: [], pictures: [], guess: false });
    this.boxesChanged(one);
  }

  #strike(one) {
    const i = this.all.indexOf(one);
    if (this.drawing === one) this.draw(null);
    this.set(this.all.filter((other) => other !== one));
    this.#focus(Math.max(i - 1, 0));
    this.stage.showHeat(null);
    this.changed();
  }

  #typed(event, one) {
    const lines = event.target.value.split(/\r?\n/);
    one.text = lines[0];
    if (one.guess) Object.assign(one, { boxes: [], guess: false });
    Object.assign(one, { confidence: null, heat: null });
    this.stage.showHeat(null);
    this.complain("");
    const i = this.all.indexOf(one);
    if (lines.length > 1) {
      const more = lines.slice(1).filter((line, j) => line.trim() || j === lines.length - 2);
      this.all.splice(i + 1, 0, ...more.map((line) => sentence(line)));
      this.render();
      this.#focus(i + more.length);
    } else {
      fill(event.target.nextElementSibling, this.#tools(one, i));
      this.stage.layer.show(this.all);
    }
    this.changed();
  }

  #key(event, one) {
    const i = this.all.indexOf(one);
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.all.splice(i + 1, 0, sentence());
      this.render();
      this.#focus(i + 1);
    } else if (event.key === "Backspace" && !one.text && this.all.length > 1) {
      event.preventDefault();
      this.#strike(one);
    }
  }
}

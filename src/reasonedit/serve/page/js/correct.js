/** A correction: the right answer, why it is right, and where the picture shows it; checked before it is saved. */

import { act, statusLine } from "./action.js";
import { ApiError, api } from "./api.js";
import { Sentences, givenFor, sentence } from "./sentences.js";
import { T } from "./texts.js";
import { field, fill, h } from "./dom.js";
import { previewOf } from "./preview.js";
import { state } from "./state.js";

const RECENT = 5; // of the questions that the server keeps, asked anew to see what changes

/** A name that no other edit has; `crypto.randomUUID` is not there on pages without TLS. */
const randomName = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Correction {
  /**
   * @param {object} info What the server said of itself.
   * @param {object} given `stage` and `picture` (with `picture.picture.uri` and `complain`), `draft` (question, choices,
   *   answer, answers, reasoning), `wrong` (what the model said), `replaces` (the id of the edit it takes the place of), and what
   *   is called when it is `saved` or `cancelled`.
   */
  constructor(info, given) {
    Object.assign(this, given, { info, id: randomName() });
    const { draft } = given;
    this.answer = field(T.correct.answer, h("input", { type: "text", value: draft.answer, autocomplete: "off", oninput: () => this.#stale() }));
    this.sentences = new Sentences(this.stage, () => this.#stale());
    if (draft.reasoning.length) this.sentences.set(draft.reasoning.map((one) => sentence(one.text, { boxes: one.boxes, pictures: one.pictures, guess: !one.given, wording: one.text })));
    this.begun = JSON.stringify(this.#written());
    this.line = statusLine();
    this.check = h("button", { type: "submit", class: "button main" }, T.correct.check);
    this.save = h("button", { type: "button", class: "button main", hidden: true, onclick: () => this.#save() }, T.correct.save);
    this.own = h("button", { type: "button", class: "button quiet", onclick: () => this.#own() }, T.correct.own);
    this.ownLine = statusLine();
    this.cancel = h("button", { type: "button", class: "button quiet", onclick: () => this.cancelled() }, T.correct.cancel);
    this.preview = h("div", { class: "preview", "aria-live": "polite" });
    this.element = h(
      "form",
      { class: "correction", novalidate: true, "aria-label": T.correct.title, onsubmit: (event) => this.#check(event) },
      h("h2", {}, given.replaces ? T.correct.replace : T.correct.title),
      this.answer,
      this.sentences.element,
      h("div", { class: "bar" }, this.own, this.ownLine),
      this.preview,
      h("div", { class: "bar" }, this.check, this.save, this.cancel, this.line),
    );
  }

  /** Whether something is written that is not saved. */
  get isBegun() {
    const marked = this.sentences.all.some((one) => !one.text.trim() && one.boxes.length);
    return marked || JSON.stringify(this.#written()) !== this.begun;
  }

  /** Whether it may be left; where something would be lost the person is asked. */
  mayLeave() {
    return !this.isBegun || window.confirm(T.correct.leave);
  }

  /** Let the person begin. */
  begin() {
    this.answer.input.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  /** Boxes were changed on the picture. */
  boxesChanged(one) {
    this.sentences.boxesChanged(one);
  }

  #fields() {
    return { answer: this.answer, answers: this.answer, reasoning: this.sentences, boxes: this.sentences, image: this.picture };
  }

  /** What the person wrote and drew. */
  #written() {
    const { written } = this.sentences;
    const answer = this.answer.input.value.trim();
    return {
      answer,
      answers: (answer === this.draft.answer && this.draft.answers) || [],
      reasoning: written.map((one) => one.text.trim()),
      boxes: written.map(givenFor),
    };
  }

  #body() {
    const { question, choices } = this.draft;
    return {
      image: this.picture.picture.uri,
      question,
      ...this.#written(),
      ...(choices ? { choices } : {}),
      ...(this.replaces ? { replaces: this.replaces } : {}),
    };
  }

  #stale() {
    if (!this.checked) return;
    this.checked = null;
    this.save.hidden = true;
    this.check.hidden = false;
    this.line.clear();
    fill(this.preview, h("p", { class: "note" }, T.correct.stale));
  }

  #complete() {
    const answer = this.answer.input.value.trim();
    this.answer.complain(answer ? "" : T.correct.noAnswer);
    this.sentences.complain(this.sentences.written.length ? "" : T.correct.noReasoning);
    if (!answer) this.answer.input.focus();
    else if (!this.sentences.written.length) this.sentences.input.focus();
    return answer && this.sentences.written.length;
  }

  async #check(event) {
    event.preventDefault();
    if (!this.#complete()) return;
    this.sentences.draw(null);
    const body = this.#body();
    const room = ((this.info.limits?.body_mb ?? 1) - 1) * 1024 * 1024 - body.image.length;
    const known = this.info.keeps_questions ? { recent: RECENT } : { questions: state.others(room, body) };
    const result = await act(this.check, this.line, { working: T.correct.checking }, () => api.check({ ...body, ...known }), this.#fields());
    if (!result || !this.element.isConnected) return;
    if (JSON.stringify(body) !== JSON.stringify(this.#body())) {
      fill(this.preview, h("p", { class: "note" }, T.correct.stale));
      return;
    }
    this.checked = body;
    this.#found(result.reasoning);
    fill(this.preview, previewOf(result));
    this.check.hidden = true;
    this.save.hidden = false;
    this.save.focus();
  }

  /** Draw what the model found for the sentences that have no box of the person's. */
  #found(reasoning) {
    this.sentences.written.forEach((one, i) => {
      const found = reasoning?.[i];
      if (!found) return;
      one.heat = found.heat ?? null;
      if (!found.given) Object.assign(one, { boxes: found.boxes ?? [], guess: true });
    });
    this.sentences.render();
    const first = this.sentences.written.find((one) => one.guess && one.heat?.length);
    if (first) this.stage.showHeat(first.heat);
  }

  async #save() {
    const body = this.checked;
    if (!body) return;
    this.#lock(true); // what is saved is what was checked
    const edit = await act(this.save, this.line, { working: T.correct.saving }, () => this.#send(body).finally(() => this.#lock(false)), this.#fields());
    if (edit && this.element.isConnected) this.saved(edit);
  }

  /** The correction has one name however often it is sent: where only the answer was lost, it is not saved twice. */
  async #send(body) {
    try {
      return await api.save({ ...body, id: this.id });
    } catch (error) {
      if (error.status !== 409 || !(await api.edit(this.id).catch(() => null))) throw error;
      throw new ApiError(T.correct.arrived, 409); // what was sent first is another correction than this
    }
  }

  #lock(locked) {
    for (const one of [this.answer.input, this.sentences.element, this.own, this.cancel]) one.disabled = locked;
    this.stage.element.inert = locked;
  }

  async #own() {
    const { question } = this.draft;
    const work = () => api.reasoning({ image: this.picture.picture.uri, question });
    const own = await act(this.own, this.ownLine, { working: T.correct.thinking }, work);
    if (!own || !this.element.isConnected) return;
    if (!own.sentences.length) {
      this.ownLine.say("", T.correct.noOwn);
      return;
    }
    const kept = this.sentences.all.filter((one) => one.text.trim() || one.boxes.length || one.pictures.length);
    this.sentences.set([...kept, ...own.sentences.map((one) => sentence(one.text, { confidence: one.confidence ?? null }))]);
    this.ownLine.say("done", T.correct.ownHelp);
    this.#stale();
  }
}

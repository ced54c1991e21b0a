/** The page of one edit, which can be linked to: what it says, where, what became of it; and its correction. */

import { act, statusLine } from "./action.js";
import { api, asDataUri, pictureAddress } from "./api.js";
import { Correction } from "./correct.js";
import { T } from "./texts.js";
import { fill, h, timeOf } from "./dom.js";
import { Stage, thumbnail } from "./stage.js";
import { stateTag, undoButton } from "./undoing.js";
import { verdictOf } from "./verdict.js";

export class EditView {
  constructor(info, id) {
    Object.assign(this, { info, id });
    this.element = h("div", { class: "bench" }, h("p", { class: "status working" }, T.edit.loading));
    this.#load();
  }

  async #load() {
    try {
      const [edit, history] = await Promise.all([api.edit(this.id), api.history(this.id)]);
      this.#show(edit, history.data);
    } catch (error) {
      fill(this.element, h("div", { class: "sheet" }, h("h1", {}, T.edit.title), h("p", { class: "error", role: "alert" }, error.message), h("a", { href: "#/edits" }, T.edit.back)));
    }
  }

  #show(edit, history) {
    this.edit = edit;
    this.stage = new Stage((sentence) => this.correction?.boxesChanged(sentence));
    this.picture = { picture: null, complain: (message) => this.line.say(message ? "failed" : "", message || "") };
    pictureAddress(edit.image_url).then(
      (address) => this.stage.load(address, T.edit.alt(edit.question)),
      (error) => this.line.say("failed", error.message),
    );
    this.stage.element.inert = true; // its boxes are to be looked at
    this.stage.layer.show(edit.reasoning.map((one) => ({ ...one, guess: !one.given })));
    this.line = statusLine();
    this.right = h("div", { class: "right" });
    fill(this.element, h("div", { class: "left" }, this.stage.element, this.line), this.right);
    fill(this.right, this.#said(edit), this.#doing(edit), this.#history(history));
  }

  #said(edit) {
    const others = (edit.answers ?? []).filter((answer) => answer !== edit.answer);
    return [
      h("p", { class: "about" }, h("a", { href: "#/edits" }, T.edit.back)),
      h("h1", { class: "question" }, edit.question),
      h("p", { class: "said" }, edit.answer),
      others.length ? h("p", { class: "help" }, T.edit.also(others.join(", "))) : null,
      edit.choices ? h("p", { class: "help" }, T.edit.choices(edit.choices.join(", "))) : null,
      h("ol", { class: "reasons" }, edit.reasoning.map((one, i) => this.#reason(one, i))),
      h("p", { class: "about" }, stateTag(edit), " ", edit.author || T.edits.anonymous, " · ", timeOf(edit.time), " · ", T.edit.keys(edit.keys), edit.used === null || edit.used === undefined ? null : ` · ${T.edits.used(edit.used)}`),
      edit.contradicts?.length
        ? h("div", { class: "warning" }, h("p", {}, T.edits.contradicts(edit.contradicts.length)), h("ul", {}, edit.contradicts.map((id) => h("li", {}, h("a", { href: `#/edits/${encodeURIComponent(id)}` }, id)))))
        : null,
    ];
  }

  #reason(one, i) {
    const count = one.boxes.length ? h("span", { class: "about" }, ` ${T.boxes.count(one.boxes.length, !one.given)}`) : null;
    const pictures = one.pictures.map((path) => thumbnail(path, [], T.sentences.evidence(i + 1)));
    return h("li", { class: `s${i % 8}` }, h("span", { class: "number" }, String(i + 1)), h("span", {}, one.text, count), pictures);
  }

  #doing(edit) {
    const line = statusLine();
    const found = h("div", { class: "preview" });
    const check = h("button", { type: "button", class: "button quiet", onclick: () => this.#check(check, line, found) }, T.edit.check);
    const checking = edit.state === "active" ? check : null;
    if (this.info.read_only) return [h("p", { class: "note" }, T.readOnly), h("div", { class: "bar" }, checking, line), found];
    const replace = h("button", { type: "button", class: "button", onclick: () => this.#replace(replace, line) }, T.edit.replace);
    this.undo = undoButton(edit, line, async () => {
      await this.#load();
      this.undo.focus(); // whoever works by keyboard goes on there
    });
    return [h("div", { class: "bar" }, edit.state === "active" ? replace : null, checking, this.undo, line), found];
  }

  async #check(button, line, found) {
    const result = await act(button, line, { working: T.edit.checking }, () => api.checkEdit(this.id));
    if (result) fill(found, verdictOf(result));
  }

  #history(history) {
    const lines = history.map(({ op, time, author }) => h("li", {}, T.edit.ops[op] ?? op, " ", timeOf(time), author ? ` ${T.edit.by(author)}` : ""));
    return h("section", {}, h("h2", {}, T.edit.history), h("ol", { class: "history" }, lines), h("p", { class: "help" }, T.edit.id, h("code", {}, this.id)));
  }

  async #replace(button, line) {
    const { stage } = this;
    const uri = await act(button, line, { working: T.correct.opening }, () => asDataUri(this.edit.image_url));
    if (!uri || this.stage !== stage) return; // it was undone meanwhile
    this.picture.picture = { uri, name: "" };
    const { question, choices, answer, answers, reasoning } = this.edit;
    this.stage.element.inert = false;
    this.correction = new Correction(this.info, {
      stage: this.stage,
      picture: this.picture,
      draft: { question, choices, answer, answers, reasoning },
      replaces: this.id,
      saved: (edit) => {
        this.correction = null;
        location.hash = `#/edits/${encodeURIComponent(edit.id)}`;
      },
      cancelled: () => {
        this.correction = null;
        this.#load();
      },
    });
    fill(this.right, h("p", { class: "about" }, h("a", { href: "#/edits" }, T.edit.back)), h("h1", { class: "question" }, question), this.correction.element);
    this.correction.begin();
  }
}

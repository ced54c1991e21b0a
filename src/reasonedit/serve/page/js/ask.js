/** Ask a question about a picture, see the answer, and correct it. */

import { act, statusLine } from "./action.js";
import { api } from "./api.js";
import { PictureInput, sampleList } from "./chosen.js";
import { Correction } from "./correct.js";
import { T } from "./texts.js";
import { field, fill, grow, h } from "./dom.js";
import { factsOf } from "./facts.js";
import { state } from "./state.js";

/** The choices that a person wrote, one per line; null where there are none. */
export function choicesOf(text) {
  const choices = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return choices.length ? choices : null;
}

/** An answer, large, with the one of the unedited model beside it once that is known. */
function answerCard(answer) {
  const before = h("div", { class: "before", hidden: true });
  const text = answer.text || T.ask.empty;
  return Object.assign(
    h(
      "section",
      { class: "answer", "aria-label": T.ask.answer },
      h("div", { class: "pair" }, h("div", {}, h("h2", {}, T.ask.answer), h("p", { class: "said" }, text)), before),
      answer.finish === "length" ? h("p", { class: "help" }, T.ask.cutOff) : null,
      factsOf(answer),
    ),
    {
      showBefore(said) {
        before.hidden = false;
        fill(before, h("h2", {}, T.ask.without), h("p", { class: "said" }, said || T.ask.empty));
      },
    },
  );
}

export class AskView {
  constructor(info) {
    this.info = info;
    this.picture = new PictureInput(info, {
      may: () => this.#mayLeave(),
      taken: (picture, sample) => this.#taken(picture, sample),
      changed: (sentence) => this.correction?.boxesChanged(sentence),
    });
    const area = h("textarea", { rows: 1, placeholder: T.ask.placeholder, autocomplete: "off", onkeydown: (event) => this.#enter(event) });
    this.question = field(T.ask.question, grow(area));
    this.choices = field(T.ask.choices, grow(h("textarea", { rows: 2 })), T.ask.choicesHelp);
    this.more = h("details", { class: "more" }, h("summary", {}, T.ask.multiple), this.choices);
    this.button = h("button", { type: "submit", class: "button main" }, T.ask.ask);
    this.line = statusLine();
    this.result = h("div", { class: "result" });
    this.fact = h("p", { class: "true", hidden: true });
    this.intro = h("div", { class: "intro" }, h("h1", {}, T.ask.title), h("p", {}, T.ask.intro));
    const form = h("form", { novalidate: true, onsubmit: (event) => this.#submit(event) }, this.question, this.more, h("div", { class: "bar" }, this.button, this.line));
    const notes = (info.notes || []).map((note) => h("p", { class: "note" }, note));
    const samples = sampleList(info.samples, (sample) => this.picture.take(sample.url, sample.name, sample));
    const left = h("div", { class: "left" }, this.picture.element, samples, notes);
    const right = h("div", { class: "right" }, this.fact, form, this.result);
    this.element = h("div", {}, this.intro, h("div", { class: "bench" }, left, right));
    this.restore();
  }

  /** What was on the page when it was left. */
  restore() {
    const { asked } = state;
    if (!asked) return;
    this.picture.set(asked.picture, asked.sample);
    this.question.input.value = asked.question;
    this.choices.input.value = asked.choices?.join("\n") ?? "";
    this.more.open = Boolean(asked.choices);
    state.asked = asked; // a picture that is taken begins anew
  }

  pasted(event) {
    this.picture.pasted(event);
  }

  #enter(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.button.click();
  }

  #taken(picture, sample) {
    this.#close();
    this.intro.className = "unseen"; // the work begins
    state.asked = { picture, sample, question: sample?.question ?? this.question.input.value };
    this.fact.hidden = !sample?.fact;
    this.fact.textContent = sample?.fact ? T.ask.fact(sample.fact) : "";
    if (sample) {
      this.question.input.value = sample.question;
      this.choices.input.value = "";
    }
    this.question.input.dispatchEvent(new Event("input"));
  }

  #mayLeave() {
    return !this.correction || this.correction.mayLeave();
  }

  #close() {
    this.running?.abort();
    this.correction = null;
    this.picture.stage.layer.show([]);
    this.picture.stage.layer.draw(null);
    this.picture.stage.showHeat(null);
    fill(this.result);
    this.line.clear();
  }

  async #submit(event) {
    event.preventDefault();
    if (!(await this.picture.arrived())) return undefined; // what is asked is about the picture that was chosen last
    if (this.button.getAttribute("aria-disabled") === "true") return undefined; // the model is at it
    const question = this.question.input.value.trim();
    if (!this.picture.picture) return this.picture.complain(T.ask.noPicture);
    if (!question) {
      this.question.complain(T.ask.noQuestion);
      return this.question.input.focus();
    }
    if (!this.#mayLeave()) return undefined;
    this.#close();
    state.asked = { ...state.asked, picture: this.picture.picture, question, choices: choicesOf(this.choices.input.value) };
    return this.ask();
  }

  /** Ask what the page says, and show the answer; whether there is one. */
  async ask() {
    const asked = state.asked;
    this.running = new AbortController();
    const query = { image: asked.picture.uri, question: asked.question, choices: asked.choices };
    const fields = { image: this.picture, messages: this.picture, question: this.question, choices: this.choices };
    const work = () => api.ask(query, this.info.model, this.running.signal);
    const answer = await act(this.button, this.line, { working: T.ask.asking }, work, fields);
    if (!answer) return false;
    state.remember({ image: query.image, question: query.question, ...(query.choices ? { choices: query.choices } : {}) });
    this.#show(answer, query);
    return true;
  }

  #show(answer, query) {
    const card = answerCard(answer);
    const correct = h("button", { type: "button", class: "button", onclick: () => this.#correct(answer) }, T.ask.correct);
    const right = this.info.read_only ? h("p", { class: "note" }, T.readOnly) : h("div", { class: "bar" }, correct);
    fill(this.result, card, right);
    if (!answer.facts?.length) return;
    const bare = api.ask({ ...query, edits: false }, this.info.model, this.running.signal);
    bare.then((before) => card.showBefore(before.text), () => {}); // beside the answer, which is there already
  }

  #correct(answer) {
    this.correction = new Correction(this.info, {
      stage: this.picture.stage,
      picture: this.picture,
      draft: { question: state.asked.question, choices: state.asked.choices, answer: "", reasoning: [] },
      wrong: answer.text,
      saved: (edit) => this.#saved(edit),
      cancelled: () => this.#close(),
    });
    this.result.querySelector(".bar")?.remove();
    this.result.append(this.correction.element);
    this.correction.begin();
  }

  async #saved(edit) {
    const note = (text) => h("p", { class: "saved", role: "status" }, `${text} `, h("a", { href: `#/edits/${encodeURIComponent(edit.id)}` }, T.correct.see));
    this.#close();
    fill(this.result, note(T.correct.saved));
    if (await this.ask()) this.result.prepend(note(T.correct.now));
  }
}

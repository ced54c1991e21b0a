/** Questions that were asked of the server, marked right or corrected one after the other; and how the edits are used. */

import { act, statusLine } from "./action.js";
import { api, asDataUri, pictureAddress } from "./api.js";
import { Correction } from "./correct.js";
import { T } from "./texts.js";
import { fill, h, percent, timeOf } from "./dom.js";
import { Stage } from "./stage.js";

const PAGE = 20;
const MOST = 10; // of each list
const KEYS = { r: "right", c: "correct", n: "next", p: "previous" };

/** A link to an edit that shows its question, once that is known. */
function link(id) {
  const anchor = h("a", { href: `#/edits/${encodeURIComponent(id)}` }, id.slice(0, 12));
  api.edit(id).then((edit) => fill(anchor, `${edit.question} ${edit.answer}`), () => {}); // its name is enough
  return anchor;
}

export class ReviewView {
  constructor(info) {
    this.info = info;
    this.asked = [];
    this.at = 0;
    this.stats = h("section", { class: "stats", "aria-label": T.review.stats });
    this.queue = h("section", { "aria-label": T.review.queue });
    this.element = h("div", { class: "sheet wide" }, h("h1", {}, T.review.title), this.queue, this.stats);
    this.#loadStats();
    if (info.keeps_questions) this.#load();
    else fill(this.queue, h("p", { class: "note" }, T.review.notKept));
  }

  /** Keys of the page, unless something is being written. */
  key(event) {
    const name = KEYS[event.key.toLowerCase()];
    const writes = event.target.closest("input, textarea, select, [contenteditable]");
    if (!name || writes || this.correction || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = this.buttons?.[name];
    if (!button) return;
    event.preventDefault();
    button.click();
  }

  /** Look for questions: the newest, or those that are older than the ones that are here. */
  async #load(older = false) {
    const line = statusLine();
    this.buttons = null;
    fill(this.queue, line);
    line.say("working", T.review.loading);
    const kept = older ? this.asked : [];
    try {
      const { data, has_more: more } = await api.questions({ mark: "none", limit: PAGE, after: kept.at(-1)?.id });
      Object.assign(this, { asked: [...kept, ...data], more, at: kept.length });
      this.#show();
      if (older) this.queue.querySelector("h2")?.focus();
    } catch (error) {
      line.say("failed", error.message);
      this.queue.append(this.#again());
    }
  }

  #again() {
    return h("div", { class: "bar" }, h("button", { type: "button", class: "button quiet", onclick: () => this.#load() }, T.review.again));
  }

  #show() {
    this.correction = null;
    const one = this.asked[this.at];
    if (!one) {
      fill(this.queue, h("p", { class: "note" }, this.asked.length ? T.review.done : T.review.empty), this.#again());
      this.buttons = null;
      this.queue.querySelector("button").focus();
      return;
    }
    this.line = statusLine();
    this.stage = new Stage((sentence) => this.correction?.boxesChanged(sentence));
    this.picture = { picture: null, complain: (message) => this.line.say(message ? "failed" : "", message || "") };
    pictureAddress(one.image_url).then((address) => this.stage.load(address, T.edit.alt(one.question)), (error) => this.line.say("failed", error.message));
    this.right = h("div", { class: "right" }, this.#asked(one), this.#doing(one), this.line);
    fill(this.queue, h("div", { class: "bench" }, h("div", { class: "left" }, this.stage.element), this.right));
  }

  #asked(one) {
    const edits = (one.edit_ids ?? []).map((id, i) => h("a", { href: `#/edits/${encodeURIComponent(id)}` }, T.review.edit(i + 1)));
    return [
      h("p", { class: "about" }, T.review.place(this.at + 1, this.asked.length, this.more), " · ", timeOf(one.time)),
      h("h2", { class: "question", tabindex: "-1" }, one.question),
      one.choices ? h("p", { class: "help" }, T.edit.choices(one.choices.join(", "))) : null,
      h("p", { class: "said" }, one.answer || T.ask.empty),
      one.finish_reason === "length" ? h("p", { class: "help" }, T.review.cutOff) : null,
      h("p", { class: "about" }, T.review.facts(one.facts), edits.length ? ": " : "", edits.flatMap((link) => [link, " "])),
    ];
  }

  #doing(one) {
    const make = (name, key, label, work, main = false) =>
      h("button", { type: "button", class: `button ${main ? "main" : "quiet"}`, "aria-keyshortcuts": key, onclick: work }, label, h("kbd", { "aria-hidden": "true" }, key));
    const writable = !this.info.read_only;
    this.buttons = {
      right: writable ? make("right", "R", T.review.right, () => this.#mark(one, { mark: "right" }, this.buttons.right), true) : null,
      correct: writable ? make("correct", "C", T.review.correct, () => this.#correct(one)) : null,
      next: make("next", "N", T.review.next, () => this.#go(1)),
      previous: make("previous", "P", T.review.previous, () => this.#go(-1)),
    };
    if (this.at === 0) this.buttons.previous.disabled = true;
    return h("div", { class: "bar" }, Object.values(this.buttons));
  }

  #go(by) {
    if (this.at + by < 0) return;
    this.at += by;
    if (this.at >= this.asked.length && this.more) this.#load(true);
    else this.#show();
    this.queue.querySelector("h2")?.focus();
  }

  async #mark(one, body, button) {
    const marked = await act(button, this.line, { working: T.review.marking }, () => api.mark(one.id, body));
    if (marked === undefined) return;
    if (this.asked[this.at] === one) this.#go(1); // or the person went on meanwhile
  }

  /** The correction is saved: what is left is the mark, which can be tried again alone. */
  async #saved(one, edit) {
    this.correction = null;
    this.#loadStats();
    this.stage.element.inert = true;
    const mark = () => this.#mark(one, { mark: "corrected", edit_id: edit.id }, button);
    const button = h("button", { type: "button", class: "button main", onclick: mark }, T.review.mark);
    const bar = h("div", { class: "bar" }, button, this.buttons.next);
    this.buttons = { next: this.buttons.next };
    fill(this.right, this.#asked(one), bar, this.line);
    await mark();
    const see = h("a", { href: `#/edits/${encodeURIComponent(edit.id)}` }, T.correct.see);
    bar.before(h("p", { class: "warning", role: "status" }, T.review.unmarked, " ", see)); // unseen where another one is shown by now
  }

  async #correct(one) {
    const { stage } = this;
    const uri = await act(this.buttons.correct, this.line, { working: T.correct.opening }, () => asDataUri(one.image_url));
    if (!uri || this.stage !== stage) return; // the person went on meanwhile
    this.picture.picture = { uri, name: "" };
    this.correction = new Correction(this.info, {
      stage: this.stage,
      picture: this.picture,
      draft: { question: one.question, choices: one.choices, answer: "", reasoning: [] },
      wrong: one.answer,
      saved: (edit) => this.#saved(one, edit),
      cancelled: () => this.#show(),
    });
    fill(this.right, this.#asked(one), this.correction.element, this.line);
    this.correction.begin();
  }

  async #loadStats() {
    try {
      this.#showStats(await api.stats());
    } catch (error) {
      fill(this.stats, h("p", { class: "error" }, error.message));
    }
  }

  #showStats(stats) {
    const number = (value, label) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
    const list = (title, items, none) => h("div", {}, h("h3", {}, title), items.length ? h("ul", {}, items.map((item) => h("li", {}, item))) : h("p", { class: "help" }, none));
    fill(
      this.stats,
      h("h2", {}, T.review.stats),
      h(
        "dl",
        { class: "numbers" },
        number(String(stats.questions), T.review.questions),
        number(stats.questions ? percent(stats.with_facts / stats.questions) : "–", T.review.share),
        number(String(stats.out_of_range), T.review.outOfRange),
        number(String(stats.edits.active), T.review.active),
        number(String(stats.edits.undone), T.review.undone),
      ),
      h(
        "div",
        { class: "lists" },
        list(T.review.contradictions(stats.contradictions.length), stats.contradictions.slice(0, MOST).map(([a, b]) => [link(a), ` ${T.review.and} `, link(b)]), T.review.noContradictions),
        list(T.review.most, stats.most_used.slice(0, MOST).map(({ id, used }) => [link(id), ` ${T.edits.used(used)}`]), T.review.noneUsed),
        list(T.review.never(stats.never_used.length), stats.never_used.slice(0, MOST).map(link), T.review.allUsed),
      ),
    );
  }
}

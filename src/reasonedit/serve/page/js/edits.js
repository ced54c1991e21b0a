/** The list of edits: searched, chosen, undone, restored, exported and imported. */

import { act, statusLine } from "./action.js";
import { api } from "./api.js";
import { T } from "./texts.js";
import { fill, freshId, h, timeOf } from "./dom.js";
import { thumbnail } from "./stage.js";
import { stateTag, undoButton } from "./undoing.js";

const PAUSE = 250; // ms without typing before a search begins
const PAGE = 30;
const LAST_DAY = "9999-12-30"; // the server's years have four digits

/** The boxes of an edit's sentences, numbered, for a thumbnail. */
export const boxGroups = (edit) => edit.reasoning.map((one, i) => ({ boxes: one.boxes, number: i + 1, guess: !one.given }));

/** The first moment of a day as the reader's clock has it, or the last one; nothing where no day is chosen. */
function momentOf(day, last = false) {
  if (!day) return "";
  const moment = new Date(`${day}T00:00`);
  if (last) {
    moment.setDate(moment.getDate() + 1);
    moment.setMilliseconds(-1);
  }
  return moment.toISOString();
}

/** Let the browser keep a file. */
function keep(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

export class EditsView {
  constructor(info) {
    this.info = info;
    this.chosen = new Set();
    this.line = statusLine();
    this.list = h("ul", { class: "edits" });
    this.more = h("button", { type: "button", class: "button quiet", hidden: true, onclick: () => this.#load(false) }, T.edits.more);
    this.searched = {
      search: h("input", { type: "search", placeholder: T.edits.searchHelp }),
      author: h("input", { type: "text" }),
      state: h("select", {}, h("option", { value: "" }, T.edits.all), h("option", { value: "active" }, T.edits.active), h("option", { value: "undone" }, T.edits.undone)),
      since: h("input", { type: "date", max: LAST_DAY }),
      until: h("input", { type: "date", max: LAST_DAY }),
    };
    const filters = Object.entries(this.searched).map(([name, input]) => {
      input.id = freshId("filter");
      input.addEventListener("input", () => this.#later());
      return h("div", { class: `field ${name}` }, h("label", { for: input.id }, T.edits.filters[name]), input);
    });
    this.element = h(
      "div",
      { class: "sheet" },
      h("h1", {}, T.edits.title),
      h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, filters),
      this.#transfer(),
      this.line,
      this.list,
      this.more,
    );
    this.#load(true);
  }

  #transfer() {
    this.count = h("span", { class: "help" });
    this.exporting = h("button", { type: "button", class: "button quiet", disabled: true, onclick: () => this.#export() }, T.edits.export);
    const file = h("input", { type: "file", accept: ".zip,application/zip", class: "unseen", id: "import-file" });
    file.addEventListener("change", () => this.#import(file));
    this.importing = h("label", { class: "button quiet", for: "import-file" }, T.edits.import);
    this.transferLine = statusLine();
    return h("div", { class: "bar" }, this.exporting, this.info.read_only ? null : [file, this.importing], this.count, this.transferLine);
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#load(true), PAUSE);
  }

  #query() {
    const { search, author, state, since, until } = this.searched;
    return { search: search.value.trim(), author: author.value.trim(), state: state.value, since: momentOf(since.value), until: momentOf(until.value, true), limit: PAGE };
  }

  async #load(anew) {
    const turn = (this.turn = (this.turn || 0) + 1);
    this.line.say("working", T.edits.loading);
    try {
      const page = await api.edits({ ...this.#query(), after: anew ? "" : this.last });
      if (turn !== this.turn) return; // another search has begun
      const rows = page.data.map((edit) => this.#row(edit));
      if (anew) fill(this.list, rows);
      else this.list.append(...rows);
      this.last = page.data.at(-1)?.id ?? this.last;
      this.more.hidden = !page.has_more;
      this.line.say("", this.list.children.length ? T.edits.shown(this.list.children.length, page.total) : T.edits.empty);
    } catch (error) {
      if (turn === this.turn) this.line.say("failed", error.message);
    }
  }

  #row(edit) {
    const line = statusLine();
    const address = `#/edits/${encodeURIComponent(edit.id)}`;
    const choose = h("input", { type: "checkbox", checked: this.chosen.has(edit.id), "aria-label": T.edits.choose(edit.question), onchange: (event) => this.#choose(edit.id, event.target.checked) });
    const row = h(
      "li",
      { class: `edit ${edit.state}` },
      choose,
      thumbnail(edit.image_url, boxGroups(edit), ""),
      h(
        "div",
        { class: "what" },
        h("a", { class: "question", href: address }, edit.question),
        h("p", { class: "said" }, edit.answer),
        h("ol", {}, edit.reasoning.map((one) => h("li", {}, one.text))),
        h("p", { class: "about" }, stateTag(edit), " ", edit.author || T.edits.anonymous, " · ", timeOf(edit.time), edit.used === null || edit.used === undefined ? null : ` · ${T.edits.used(edit.used)}`),
        edit.contradicts?.length ? h("p", { class: "warning" }, T.edits.contradicts(edit.contradicts.length)) : null,
      ),
      this.info.read_only ? null : h("div", { class: "does" }, undoButton(edit, line, (changed) => this.#replace(row, changed)), line),
    );
    return row;
  }

  /** Show an edit as it is now; whoever works by keyboard goes on there. */
  #replace(row, edit) {
    const changed = this.#row(edit);
    row.replaceWith(changed);
    changed.querySelector(".does .button").focus();
  }

  #choose(id, chosen) {
    if (chosen) this.chosen.add(id);
    else this.chosen.delete(id);
    this.exporting.disabled = !this.chosen.size;
    this.count.textContent = this.chosen.size ? T.edits.chosen(this.chosen.size) : "";
  }

  async #export() {
    const blob = await act(this.exporting, this.transferLine, { working: T.edits.exporting, done: T.edits.exported(this.chosen.size) }, () => api.exportEdits([...this.chosen]));
    if (blob) keep(blob, "edits.zip");
  }

  async #import(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    input.disabled = true;
    const result = await act(this.importing, this.transferLine, { working: T.edits.importingFile(file.name) }, () => api.importEdits(file));
    input.disabled = false;
    if (!result) return;
    await this.#load(true);
    this.transferLine.say("done", T.edits.imported(result.written.length, result.skipped.length, result.undone));
  }
}

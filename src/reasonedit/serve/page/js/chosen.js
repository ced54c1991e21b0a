/** The picture that is asked about: dropped, pasted, chosen, or one of the samples. */

import { ApiError, asDataUri } from "./api.js";
import { statusLine } from "./action.js";
import { Stage } from "./stage.js";
import { T } from "./texts.js";
import { fill, h } from "./dom.js";

const MB = 1024 * 1024;
const GROWTH = 4 / 3; // of base64

/**
 * A place for one picture.
 * @param {object} info What the server said of itself.
 * @param {{may: () => boolean, taken: (picture: {uri: string, name: string}, sample?: object) => void, changed?: (sentence: object) => void}} hooks
 *   `may` says whether another picture may be taken, `taken` is called when there is one, `changed` when boxes on it were.
 */
export class PictureInput {
  constructor(info, { may, taken, changed }) {
    this.info = info;
    this.may = may;
    this.taken = taken;
    this.stage = new Stage(changed);
    this.input = h("input", { type: "file", accept: "image/*", class: "unseen", id: "picture-file", onchange: () => this.#chosen() });
    this.line = statusLine();
    this.error = h("p", { class: "error", role: "alert", hidden: true });
    this.name = h("p", { class: "name" });
    this.zone = h("label", { class: "zone", for: "picture-file" }, h("strong", {}, T.picture.drop), h("span", {}, T.picture.how));
    this.bar = h("div", { class: "bar" }, this.name, h("label", { class: "button quiet", for: "picture-file" }, T.picture.other));
    this.element = h("section", { class: "picture", "aria-label": T.picture.title }, this.input, this.zone, this.stage.element, this.bar, this.error, this.line);
    for (const type of ["dragover", "dragleave", "drop"]) this.element.addEventListener(type, (event) => this.#dropped(event));
    this.#show();
  }

  /** Say what is wrong with the picture, beside it. */
  complain(message) {
    this.error.hidden = !message;
    this.error.textContent = message || "";
  }

  /** Take a picture from the clipboard; a page calls it for its `paste` events. */
  pasted(event) {
    const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
    const writes = event.target.closest?.("input, textarea") && event.clipboardData.types.includes("text/plain");
    if (!file || writes) return; // office programs put a picture of a copied text beside it
    event.preventDefault();
    this.take(file, file.name || T.picture.pasted);
  }

  /**
   * Take a picture.
   * @param {Blob|string} source The picture, or where the server has it.
   * @param {string} name What it is called.
   * @param {object} [sample] The sample that it is.
   */
  take(source, name, sample) {
    if (!this.may()) return;
    const coming = this.#take(source, name, sample);
    this.coming = coming;
    coming.then(() => {
      if (this.coming === coming) this.coming = null;
    });
  }

  /** Wait for the picture that is on its way, if one is; whether it could be read. */
  async arrived() {
    let could = true;
    while (this.coming) could = await this.coming;
    return could;
  }

  async #take(source, name, sample) {
    const turn = (this.turn = (this.turn || 0) + 1);
    this.complain("");
    const most = this.info.limits?.body_mb;
    try {
      if (most && source.size * GROWTH > most * MB) throw new ApiError(T.picture.tooLarge(name, (source.size / MB).toFixed(1), Math.floor(most / GROWTH)));
      const uri = await asDataUri(source);
      if (turn === this.turn) this.set({ uri, name }, sample); // or another one was taken meanwhile
      return true;
    } catch (error) {
      if (turn === this.turn) this.complain(error.message);
      return false;
    }
  }

  /** Show a picture that is here already. */
  set(picture, sample) {
    this.picture = picture;
    this.stage.load(picture.uri, T.picture.alt(picture.name));
    this.#show();
    this.taken(picture, sample);
  }

  #show() {
    this.zone.hidden = Boolean(this.picture);
    this.stage.element.hidden = !this.picture;
    this.bar.hidden = !this.picture;
    this.name.textContent = this.picture?.name || "";
  }

  #chosen() {
    const [file] = this.input.files;
    if (file) this.take(file, file.name);
    this.input.value = "";
  }

  #dropped(event) {
    event.preventDefault();
    this.element.classList.toggle("over", event.type === "dragover");
    const [file] = event.type === "drop" ? event.dataTransfer.files : [];
    if (file) this.take(file, file.name);
  }
}

/** The samples, as buttons with pictures. */
export function sampleList(samples, choose) {
  if (!samples?.length) return null;
  const buttons = samples.map((sample) =>
    h("button", { type: "button", class: "sample", title: sample.fact || sample.name, "aria-label": T.picture.sample(sample.fact || sample.name, sample.question), onclick: () => choose(sample) }, h("img", { src: sample.url, alt: "", width: 56, height: 56 })),
  );
  return fill(h("div", { class: "samples" }), h("p", { class: "help" }, T.picture.samples), h("div", { class: "row" }, buttons));
}

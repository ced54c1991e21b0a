/** Undo and restore, wherever an edit is shown. */

import { act } from "./action.js";
import { api } from "./api.js";
import { T } from "./texts.js";
import { h } from "./dom.js";

/** How an edit stands, in a word. */
export const stateTag = (edit) => h("span", { class: `tag ${edit.state}` }, edit.state === "active" ? T.edits.active : T.edits.undone);

/**
 * The button that undoes an edit, or restores it. Where other edits rest on it, it names them first and asks again.
 * @param {object} edit The edit.
 * @param {HTMLElement} line A `statusLine`.
 * @param {(edit: object) => void} done Called with the edit as it is then.
 */
export function undoButton(edit, line, done) {
  const active = edit.state === "active";
  const button = h("button", { type: "button", class: "button quiet" }, active ? T.edits.undo : T.edits.restore);
  let warned = !active;
  button.addEventListener("click", async () => {
    if (!warned) {
      const whole = await act(button, line, { working: T.edits.undoing }, () => api.edit(edit.id));
      if (!whole) return;
      warned = true;
      if (whole.needed_by.length) {
        line.say("failed", T.edits.neededBy(whole.needed_by));
        button.textContent = T.edits.undoAnyway;
        return;
      }
    }
    const texts = { working: active ? T.edits.undoing : T.edits.restoring };
    const changed = await act(button, line, texts, () => (active ? api.undo(edit.id) : api.restore(edit.id)));
    if (changed) done(changed);
  });
  return button;
}

/** What an edit would do, before it is written: what it contradicts, and which answers it changes. */

import { T } from "./texts.js";
import { h } from "./dom.js";
import { thumbnail } from "./stage.js";
import { verdictOf } from "./verdict.js";

function contradictions(found) {
  if (!found?.length) return null;
  const lines = found.map(({ edit_id: id, question, answer }) =>
    h("li", {}, T.preview.contradicts(question, answer), " ", h("a", { href: `#/edits/${encodeURIComponent(id)}`, target: "_blank" }, T.preview.open)),
  );
  return h("div", { class: "warning" }, h("p", {}, h("strong", {}, T.preview.contradiction(found.length))), h("ul", {}, lines));
}

/** Other wordings of the question, as one line where all have the same answers. */
function gathered(changes) {
  const wordings = changes.filter((one) => one.from === "paraphrase");
  const alike = wordings.length > 1 && wordings.every((one) => one.before === wordings[0].before && one.after === wordings[0].after);
  if (!alike) return changes;
  const together = { ...wordings[0], question: null, wordings: wordings.map((one) => one.question) };
  return changes.flatMap((one) => (one === wordings[0] ? [together] : one.from === "paraphrase" ? [] : [one]));
}

function change(one) {
  const asked = one.wordings
    ? h("details", {}, h("summary", {}, T.preview.wordings(one.wordings.length)), h("ul", {}, one.wordings.map((text) => h("li", {}, text))))
    : h("div", {}, h("span", { class: "from" }, T.preview.from[one.from] ?? one.from), h("br"), one.question);
  return h(
    "tr",
    { class: one.changed ? "changed" : "" },
    h("td", {}, one.image_url ? thumbnail(one.image_url, [], "") : null, asked),
    h("td", { "data-label": T.preview.before }, h("span", { class: "was" }, one.before)),
    h("td", { "data-label": T.preview.after }, one.after, one.changed ? null : h("span", { class: "same" }, ` ${T.preview.same}`)),
  );
}

/**
 * The preview of an edit.
 * @param {object} result From `api.check`.
 * @returns {HTMLElement[]}
 */
export function previewOf(result) {
  const changes = result.changes ?? [];
  const table = changes.length
    ? h(
        "table",
        { class: "changes" },
        h("caption", {}, T.preview.title),
        h("thead", {}, h("tr", {}, [T.preview.question, T.preview.before, T.preview.after].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, gathered(changes).map(change)),
      )
    : null;
  const guessed = (result.reasoning ?? []).some((one) => !one.given && one.boxes?.length);
  return [
    verdictOf(result),
    contradictions(result.contradicts),
    (result.warnings ?? []).map((text) => h("p", { class: "warning" }, text)),
    guessed ? h("p", { class: "note" }, T.preview.found) : null,
    table,
    h("p", { class: "help" }, T.preview.written(result.keys)),
  ].flat().filter(Boolean);
}

/** The facts behind an answer: each with the picture that it was learnt from, its region, its author, its distance. */

import { T } from "./texts.js";
import { h } from "./dom.js";
import { thumbnail } from "./stage.js";

const distance = (value) => (value === null || value === undefined ? "" : T.facts.distance(value.toFixed(3)));

function card(fact, i) {
  const image = thumbnail(`/v1/edits/${encodeURIComponent(fact.edit_id)}/image`, [{ boxes: fact.boxes, number: i + 1 }], "");
  const source = fact.author ? T.facts.by(fact.author) : T.facts.anonymous;
  return h(
    "li",
    { class: "fact" },
    image,
    fact.pictures.map((path) => thumbnail(path, [], T.facts.evidence)),
    h(
      "div",
      {},
      h("p", { class: "sentence" }, fact.text),
      h("p", { class: "about" }, `${source} · `, distance(fact.distance), " · ", h("a", { href: `#/edits/${encodeURIComponent(fact.edit_id)}` }, T.facts.edit)),
      fact.kind === "reasoning" && fact.question ? h("p", { class: "about" }, T.facts.from(fact.question, fact.answer)) : null,
    ),
  );
}

/** Why no fact was used, in a sentence. */
function why(answer) {
  if (answer.in_range === false) return T.facts.outOfRange;
  if (answer.gate?.nearest === null || answer.gate?.nearest === undefined) return T.facts.none;
  return T.facts.closed(answer.gate.nearest.toFixed(3), answer.gate.reason);
}

/**
 * What stands below an answer.
 * @param {object} answer From `api.ask`.
 * @returns {HTMLElement}
 */
export function factsOf(answer) {
  if (!answer.facts?.length) return h("p", { class: "note" }, why(answer));
  const left = answer.left_out?.length ? h("p", { class: "help" }, T.facts.leftOut(answer.left_out.length)) : null;
  return h(
    "details",
    { class: "facts" },
    h("summary", {}, T.facts.used(answer.facts.length)),
    h("ol", {}, answer.facts.map(card)),
    left,
  );
}

/** The verdict of a check: whether an edit holds, what it harms, or why it does not take; and what would help. */

import { T } from "./texts.js";
import { h } from "./dom.js";

const list = (title, texts) => (texts?.length ? [h("p", { class: "help" }, title), h("ul", {}, texts.map((text) => h("li", {}, text)))] : []);

/**
 * What a check found, in words.
 * @param {object} result From `api.check` or `api.checkEdit`.
 * @returns {HTMLElement | null}
 */
export function verdictOf(result) {
  const found = result.verdict;
  if (!found) return null;
  const good = found.name === "holds";
  const doubts = (result.doubts ?? []).map((one) => `“${one.text}” ${one.says}`);
  return h(
    "div",
    { class: good ? "verdict" : "verdict amiss" },
    h("p", {}, h("strong", {}, T.verdict[found.name] ?? found.text)),
    list(T.verdict.because, found.because),
    list(T.verdict.doubts, doubts),
    list(T.verdict.advice, found.advice),
  );
}

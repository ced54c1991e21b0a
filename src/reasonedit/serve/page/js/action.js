/** What every action shows: that it works, that it is done, or that it failed and why. */

import { T } from "./texts.js";
import { h } from "./dom.js";

/** A line that says how an action stands; screen readers hear it. */
export function statusLine() {
  const line = h("p", { class: "status", role: "status" });
  line.say = (kind, text) => {
    line.className = `status ${kind}`;
    line.textContent = text;
  };
  line.clear = () => line.say("", "");
  return line;
}

/**
 * Do something that takes a while. While it runs its button cannot be pressed again.
 * @param {HTMLButtonElement} button What started it.
 * @param {HTMLElement} line A `statusLine`.
 * @param {{working: string, done?: string}} texts What the line says meanwhile, and after.
 * @param {() => Promise<any>} work What is done.
 * @param {Object<string, HTMLElement>} [fields] Fields by the server's names: an error about one stands beside it.
 * @returns {Promise<any>} What `work` gave; undefined where it failed or was running already.
 */
export async function act(button, line, texts, work, fields = {}) {
  if (button.getAttribute("aria-disabled") === "true") return undefined;
  button.setAttribute("aria-disabled", "true");
  button.classList.add("busy");
  line.say("working", texts.working);
  for (const one of Object.values(fields)) one.complain("");
  try {
    const result = await work();
    line.say(texts.done ? "done" : "", texts.done || "");
    return result ?? null;
  } catch (error) {
    if (error.name === "AbortError") {
      line.clear();
      return undefined;
    }
    if (!("status" in error)) console.error(error);
    const place = fields[(error.param || "").split(/[.[]/)[0]];
    if (place) {
      place.complain(error.message, error.param);
      line.say("failed", T.errors.beside);
      place.input?.focus();
    } else line.say("failed", "status" in error ? error.message : T.errors.unknown);
    return undefined;
  } finally {
    button.removeAttribute("aria-disabled");
    button.classList.remove("busy");
  }
}

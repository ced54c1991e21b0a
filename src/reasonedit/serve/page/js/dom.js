/** Elements without markup: whatever a person wrote becomes text, never HTML. */

/**
 * Make an element.
 * @param {string} tag Its name.
 * @param {object} properties `class`, `dataset`, listeners as `onclick`, everything else an attribute; null is left out.
 * @param {...(Node|string|null|false|Array)} children What it holds; strings become text.
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let count = 0;

/** An id that no other element has. */
export function freshId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

/**
 * A labelled field with a place for its error, which stands beside it and is read with it.
 * @param {string} label What the field is for.
 * @param {HTMLElement} input The input, textarea or select.
 * @param {string} [help] A sentence below the label.
 * @returns {HTMLElement} With `input` and `complain(message)`; an empty message takes the complaint back.
 */
export function field(label, input, help = "") {
  input.id ||= freshId("field");
  const error = h("p", { class: "error", id: `${input.id}-error`, hidden: true });
  const hint = help ? h("p", { class: "help", id: `${input.id}-help` }, help) : null;
  const described = [hint?.id, error.id].filter(Boolean).join(" ");
  input.setAttribute("aria-describedby", described);
  const box = h("div", { class: "field" }, h("label", { for: input.id }, label), hint, input, error);
  box.input = input;
  box.complain = (message) => {
    error.hidden = !message;
    error.textContent = message || "";
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  };
  input.addEventListener("input", () => box.complain(""));
  return box;
}

/** A time by the reader's own clock, with the exact one as a tooltip. */
export function timeOf(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return h("span", {}, iso || "");
  const text = date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, text);
}

/** A share as per cent: 0.4 is "40 %". */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** Let a textarea grow with its text. */
export function grow(area) {
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener("input", fit);
  requestAnimationFrame(fit);
  return area;
}

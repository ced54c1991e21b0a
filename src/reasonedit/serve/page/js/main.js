/** The page: who works at it, and which part of it is shown. The address after # says which. */

import { ApiError, api, person } from "./api.js";
import { AskView } from "./ask.js";
import { EditView } from "./edit.js";
import { EditsView } from "./edits.js";
import { ReviewView } from "./review.js";
import { T } from "./texts.js";
import { field, fill, h } from "./dom.js";

const main = document.getElementById("main");
const top = document.getElementById("top");
const banner = document.getElementById("banner");

const PARTS = [
  ["ask", T.nav.ask, (info) => new AskView(info)],
  ["edits", T.nav.edits, (info, id) => (id ? new EditView(info, id) : new EditsView(info))],
  ["review", T.nav.review, (info) => new ReviewView(info)],
];

let info = null;
let view = null;

/** What the address asks for: the name of a part, and an edit's id. */
function place() {
  const [name, id] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return [PARTS.some(([known]) => known === name) ? name : "ask", id ? decodeURIComponent(id) : ""];
  } catch {
    return ["ask", ""];
  }
}

function show(first = false) {
  if (!info) return;
  const [name, id] = place();
  const [, title, make] = PARTS.find(([known]) => known === name);
  for (const link of top.querySelectorAll("nav a")) {
    if (link.dataset.part === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} – ReasonEdit`;
  view = make(info, id);
  fill(main, view.element);
  if (!first) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function nameField() {
  if (info.author) return h("p", { class: "who" }, T.person.signedIn(info.author));
  const input = h("input", { type: "text", value: person.name, autocomplete: "name", placeholder: T.person.placeholder, "aria-label": T.person.name, oninput: () => person.setName(input.value.trim()) });
  return h("div", { class: "who" }, input);
}

function header() {
  const links = PARTS.map(([name, title]) => h("a", { href: `#/${name}`, dataset: { part: name } }, title));
  const model = h("p", { class: "model", title: info.codebook ? T.person.codebook(info.codebook) : "" }, info.model);
  fill(top, h("a", { class: "mark", href: "#/ask" }, "ReasonEdit"), h("nav", { "aria-label": T.nav.label }, links), model, info.read_only ? null : nameField());
  fill(banner, info.read_only ? h("p", { class: "banner" }, T.readOnly) : null);
}

/** Ask for the server's key. */
function askForKey(message) {
  const key = field(T.person.key, h("input", { type: "password", autocomplete: "current-password" }), T.person.keyHelp);
  const form = h("form", { class: "sheet narrow" }, h("h1", {}, T.person.keyTitle), key, h("button", { type: "submit", class: "button main" }, T.person.enter));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    person.setKey(key.input.value.trim());
    start();
  });
  fill(main, form);
  key.complain(message);
  key.input.focus();
}

async function start() {
  try {
    info = await api.info();
    if (info.author) person.name = info.author; // who is signed in, not who wrote a name here once
    header();
    if (info.needs_key) await api.stats(); // says whether the key is right
    show(true);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return askForKey(person.key ? error.message : "");
    const again = h("button", { type: "button", class: "button main", onclick: start }, T.again);
    fill(main, h("div", { class: "sheet narrow" }, h("h1", {}, T.errors.start), h("p", { class: "error", role: "alert" }, error.message), again));
  }
  return undefined;
}

const address = () => location.hash || "#/ask";
let shown = address();
window.addEventListener("hashchange", () => {
  if (address() === shown) return;
  if (view?.correction && !view.correction.mayLeave()) {
    location.hash = shown;
    return;
  }
  shown = address();
  show();
});
window.addEventListener("beforeunload", (event) => {
  if (view?.correction?.isBegun) event.preventDefault();
});
document.addEventListener("paste", (event) => view?.pasted?.(event));
document.addEventListener("keydown", (event) => view?.key?.(event));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
start();

/** The server's API. Every failure is an ApiError whose message is a sentence. */

import { T } from "./texts.js";

export class ApiError extends Error {
  /**
   * @param {string} message What went wrong.
   * @param {number} status The HTTP status; 0 where the server did not answer.
   * @param {string|null} param The field that is to blame.
   */
  constructor(message, status = 0, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

/** What is kept in this browser: the key until it is closed, the name for good. Storage may be forbidden. */
function stored(store, name, value) {
  try {
    if (value !== undefined) globalThis[store].setItem(name, value);
    return globalThis[store].getItem(name) || "";
  } catch {
    return value ?? "";
  }
}

export const person = {
  key: stored("sessionStorage", "reasonedit-key"),
  name: stored("localStorage", "reasonedit-name"),
  setKey(value) {
    this.key = stored("sessionStorage", "reasonedit-key", value);
  },
  setName(value) {
    this.name = stored("localStorage", "reasonedit-name", value);
  },
};

const headers = () => (person.key ? { Authorization: `Bearer ${person.key}` } : {});

async function fetchOrComplain(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(T.errors.noServer);
  }
  if (response.ok) return response;
  let told = null;
  try {
    told = (await response.json()).error;
  } catch {
    // A proxy in between answers with a page of its own.
  }
  const fallback = { 401: T.errors.key, 413: T.errors.tooLarge }[response.status];
  throw new ApiError(told?.message || fallback || T.errors.status(response.status), response.status, told?.param ?? null);
}

/** The JSON of an answer. */
async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(T.errors.unreadable);
  }
}

/**
 * Call the server.
 * @param {string} method The HTTP method.
 * @param {string} path The path; parts of it are encoded by the caller.
 * @param {{body?: object, query?: object, signal?: AbortSignal}} [options] What is sent along; empty queries are left out.
 * @returns {Promise<object>} The answer.
 */
export async function call(method, path, { body, query, signal } = {}) {
  const kept = Object.entries(query || {}).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const address = kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
  const options = { method, headers: headers(), signal };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return read(await fetchOrComplain(address, options));
}

const one = (id) => `/v1/edits/${encodeURIComponent(id)}`;
const author = () => ({ author: person.name });

export const api = {
  info: () => call("GET", "/v1/info"),
  stats: () => call("GET", "/v1/stats"),
  /** Ask; with `edits: false` the bare model. */
  async ask({ image, question, choices, edits = true }, model, signal) {
    const content = [
      { type: "text", text: question },
      { type: "image_url", image_url: { url: image } },
    ];
    const body = { model, messages: [{ role: "user", content }], reasonedit: { edits, choices: choices || null } };
    const answer = await call("POST", "/v1/chat/completions", { body, signal });
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason, ...answer.reasonedit };
  },
  reasoning: (body) => call("POST", "/v1/reasoning", { body }),
  check: (body) => call("POST", "/v1/edits/check", { body }),
  checkEdit: (id) => call("POST", `${one(id)}/check`),
  save: (body) => call("POST", "/v1/edits", { body: { ...body, ...author() } }),
  edits: (query) => call("GET", "/v1/edits", { query }),
  edit: (id) => call("GET", one(id)),
  history: (id) => call("GET", `${one(id)}/history`),
  undo: (id) => call("DELETE", one(id), { query: author() }),
  restore: (id) => call("POST", `${one(id)}/restore`, { query: author() }),
  questions: (query) => call("GET", "/v1/questions", { query }),
  mark: (id, body) => call("POST", `/v1/questions/${encodeURIComponent(id)}/mark`, { body }),
  async exportEdits(ids) {
    const options = { method: "POST", headers: { ...headers(), "Content-Type": "application/json" } };
    return (await fetchOrComplain("/v1/edits/export", { ...options, body: JSON.stringify({ ids }) })).blob();
  },
  async importEdits(file) {
    const options = { method: "POST", headers: { ...headers(), "Content-Type": "application/zip" } };
    return read(await fetchOrComplain("/v1/edits/import", { ...options, body: file }));
  },
};

const pictures = new Map();
const MOST_PICTURES = 200;

/** The address of a picture that the server keeps, fetched with the key and held in this page. */
export function pictureAddress(path) {
  if (!pictures.has(path)) {
    const fetched = fetchOrComplain(path, { headers: headers() })
      .then((response) => response.blob())
      .then((blob) => URL.createObjectURL(blob));
    fetched.catch(() => pictures.delete(path));
    pictures.set(path, fetched);
    if (pictures.size > MOST_PICTURES) {
      const [oldest, address] = pictures.entries().next().value;
      pictures.delete(oldest);
      address.then((url) => URL.revokeObjectURL(url), () => {});
    }
  }
  return pictures.get(path);
}

/** A picture of the server, or one that was chosen, as a data URI: its bytes as they are. */
export async function asDataUri(source) {
  const blob = typeof source === "string" ? await (await fetchOrComplain(source, { headers: headers() })).blob() : source;
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new ApiError(T.errors.file, 0, "image"));
    reader.readAsDataURL(blob);
  });
}

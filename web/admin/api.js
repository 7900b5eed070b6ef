// Calls of the REST API: JSON in and out, problems as errors, keys against doing things twice.

/** An answer that is a problem (RFC 9457), or no answer at all. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.code = body.code ?? "no_answer";
    this.title = body.title ?? "No response";
    this.errors = body.errors ?? [];
    this.request = body.request_id ?? null;
    this.page = body.type ?? null;
  }
}

/**
 * Tells `signed-out`: some call was refused because the session has ended; and `back`: the server
 * answers again, after a call that it did not answer.
 */
export const calls = new EventTarget();

/** How often an absent server is asked whether it is back, in milliseconds. */
const ASK_EVERY = 1000;
let asking = 0;

function lost() {
  asking ||= setInterval(isBack, ASK_EVERY);
}

function found() {
  if (!asking) return;
  clearInterval(asking);
  asking = 0;
  calls.dispatchEvent(new Event("back"));
}

const isBack = () => asking && fetch("/livez", { cache: "no-store" }).then(found, () => {});
addEventListener("online", isBack);

async function call(method, path, { body, headers = {}, signal, as = "json" } = {}) {
  const options = { method, signal, headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost();
    throw new Problem(0, method === "GET"
      ? { code: "not_read", title: "This could not be read", detail: navigator.onLine ? "The server does not respond. It is read as soon as the server answers." : "This browser is offline. It is read as soon as the browser is online again." }
      : { detail: "The server did not respond. It is not known whether the request was carried out." });
  }
  found();
  if (response.ok && as === "blob") return response.blob();
  const read = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (response.ok) return read;
  if (response.status === 401 && path !== "/v1/session") calls.dispatchEvent(new Event("signed-out"));
  throw new Problem(response.status, read);
}

/** Reads something. */
export const get = (path, options) => call("GET", path, options);

/** Reads a file. */
export const file = (path) => call("GET", path, { as: "blob", headers: { Accept: "*/*" } });

/** Changes something: with a key, so that a retry does nothing twice. */
export function send(method, path, body, { key, version } = {}) {
  const headers = {};
  if (key) headers["Idempotency-Key"] = key;
  if (version !== undefined) headers["If-Match"] = `"${version}"`;
  return call(method, path, { body, headers });
}

/** A path of the admin surface with its query; what is empty is left out. */
export function path(base, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? `${base}?${text}` : base;
}

/** A random key for one thing that is done. */
export function freshKey() {
  const bits = crypto.getRandomValues(new Uint8Array(16));
  return `admin-${[...bits].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

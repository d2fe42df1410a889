// The REST API as this page calls it: one place for the key, for errors and for addresses.

const ROOT = new URL("../", import.meta.url);
const KEY = "ragstack.key";

/** An answer other than success, or none at all. */
export class ApiError extends Error {
  constructor(status, { message, hint = "", requestId = "" }) {
    super(message);
    this.status = status;
    this.hint = hint;
    this.requestId = requestId;
  }

  /** From the body of an error response, `{"error": {...}}`. */
  static fromBody(status, body, requestId = "") {
    const error = body?.error ?? {};
    return new ApiError(status, {
      message: typeof error.message === "string" ? error.message : `the server answered with status ${status}.`,
      hint: typeof error.hint === "string" ? error.hint : "",
      requestId: error.request_id || requestId,
    });
  }
}

let askForKey = () => Promise.resolve(false);
let asking = null;

/** What is called when the server wants a key: shows the dialog, and resolves to true once there is a new one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** The key of this tab, or null. */
export function apiKey() {
  return sessionStorage.getItem(KEY);
}

/** Keep a key for as long as this tab is open; null forgets it. */
export function setApiKey(key) {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** The address of a route. */
export function address(path) {
  return new URL(path, ROOT);
}

/** The headers that say who is calling. */
export function authorization() {
  const key = apiKey();
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/** Ask the reader for a key, once for all requests that were refused at the same time. */
export function keyFromReader(reason) {
  asking ??= askForKey(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/**
 * Send a request. Resolves to the response once its status is a success; otherwise throws ApiError, or the
 * AbortError of `signal`. A 401 asks the reader for a key and tries again until there is one or they decline.
 */
export async function send(path, { method = "GET", json = undefined, signal = undefined } = {}) {
  const headers = json === undefined ? {} : { "Content-Type": "application/json" };
  const sentKey = apiKey();
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers: { ...headers, ...authorization() },
      body: json === undefined ? undefined : JSON.stringify(json),
      signal,
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const failed = ApiError.fromBody(response.status, body, response.headers.get("x-request-id") ?? "");
  if (response.status === 401) {
    // Another request may have brought a new key meanwhile.
    const again = apiKey() !== sentKey || (await keyFromReader(sentKey === null ? "" : failed.message));
    if (again) return send(path, { method, json, signal });
  }
  throw failed;
}

/** The same, and the JSON of the answer. */
export async function sendJson(path, options) {
  return (await send(path, options)).json();
}

/** The error for a server that did not answer. */
export function unreachable() {
  return new ApiError(0, {
    message: "the server did not answer.",
    hint: "Is it running? Start it with: ragstack serve",
  });
}

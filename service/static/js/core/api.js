/** Requests to the service. */

import { askForToken, authorization } from "./token.js";

const listeners = new Map(); // listener -> whether it also gets quiet requests

/** An error response of the service. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `${status}`);
    this.status = status;
    this.code = body.code;
    this.errors = body.errors ?? []; // [{ loc, expected, got }]
  }
}

/** The user closed the token dialog without a token. */
export class TokenDeclined extends Error {}

/**
 * Call a listener after each response, with `{ method, path, body, type, headers, secured, status,
 * ms }`. Requests that the page makes on its own are `quiet`; a listener gets them if it asks.
 */
export function onRequest(listener, { quiet = false } = {}) {
  listeners.set(listener, quiet);
}

export const get = (path, options) => json({ method: "GET", path, ...options });
export const post = (path, body, options) => json({ method: "POST", path, body, ...options });
export const put = (path, body, options) => json({ method: "PUT", path, body, ...options });

async function json(options) {
  return (await request(options)).json();
}

/**
 * Send a request, with the token if there is one, and return the response. An `admin` request asks
 * the user for a token first. A body is sent as JSON unless it has a `type`.
 *
 * Throws `Problem`, `TokenDeclined`, or `TypeError` if the service cannot be reached.
 */
export async function request(options) {
  const { method, path, signal, headers = {}, admin = false, quiet = false } = options;
  const type = options.type ?? (options.body === undefined ? undefined : "application/json");
  const isRaw = options.body === undefined || options.type;
  const body = isRaw ? options.body : JSON.stringify(options.body);
  if (admin && !authorization()) await requireToken(admin);
  for (;;) {
    const sent = authorization();
    const start = performance.now();
    const response = await fetch(path, {
      method,
      body,
      signal,
      headers: { ...headers, ...(type && { "Content-Type": type }), ...sent },
      cache: "no-store",
    });
    const { status } = response;
    const ms = performance.now() - start;
    const isUnauthorized = status === 401 || status === 403;
    const secured = admin || isUnauthorized || !!sent;
    const record = { method, path, body, type, headers, secured, status, ms };
    for (const [listener, getsQuiet] of listeners) if (getsQuiet || !quiet) listener(record);
    if (response.ok) return response;
    const problem = new Problem(status, await errorBody(response));
    if (!isUnauthorized) throw problem;
    // If the token has changed since, another request has already asked for a new one.
    const isCurrent = sent?.Authorization === authorization()?.Authorization;
    if (isCurrent) await requireToken(admin, problem);
  }
}

async function errorBody(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

async function requireToken(admin, problem) {
  if (!(await askForToken({ admin, problem }))) throw new TokenDeclined();
}

/** The service, asked: one way for every request of the page. */

import { askForToken, authorization } from "./token.js";

const listeners = new Map(); // listener -> whether it is told of the quiet ones, too

/** An answer that is an error: what the service said of it. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `${status}`);
    this.status = status;
    this.code = body.code;
    this.faults = body.errors ?? []; // [{ loc, expected, got }]
  }
}

/** The reader did not want to give a token. */
export class Refused extends Error {}

/**
 * Called with every request that was answered, with the `quiet` ones that the page makes for itself
 * only where that is wanted: `{ method, path, body, type, headers, secured, status, ms }`.
 */
export function onRequest(listener, { quiet = false } = {}) {
  listeners.set(listener, quiet);
}

export const get = (path, options) => send({ method: "GET", path, ...options });
export const post = (path, body, options) => send({ method: "POST", path, body, ...options });
export const put = (path, body, options) => send({ method: "PUT", path, body, ...options });

/** The answer's JSON. */
async function send(request) {
  return (await ask(request)).json();
}

/**
 * The answer to a request, whatever token it takes. `admin` requests send it at once; others where
 * one was given. A body is JSON unless it has a `type` of its own.
 *
 * Throws `Problem`, `Refused`, and `TypeError` where nobody answers.
 */
export async function ask(request) {
  const { method, path, body, signal, headers = {}, admin = false, quiet = false } = request;
  const type = request.type ?? (body === undefined ? undefined : "application/json");
  const sent = body === undefined || request.type ? body : JSON.stringify(body);
  if (admin && !authorization()) await token(admin);
  for (;;) {
    const given = authorization();
    const began = performance.now();
    const answer = await fetch(path, {
      method,
      body: sent,
      signal,
      headers: { ...headers, ...(type && { "Content-Type": type }), ...given },
      cache: "no-store",
    });
    const secured = admin || answer.status === 401 || answer.status === 403 || !!given;
    const ms = performance.now() - began;
    const told = { method, path, body: sent, type, headers, secured, status: answer.status, ms };
    for (const [listener, hearsAll] of listeners) if (hearsAll || !quiet) listener(told);
    if (answer.ok) return answer;
    const problem = new Problem(answer.status, await said(answer));
    if (answer.status !== 401 && answer.status !== 403) throw problem;
    const isOld = given?.Authorization !== authorization()?.Authorization; // another has asked since
    if (!isOld) await token(admin, problem);
  }
}

async function said(answer) {
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

async function token(admin, problem) {
  if (!(await askForToken({ admin, problem }))) throw new Refused();
}

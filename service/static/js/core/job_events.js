/** The server-sent events of a job. `EventSource` cannot send a token in a header; fetch can. */

import { Problem, request } from "./api.js";

const NO_MORE_EVENTS = 204;
const MIN_WAIT_MS = 500;
const MAX_WAIT_MS = 15000;

/**
 * Yield the events of a job after the event `after`, each as `{ id, kind, data }`, until the last.
 * After a lost connection it yields `{ kind: "lost" }`, reconnects, and goes on where it stopped.
 *
 * Throws what `request` throws, except for an unreachable service and its 5xx responses.
 */
export async function* jobEvents(job, { after = 0, signal }) {
  const path = `jobs/${job}/events`;
  let last = after;
  let wait = 0;
  for (;;) {
    await sleep(wait, signal);
    let hasEvents = false;
    try {
      const headers = { "Last-Event-ID": String(last) };
      const response = await request({ method: "GET", path, headers, signal, quiet: true });
      if (response.status === NO_MORE_EVENTS) return;
      for await (const event of read(response.body)) {
        last = event.id;
        hasEvents = true;
        yield event;
      }
    } catch (error) {
      const isTemporary =
        error instanceof TypeError || (error instanceof Problem && error.status >= 500);
      if (!isTemporary) throw error;
      yield { kind: "lost" };
    }
    wait = hasEvents ? 0 : Math.min(Math.max(2 * wait, MIN_WAIT_MS), MAX_WAIT_MS);
  }
}

/** The events in a stream: blocks of `name: value` lines, with an empty line after each. */
async function* read(stream) {
  let rest = "";
  for await (const text of chunks(stream)) {
    const blocks = (rest + text).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

async function* chunks(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {}); // the connection may be broken already
  }
}

/** An event; null for a comment, which keeps the connection open. */
function parse(block) {
  const fields = { data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (name === "data") fields.data.push(value);
    else if (name) fields[name] = value;
  }
  if (!fields.data.length) return null;
  return { id: Number(fields.id), kind: fields.event, data: JSON.parse(fields.data.join("\n")) };
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    signal.addEventListener("abort", stop, { once: true });
  });
}

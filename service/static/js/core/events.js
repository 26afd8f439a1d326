/**
 * What happens to a job, as the service tells it. By fetch and not by EventSource: that one cannot
 * send the token in a header, and an address is no place for it.
 */

import { Problem, ask } from "./api.js";

const NOTHING_MORE = 204;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;

/**
 * The events of a job after a number, each `{ id, kind, data }`, until nothing more will come. A
 * lost connection is `{ kind: "lost" }`; what was missed follows when it is there again.
 *
 * Throws what `ask` throws, but where nobody answers and where the service has trouble of its own.
 */
export async function* follow(job, { after = 0, signal }) {
  const path = `jobs/${job}/events`;
  let last = after;
  let wait = 0;
  for (;;) {
    await pause(wait, signal);
    let isHeard = false;
    try {
      const headers = { "Last-Event-ID": String(last) };
      const answer = await ask({ method: "GET", path, headers, signal, quiet: true });
      if (answer.status === NOTHING_MORE) return;
      for await (const event of read(answer.body)) {
        last = event.id;
        isHeard = true;
        yield event;
      }
    } catch (error) {
      const passes =
        error instanceof TypeError || (error instanceof Problem && error.status >= 500);
      if (!passes) throw error;
      yield { kind: "lost" };
    }
    wait = isHeard ? 0 : Math.min(Math.max(2 * wait, FIRST_WAIT_MS), LONGEST_WAIT_MS);
  }
}

/** The events in a stream of text: blocks of `name: value` lines, an empty line after each. */
async function* read(stream) {
  let rest = "";
  for await (const text of chunks(stream)) {
    const blocks = (rest + text).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

async function* chunks(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => {}); // of a stream that broke, nobody needs to know
  }
}

/** One event; null for a block of comments, which only keep the connection open. */
function parsed(block) {
  const fields = { data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (name === "data") fields.data.push(value);
    else if (name) fields[name] = value;
  }
  if (!fields.data.length) return null;
  return { id: Number(fields.id), kind: fields.event, data: JSON.parse(fields.data.join("\n")) };
}

function pause(ms, signal) {
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

/** When things run: once per frame, one at a time, or one after the other. */

const STEP_MS = 40;
const MAX_STEPS = 60; // with more steps queued, each shows several
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** A function that paints in the next frame, once however often it is called before. */
export function oncePerFrame(paint) {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      paint();
    });
  };
}

/**
 * Run a button's action, and ignore the button until that has ended. The button is not `disabled`:
 * it would lose the focus.
 */
export async function oneAtATime(button, action) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await action();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** Runs one async task at a time; of those that wait, only the newest is kept. */
export class LatestTask {
  #isRunning = false;
  #next = null;

  async run(task) {
    this.#next = task;
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      while (this.#next) {
        const current = this.#next;
        this.#next = null;
        await current();
      }
    } finally {
      this.#isRunning = false;
    }
  }
}

/** Shows events step by step: a short training sends them all at once. */
export class Playback {
  #queue = [];
  #timer = 0;

  /** `show` is called with each event. */
  constructor(show) {
    this.show = show;
  }

  add(event) {
    this.#queue.push(event);
    this.#timer ||= setTimeout(() => this.#step(), 0);
  }

  stop() {
    this.#queue = [];
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  /** Show the next step, or everything at once with reduced motion or in a hidden tab. */
  #step() {
    const ends = this.#stepEnds();
    const isInstant = reducedMotion.matches || document.hidden;
    const count = isInstant ? Infinity : Math.ceil(ends.length / MAX_STEPS);
    const end = ends[count - 1] ?? this.#queue.length;
    this.#timer = setTimeout(() => this.#continue(), STEP_MS);
    for (const event of this.#queue.splice(0, end)) this.show(event);
  }

  #continue() {
    this.#timer = 0;
    if (this.#queue.length) this.#step();
  }

  /** Where each step ends in the queue: after a boundary, or after an epoch if there is none. */
  #stepEnds() {
    const kind = this.#queue.some((event) => event.kind === "boundary") ? "boundary" : "epoch";
    return this.#queue.flatMap((event, at) => (event.kind === kind ? [at + 1] : []));
  }
}

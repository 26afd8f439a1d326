/** Events that came in a burst, shown one after the other: a training is often over in no time. */

const FRAME_MS = 40;
const LONGEST = 60; // frames that wait; of more, several are shown at once
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Film {
  #waiting = [];
  #timer = 0;

  /** `show` is called with each event in its turn. */
  constructor(show) {
    this.show = show;
  }

  add(event) {
    this.#waiting.push(event);
    this.#timer ||= setTimeout(() => this.#next(), 0);
  }

  stop() {
    this.#waiting = [];
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  /** Who wants no motion, or does not look, is shown everything at once, so the last remains. */
  #next() {
    const frames = this.#frames();
    const count = still.matches || document.hidden ? Infinity : Math.ceil(frames.length / LONGEST);
    const end = frames[count - 1] ?? this.#waiting.length;
    this.#timer = setTimeout(() => this.#rest(), FRAME_MS);
    for (const event of this.#waiting.splice(0, end)) this.show(event);
  }

  #rest() {
    this.#timer = 0;
    if (this.#waiting.length) this.#next();
  }

  /** Where each frame ends: at what moves the most, a boundary, or else an epoch. */
  #frames() {
    const kind = this.#waiting.some((event) => event.kind === "boundary") ? "boundary" : "epoch";
    return this.#waiting.flatMap((event, at) => (event.kind === kind ? [at + 1] : []));
  }
}

/** A plot of a plane: training points, probabilities as colours, the decision boundary. */

import { h, svg } from "../core/dom.js";
import { number } from "../core/language.js";
import { color, cssColor, onTheme } from "../core/theme.js";
import { oncePerFrame } from "../core/timing.js";
import { ProbabilityGrid } from "./probability_grid.js";

const RESOLUTION = 200; // pixels a side of the image of probabilities, which is scaled up
const STEP = 0.02; // share of the plane that an arrow key moves the pointer
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const TICKS = 5;

export class Plane {
  #frame = { x: [-2, 2], y: [-2, 2], points: [], targets: [] };
  #grid = null;
  #cross = null; // the point under the pointer
  #marks = []; // [{ point, index }]
  #image = null; // the probabilities as an image, until they or the colours change
  #paintSoon = oncePerFrame(() => this.#paint());

  /**
   * A `probe` makes the plane interactive: `probe.move(point)` is called when the pointer moves,
   * with null when it leaves, and `probe.pick(point)` on a click.
   */
  constructor({ labels, probe = null }) {
    const interactive = probe && { class: "plane-canvas interactive", tabindex: 0 };
    this.canvas = h("canvas", {
      class: "plane-canvas",
      role: "img",
      label: "plane.plane",
      ...interactive,
    });
    this.element = h("figure", { class: "plane" }, this.canvas, legend(labels));
    if (probe) this.#listen(probe);
    new ResizeObserver(() => this.#paintSoon()).observe(this.canvas);
    onTheme(() => {
      this.#image = null;
      this.#paintSoon();
    });
  }

  /** Set the ranges of x and y, and the points with the indices of their labels. */
  setPoints({ x, y, points = [], targets = [] }) {
    this.#frame = { x, y, points, targets };
    this.canvas.style.aspectRatio = (x[1] - x[0]) / (y[1] - y[0]);
    this.#paintSoon();
  }

  /** Set the probabilities of the second label, as `{ size, values }` of a grid, or null. */
  setProbabilities(values) {
    const { x, y } = this.#frame;
    this.#grid = values && new ProbabilityGrid({ x, y, ...values });
    this.#image = null;
    this.#paintSoon();
  }

  /** The probability at a point; undefined if none are set. */
  probabilityAt(point) {
    return this.#grid?.at(point);
  }

  setCross(point) {
    this.#cross = point;
    this.#paintSoon();
  }

  setMarks(marks) {
    this.#marks = marks;
    this.#paintSoon();
  }

  #listen({ move, pick }) {
    const { canvas } = this;
    let at = null; // the point that the arrow keys have moved to
    canvas.addEventListener("pointermove", (event) => move(this.#pointOf(event)));
    canvas.addEventListener("pointerleave", () => move(null));
    canvas.addEventListener("click", (event) => pick(this.#pointOf(event)));
    canvas.addEventListener("blur", () => move(null));
    canvas.addEventListener("keydown", (event) => {
      at ??= [middle(this.#frame.x), middle(this.#frame.y)];
      if (event.key in ARROWS) at = this.#moved(at, ARROWS[event.key], event.shiftKey);
      else if (event.key === "Enter" || event.key === " ") pick(at);
      else return;
      event.preventDefault();
      move(at);
    });
  }

  #moved([x, y], [right, up], fine) {
    const step = fine ? STEP / 4 : STEP;
    const along = (value, [low, high], sign) =>
      Math.min(Math.max(value + sign * step * (high - low), low), high);
    return [along(x, this.#frame.x, right), along(y, this.#frame.y, up)];
  }

  #pointOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const { x, y } = this.#frame;
    const right = (event.clientX - left) / width;
    const down = (event.clientY - top) / height;
    return [x[0] + right * (x[1] - x[0]), y[1] - down * (y[1] - y[0])];
  }

  #paint() {
    const { canvas } = this;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height)
      Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const { x, y } = this.#frame;
    const place = ([px, py]) => [
      ((px - x[0]) / (x[1] - x[0])) * width,
      ((y[1] - py) / (y[1] - y[0])) * height,
    ];
    const unit = devicePixelRatio;
    context.clearRect(0, 0, width, height);
    if (this.#grid) {
      this.#image ??= this.#probabilityImage();
      context.drawImage(this.#image, 0, 0, width, height);
    }
    this.#paintTicks(context, place, unit, height);
    this.#paintPoints(context, place, unit);
    if (this.#grid) this.#paintBoundary(context, place, unit);
    for (const { point, index } of this.#marks) paintMark(context, place(point), index, unit);
    if (this.#cross) this.#paintCross(context, place(this.#cross), unit);
  }

  #probabilityImage() {
    const canvas = new OffscreenCanvas(RESOLUTION, RESOLUTION);
    const context = canvas.getContext("2d");
    const [zero, even, one] = ["field-zero", "field-even", "field-one"].map(color);
    const blend = (p) => {
      const end = p < 0.5 ? zero : one;
      const share = Math.abs(2 * p - 1);
      return even.map((part, at) => part + share * (end[at] - part));
    };
    const image = context.createImageData(RESOLUTION, RESOLUTION);
    this.#grid.fill(image, blend);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  #paintTicks(context, place, unit, height) {
    const { x, y } = this.#frame;
    context.fillStyle = cssColor("ink", 0.75);
    context.strokeStyle = cssColor("ink", 0.12);
    context.lineWidth = unit;
    context.font = `${11 * unit}px system-ui, sans-serif`;
    for (const value of ticks(x)) {
      const [left] = place([value, y[0]]);
      line(context, [left, 0], [left, height]);
      context.textAlign = "center";
      context.fillText(number(value, 1), left, height - 5 * unit);
    }
    for (const value of ticks(y)) {
      const [, top] = place([x[0], value]);
      line(context, [0, top], [context.canvas.width, top]);
      context.textAlign = "left";
      context.fillText(number(value, 1), 4 * unit, top - 3 * unit);
    }
  }

  #paintPoints(context, place, unit) {
    const { points, targets } = this.#frame;
    context.lineWidth = unit;
    context.strokeStyle = cssColor("surface");
    points.forEach((point, at) => {
      context.fillStyle = cssColor(targets[at] ? "one" : "zero", 0.9);
      context.beginPath();
      shape(context, place(point), targets[at], 3.6 * unit);
      context.fill();
      context.stroke();
    });
  }

  #paintBoundary(context, place, unit) {
    context.strokeStyle = cssColor("ink");
    context.lineWidth = 2 * unit;
    context.lineCap = "round";
    context.beginPath();
    for (const [from, to] of this.#grid.boundary()) {
      context.moveTo(...place(from));
      context.lineTo(...place(to));
    }
    context.stroke();
  }

  #paintCross(context, [left, top], unit) {
    const { width, height } = context.canvas;
    context.strokeStyle = cssColor("ink", 0.6);
    context.lineWidth = unit;
    line(context, [left, 0], [left, height]);
    line(context, [0, top], [width, top]);
  }
}

function line(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

/** A disc for the first label, a diamond for the second: the colour alone is not enough. */
function shape(context, [left, top], index, radius) {
  if (!index) {
    context.arc(left, top, radius, 0, 2 * Math.PI);
    return;
  }
  const wide = 1.3 * radius;
  context.moveTo(left, top - wide);
  context.lineTo(left + wide, top);
  context.lineTo(left, top + wide);
  context.lineTo(left - wide, top);
  context.closePath();
}

function paintMark(context, at, index, unit) {
  context.lineWidth = 2.5 * unit;
  context.strokeStyle = cssColor("ink");
  context.fillStyle = cssColor(index ? "one" : "zero");
  context.beginPath();
  shape(context, at, index, 7.5 * unit);
  context.fill();
  context.stroke();
}

function legend(labels) {
  const symbol = (index) =>
    svg(
      "svg",
      { viewBox: "0 0 16 16", class: index ? "one" : "zero", "aria-hidden": "true" },
      index ? svg("path", { d: "M8 2l6 6-6 6-6-6z" }) : svg("circle", { cx: 8, cy: 8, r: 5 }),
    );
  return h(
    "figcaption",
    { class: "legend small muted" },
    labels.map((label, index) => h("span", {}, symbol(index), label)),
    h(
      "span",
      {},
      svg(
        "svg",
        { viewBox: "0 0 16 16", class: "edge", "aria-hidden": "true" },
        svg("path", { d: "M1 8h14" }),
      ),
      h("span", { t: "plane.boundary" }),
    ),
  );
}

/** A few round values inside a range, at a distance from its ends. */
function ticks([low, high]) {
  const rough = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  const margin = 0.06 * (high - low);
  const found = [];
  for (let at = Math.ceil((low + margin) / step); at * step < high - margin; at++)
    found.push(at * step);
  return found;
}

const middle = ([low, high]) => (low + high) / 2;

/** Curves over the epochs of a training. */

import { h, svg } from "../core/dom.js";
import { metricName, metricValue } from "../core/figures.js";
import { number, percent, t } from "../core/language.js";

const HEIGHT = 190;
const MARGIN = { left: 52, right: 20, top: 10, bottom: 26 };
const MIN_WIDTH = 160;

export const lossChart = () =>
  new Chart("loss", [
    { of: "loss", key: "chart.training", kind: "training" },
    { of: "test_loss", key: "chart.heldOut", kind: "held-out" },
  ]);

export const accuracyChart = () =>
  new Chart("accuracy", [{ of: "test_accuracy", key: "chart.heldOut", kind: "held-out" }]);

/** The range of the vertical axis for the smallest and the largest value so far. */
const RANGES = {
  loss: (_, max) => [0, Math.max(max, 1e-6)],
  accuracy: (min) => [Math.min(min, 0.99), 1],
};

class Chart {
  #points = [];
  #epochs = 1;
  #min = Infinity;
  #max = -Infinity;
  #width = 320;
  #hovered = null; // the epoch under the pointer

  constructor(metric, lines) {
    this.metric = metric;
    this.lines = lines.map((line) => ({
      ...line,
      ...shapes(line.kind),
      figure: h("b", { class: "figure" }),
    }));
    this.axes = svg("g", { class: "axes" });
    this.guide = svg("line", { class: "guide" });
    this.drawing = svg(
      "svg",
      { class: "chart-drawing", role: "img", height: HEIGHT },
      this.axes,
      this.guide,
      this.lines.flatMap(({ path, dot }) => [path, dot]),
    );
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("h3", { t: `chart.${metric}` }), this.#legend()),
      this.drawing,
    );
    this.drawing.addEventListener("pointermove", (event) => this.#hover(event));
    this.drawing.addEventListener("pointerleave", () => this.#hover(null));
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect.width)).observe(
      this.drawing,
    );
  }

  /** Set up the axes for a number of epochs; if the points are known, the axes fit them. */
  begin(epochs, points = []) {
    this.#epochs = epochs;
    this.#points = [];
    this.#min = Infinity;
    this.#max = -Infinity;
    this.#grow(points);
    this.show();
  }

  /** Draw all points so far. The axes only grow, so that the curves do not jump. */
  draw(points) {
    this.#points = points;
    this.#epochs = Math.max(this.#epochs, points.at(-1)?.epoch ?? 1);
    this.#grow(points);
    this.show();
  }

  /** Draw the chart again, as after a change of language. */
  show() {
    const scale = this.#scale();
    this.#showAxes(scale);
    for (const line of this.lines) this.#showLine(line, scale);
    this.#showFigures(scale);
  }

  #legend() {
    return h(
      "p",
      { class: "legend" },
      this.lines.map(({ kind, key, figure }) =>
        h("span", {}, h("i", { class: `swatch ${kind}` }), h("span", { t: key }), " ", figure),
      ),
    );
  }

  #grow(points) {
    for (const point of points) {
      for (const { of } of this.lines) {
        this.#min = Math.min(this.#min, point[of]);
        this.#max = Math.max(this.#max, point[of]);
      }
    }
  }

  #resize(width) {
    this.#width = Math.max(width, MIN_WIDTH);
    this.drawing.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    this.show();
  }

  #scale() {
    const known = this.#min <= this.#max;
    const range = known ? RANGES[this.metric](this.#min, this.#max) : [0, 1];
    const rows = ticks(...range, 4);
    const low = rows[0];
    const high = rows.at(-1);
    const [first, last] = this.#epochs > 1 ? [1, this.#epochs] : [0, 2];
    const right = this.#width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    return {
      rows,
      right,
      bottom,
      x: (epoch) => MARGIN.left + ((epoch - first) / (last - first)) * (right - MARGIN.left),
      y: (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top),
    };
  }

  #showAxes({ rows, right, bottom, x, y }) {
    const digits = decimals(rows[1] - rows[0]);
    const text =
      this.metric === "accuracy"
        ? (value) => percent(value, Math.max(digits - 2, 0))
        : (value) => number(value, digits);
    this.axes.replaceChildren(
      ...rows.flatMap((value) => [
        svg("line", { x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }),
        svg("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, text(value)),
      ]),
      ...epochTicks(this.#epochs).map((epoch) =>
        svg(
          "text",
          { x: x(epoch), y: bottom + 18, "text-anchor": x(epoch) < right ? "middle" : "end" },
          number(epoch),
        ),
      ),
    );
  }

  #showLine({ of, path, dot }, { x, y }) {
    const at = this.#points.map(
      (point) => `${x(point.epoch).toFixed(1)} ${y(point[of]).toFixed(1)}`,
    );
    path.setAttribute("d", at.length ? `M${at.join("L")}` : "");
    const point = this.#shown();
    dot.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    dot.setAttribute("cx", x(point.epoch));
    dot.setAttribute("cy", y(point[of]));
  }

  /** The point whose values are shown: the one under the pointer, or the latest. */
  #shown() {
    if (this.#hovered === null) return this.#points.at(-1);
    const distance = (point) => Math.abs(point.epoch - this.#hovered);
    return this.#points.reduce((a, b) => (distance(b) < distance(a) ? b : a), this.#points[0]);
  }

  #showFigures({ x, bottom }) {
    const point = this.#shown();
    const isHovered = point && this.#hovered !== null;
    this.guide.setAttribute("visibility", isHovered ? "visible" : "hidden");
    if (isHovered) {
      const at = { x1: x(point.epoch), x2: x(point.epoch), y1: MARGIN.top, y2: bottom };
      for (const [name, value] of Object.entries(at)) this.guide.setAttribute(name, value);
    }
    for (const { of, figure } of this.lines) {
      figure.textContent = point ? metricValue(this.metric, point[of]) : "";
    }
    this.drawing.setAttribute("aria-label", this.#description());
  }

  #description() {
    const latest = this.#points.at(-1);
    const name = metricName(this.metric);
    if (!latest) return t("chart.empty", { name });
    const figures = this.lines.map(
      ({ of, key }) => `${t(key)} ${metricValue(this.metric, latest[of])}`,
    );
    return t("chart.description", {
      name,
      epoch: number(latest.epoch),
      figures: figures.join(", "),
    });
  }

  #hover(event) {
    if (!event) {
      this.#hovered = null;
    } else {
      const { left, width } = this.drawing.getBoundingClientRect();
      const along = ((event.clientX - left) / width) * this.#width;
      const share = (along - MARGIN.left) / (this.#width - MARGIN.right - MARGIN.left);
      this.#hovered = 1 + share * (this.#epochs - 1);
    }
    this.show();
  }
}

const shapes = (kind) => ({
  path: svg("path", { class: `curve ${kind}` }),
  dot: svg("circle", { class: `dot ${kind}`, r: 3.5 }),
});

/** Round values in about `count` steps, from just below `low` to just above `high`. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough * 0.999) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

const decimals = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

/** The first and the last epoch, and round ones between that keep a distance to both. */
function epochTicks(epochs) {
  if (epochs === 1) return [1];
  const between = ticks(0, epochs, 4).filter((epoch) => Number.isInteger(epoch));
  const step = between[1] - between[0];
  return [
    1,
    ...between.filter((epoch) => epoch > 1 + step * 0.3 && epoch < epochs - step * 0.3),
    epochs,
  ];
}

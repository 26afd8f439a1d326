/** Lines over the epochs of a training. */

import { metricName, metricValue } from "../core/figures.js";
import { h, svg } from "../core/dom.js";
import { number, percent, t } from "../core/language.js";

const HEIGHT = 190;
const MARGIN = { left: 52, right: 20, top: 10, bottom: 26 };
const LEAST_WIDTH = 160;

/** The loss while training and on held-out rows. */
export const lossChart = () =>
  new Chart("loss", [
    { of: "loss", key: "chart.training", kind: "training" },
    { of: "test_loss", key: "chart.heldOut", kind: "held-out" },
  ]);

export const accuracyChart = () =>
  new Chart("accuracy", [{ of: "test_accuracy", key: "chart.heldOut", kind: "held-out" }]);

/** What the vertical axis shows, from the least and the greatest figure so far. */
const SPANS = {
  loss: (_, greatest) => [0, Math.max(greatest, 1e-6)],
  accuracy: (least) => [Math.min(least, 0.99), 1],
};

class Chart {
  #points = [];
  #epochs = 1;
  #least = Infinity;
  #greatest = -Infinity;
  #width = 320;
  #looked = null; // the epoch under the pointer

  constructor(metric, lines) {
    this.metric = metric;
    this.lines = lines.map((line) => ({
      ...line,
      ...drawn(line.kind),
      figure: h("b", { class: "figure" }),
    }));
    this.axes = svg("g", { class: "axes" });
    this.guide = svg("line", { class: "guide" });
    this.drawing = svg(
      "svg",
      { class: "chart-drawing", role: "img", height: HEIGHT },
      this.axes,
      this.guide,
      this.lines.map(({ path, dot }) => [path, dot]).flat(),
    );
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("h3", { t: `chart.${metric}` }), this.#legend()),
      this.drawing,
    );
    this.drawing.addEventListener("pointermove", (event) => this.#look(event));
    this.drawing.addEventListener("pointerleave", () => this.#look(null));
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect.width)).observe(
      this.drawing,
    );
  }

  /** Axes for so many epochs; where the points are known they fit from the start. */
  begin(epochs, points = []) {
    this.#epochs = epochs;
    this.#points = [];
    this.#least = Infinity;
    this.#greatest = -Infinity;
    this.#widen(points);
    this.show();
  }

  /** Every point so far. The axes only ever widen, so that nothing jumps. */
  draw(points) {
    this.#points = points;
    this.#epochs = Math.max(this.#epochs, points.at(-1)?.epoch ?? 1);
    this.#widen(points);
    this.show();
  }

  /** Again, as after a change of language. */
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

  #widen(points) {
    for (const point of points) {
      for (const { of } of this.lines) {
        this.#least = Math.min(this.#least, point[of]);
        this.#greatest = Math.max(this.#greatest, point[of]);
      }
    }
  }

  #resize(width) {
    this.#width = Math.max(width, LEAST_WIDTH);
    this.drawing.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    this.show();
  }

  #scale() {
    const known = this.#least <= this.#greatest;
    const span = known ? SPANS[this.metric](this.#least, this.#greatest) : [0, 1];
    const rows = ticks(...span, 4);
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

  /** The point that the figures speak of: the one under the pointer, or the latest. */
  #shown() {
    if (this.#looked === null) return this.#points.at(-1);
    const distance = (point) => Math.abs(point.epoch - this.#looked);
    return this.#points.reduce((a, b) => (distance(b) < distance(a) ? b : a), this.#points[0]);
  }

  #showFigures({ x, bottom }) {
    const point = this.#shown();
    const looks = point && this.#looked !== null;
    this.guide.setAttribute("visibility", looks ? "visible" : "hidden");
    if (looks) {
      const at = { x1: x(point.epoch), x2: x(point.epoch), y1: MARGIN.top, y2: bottom };
      for (const [name, value] of Object.entries(at)) this.guide.setAttribute(name, value);
    }
    for (const { of, figure } of this.lines) {
      figure.textContent = point ? metricValue(this.metric, point[of]) : "";
    }
    this.drawing.setAttribute("aria-label", this.#words());
  }

  #words() {
    const latest = this.#points.at(-1);
    const name = metricName(this.metric);
    if (!latest) return t("chart.empty", { name });
    const figures = this.lines.map(
      ({ of, key }) => `${t(key)} ${metricValue(this.metric, latest[of])}`,
    );
    return t("chart.words", { name, epoch: number(latest.epoch), figures: figures.join(", ") });
  }

  #look(event) {
    if (!event) {
      this.#looked = null;
    } else {
      const { left, width } = this.drawing.getBoundingClientRect();
      const along = ((event.clientX - left) / width) * this.#width;
      const share = (along - MARGIN.left) / (this.#width - MARGIN.right - MARGIN.left);
      this.#looked = 1 + share * (this.#epochs - 1);
    }
    this.show();
  }
}

const drawn = (kind) => ({
  path: svg("path", { class: `curve ${kind}` }),
  dot: svg("circle", { class: `dot ${kind}`, r: 3.5 }),
});

/** Round figures from just below `low` to just above `high`, about `count` steps apart. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough * 0.999) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

const decimals = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

/** The first epoch, the last, and round ones between that stay clear of both. */
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

/** The view of the plane: probabilities and decision boundary of one or two versions. */

import { go } from "../core/address.js";
import { get } from "../core/api.js";
import { announce, field, h, select, setOptions } from "../core/dom.js";
import { number, onLanguage, percent, t, translate } from "../core/language.js";
import { findModel, onModels, planeModels, predictProba, versionsOf } from "../core/models.js";
import { guarded, showError } from "../core/notices.js";
import { Plane } from "../parts/plane.js";
import { gridPoints } from "../parts/probability_grid.js";

const GRID_SIZE = 48; // points a side at which a version predicts
const NO_POINTS = { x: [-2, 2], y: [-2, 2], points: [], targets: [] };
const MAX_PREDICTIONS = 8; // in the list

export function build() {
  return new PlaneView();
}

class PlaneView {
  #versions = [];
  #sides = []; // one or two
  #predictions = []; // { point, results: [{ version, prediction }] }, newest first
  #cross = null;
  #shows = 0; // counts calls of show(), to ignore late responses

  constructor() {
    this.models = select([], "", (model) => go("plane", model));
    this.version = select([], "", () => this.#go());
    this.other = select([], "", () => this.#go());
    this.sides = h("div", { class: "planes" });
    this.list = h("tbody");
    this.head = h("tr");
    const table = h(
      "table",
      {},
      h("caption", { class: "visually-hidden", t: "plane.predictions" }),
      h("thead", {}, this.head),
      this.list,
    );
    this.noPredictions = h("p", { class: "muted", t: "plane.noPredictions" });
    this.predictions = h("div", { class: "scroll" }, table);
    this.clear = h("button", {
      class: "button slim",
      type: "button",
      t: "plane.clear",
      on: { click: () => this.#clear() },
    });
    const panel = h(
      "section",
      { class: "panel stack" },
      h("div", { class: "row spread" }, h("h2", { t: "plane.predictions" }), this.clear),
      this.noPredictions,
      this.predictions,
    );
    this.content = h("div", { class: "plane-layout" }, this.sides, panel);
    this.empty = h("p", { class: "panel", t: "plane.none", hidden: true });
    this.filters = h(
      "div",
      { class: "row filters" },
      field("plane.model", this.models),
      field("plane.version", this.version),
      field("plane.compare", this.other),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "plane.title" }), h("p", { t: "plane.lead" })),
      this.empty,
      this.filters,
      this.content,
    );
    onModels(guarded(() => this.element.isConnected && this.show(...this.#selected())));
    onLanguage(() => {
      this.#showVersions();
      this.#showPredictions();
      for (const side of this.#sides) side.showTitle();
      this.#setCross(this.#cross);
    });
    this.#showPredictions();
  }

  hide() {}

  /** Show a version of a model, by default the one in production, and another beside it. */
  async show(name, version, other) {
    const models = planeModels();
    const model = models.find((one) => one.name === name) ?? models[0];
    this.empty.hidden = !!model;
    this.filters.hidden = this.content.hidden = !model;
    if (!model) return;
    if (model.name !== this.model?.name) this.#predictions = [];
    this.model = model;
    const show = ++this.#shows;
    const versions = await versionsOf(model.name);
    if (show !== this.#shows) return;
    this.#versions = versions;
    setOptions(
      this.models,
      models.map((one) => [one.name, one.name]),
      model.name,
    );
    this.#showVersions(version ?? model.version, other ?? "");
    await this.#showSides(show);
  }

  #selected() {
    return [this.model?.name, this.version.value || undefined, this.other.value || undefined];
  }

  #go() {
    go(...["plane", this.model.name, this.version.value, this.other.value].filter(Boolean));
  }

  #showVersions(version = this.version.value, other = this.other.value) {
    const options = this.#versions.map((one) => [one.version, titleOf(one)]);
    setOptions(this.version, options, version);
    const others = options.filter(([one]) => String(one) !== String(version));
    setOptions(this.other, [["", t("plane.nothing")], ...others], other);
  }

  /** Show each selected version in a plane; all planes have the same ranges. */
  async #showSides(show) {
    const numbers = [this.version.value, this.other.value].filter(Boolean).map(Number);
    const model = findModel(this.model.name);
    const plots = await Promise.all(numbers.map((version) => pointsOf(model.name, version)));
    if (show !== this.#shows) return;
    const ranges = { x: union(plots.map(({ x }) => x)), y: union(plots.map(({ y }) => y)) };
    const rows = gridPoints(ranges, GRID_SIZE);
    const probe = {
      move: (point) => this.#setCross(point),
      pick: guarded((point) => this.#predict(point)),
    };
    this.#sides = numbers.map((version, at) => {
      const facts = this.#versions.find((one) => one.version === version);
      return new Side(model, facts, { ...plots[at], ...ranges }, probe);
    });
    this.sides.replaceChildren(...this.#sides.map((side) => side.element));
    this.content.classList.toggle("two", this.#sides.length > 1);
    this.#showPredictions();
    await Promise.all(this.#sides.map((side) => side.fill(rows)));
  }

  #setCross(point) {
    this.#cross = point;
    for (const side of this.#sides) side.setCross(point);
  }

  /** Predict a point with each version shown. */
  async #predict(point) {
    const rows = [point.map((value) => Number(value.toFixed(3)))];
    const predict = async ({ model, version }) => ({
      version,
      prediction: (await predictProba(model, version, rows))[0],
    });
    const results = await Promise.all(this.#sides.map(predict));
    const predictions = [{ point: rows[0], results }, ...this.#predictions];
    this.#predictions = predictions.slice(0, MAX_PREDICTIONS);
    this.#showPredictions();
    announce(results.map(({ prediction }) => describe(prediction)).join(" "));
  }

  #showPredictions() {
    this.noPredictions.hidden = this.#predictions.length > 0;
    this.predictions.hidden = this.clear.hidden = !this.#predictions.length;
    const versions = this.#sides.map(({ version }) => version);
    this.head.replaceChildren(
      ...["x1", "x2"].map((name) => h("th", { scope: "col", class: "number" }, name)),
      ...versions.map((version) => h("th", { scope: "col" }, t("version", { version }))),
    );
    this.list.replaceChildren(...this.#predictions.map((one) => row(one, versions)));
    for (const side of this.#sides) {
      const marks = this.#predictions.flatMap(({ point, results }) => {
        const prediction = predictionOf(results, side.version);
        return prediction ? [{ point, index: prediction.index }] : [];
      });
      side.plane.setMarks(marks);
    }
  }

  #clear() {
    this.#predictions = [];
    this.#showPredictions();
  }
}

/** A version with its plane. */
class Side {
  /** `facts` describes the version; `plot` has its training points and the ranges of the plane. */
  constructor(model, facts, plot, probe) {
    this.model = model;
    this.facts = facts;
    this.version = facts.version;
    this.plane = new Plane({ labels: model.labels, probe });
    this.plane.setPoints(plot);
    this.title = h("span", { class: "badge live" });
    this.reading = h("p", { class: "plane-reading figure" });
    this.element = h(
      "section",
      { class: "panel stack" },
      h("h2", {}, `${model.name} `, this.title),
      this.reading,
      this.plane.element,
      plot.points.length ? null : h("p", { class: "muted small", t: "plane.noPoints" }),
    );
    this.showTitle();
    this.setCross(null);
  }

  showTitle() {
    this.title.textContent = titleOf(this.facts);
    translate(this.plane.canvas, "label", "plane.canvas", {
      name: `${this.model.name} ${titleOf(this.facts)}`,
    });
  }

  async fill(rows) {
    try {
      const predictions = await predictProba(this.model, this.version, rows, { quiet: true });
      const label = this.model.labels[1];
      const values = predictions.map(({ probabilities }) => probabilities[label]);
      this.plane.setProbabilities({ size: GRID_SIZE, values });
      this.setCross(this.point); // the pointer may be there already
    } catch (error) {
      showError(error);
    }
  }

  /** Show the cross at a point, with the probability there. */
  setCross(point) {
    this.point = point;
    this.plane.setCross(point);
    const share = point && this.plane.probabilityAt(point);
    if (share === null || share === undefined) {
      this.reading.textContent = t("plane.hover");
      return;
    }
    const [x1, x2] = point.map((value) => number(value, 2));
    const label = this.model.labels[1];
    this.reading.textContent = t("plane.reading", { x1, x2, label, share: percent(share) });
  }
}

const predictionOf = (results, version) =>
  results.find((one) => one.version === version)?.prediction;

const describe = ({ label, probabilities }) =>
  t("plane.prediction", { label, share: percent(probabilities[label]) });

function row({ point, results }, versions) {
  const predictions = versions.map((version) => predictionOf(results, version));
  return h(
    "tr",
    {},
    point.map((value) => h("td", { class: "number" }, number(value, 3))),
    predictions.map((one) => h("td", {}, one ? describe(one) : "–")),
  );
}

function titleOf({ version, aliases, metrics }) {
  const accuracy = metrics.test?.accuracy;
  return [
    t("version", { version }),
    ...aliases,
    ...(accuracy === undefined ? [] : [percent(accuracy)]),
  ].join(" · ");
}

/** The training points of a version; versions made by an older release have none. */
async function pointsOf(name, version) {
  const { plots } = await get(`models/${name}/versions/${version}`, { quiet: true });
  const path = plots.find((one) => one.endsWith("/boundary.json"));
  return path ? get(path.slice(1), { quiet: true }) : NO_POINTS;
}

const union = (ranges) => [
  Math.min(...ranges.map(([low]) => low)),
  Math.max(...ranges.map(([, high]) => high)),
];

/** The models of the plane: where each version draws its boundary, and what it says of a point. */

import { get } from "../core/api.js";
import { choice, field, h, offer, speak } from "../core/dom.js";
import { grid } from "../parts/probability_grid.js";
import { number, onLanguage, percent, t, translated } from "../core/language.js";
import { inThePlane, named, onModels, probabilities, versionsOf } from "../core/models.js";
import { complain, guarded } from "../core/notices.js";
import { Plane } from "../parts/plane.js";
import { go } from "../router.js";

const SIZE = 48; // points a side at which a version is asked
const NOWHERE = { x: [-2, 2], y: [-2, 2], points: [], targets: [] }; // where no points were kept
const KEPT = 8; // predictions that are listed

export function build() {
  return new PlaneView();
}

class PlaneView {
  #versions = [];
  #sides = []; // one, or two side by side
  #asked = []; // predictions, newest first: { point, answers: [{ version, prediction }] }
  #cross = null;
  #round = 0; // of what was asked for, the newest counts

  constructor() {
    this.models = choice([], "", (model) => go("plane", model));
    this.version = choice([], "", () => this.#go());
    this.other = choice([], "", () => this.#go());
    this.sides = h("div", { class: "planes" });
    this.list = h("tbody");
    this.head = h("tr");
    const table = h(
      "table",
      {},
      h("caption", { class: "unseen", t: "plane.predictions" }),
      h("thead", {}, this.head),
      this.list,
    );
    this.unasked = h("p", { class: "muted", t: "plane.unasked" });
    this.answered = h("div", { class: "scroll" }, table);
    this.clear = h("button", {
      class: "button slim",
      type: "button",
      t: "plane.clear",
      on: { click: () => this.#forget() },
    });
    const predictions = h(
      "section",
      { class: "panel stack" },
      h("div", { class: "row spread" }, h("h2", { t: "plane.predictions" }), this.clear),
      this.unasked,
      this.answered,
    );
    this.planed = h("div", { class: "planed" }, this.sides, predictions);
    this.empty = h("p", { class: "panel", t: "plane.none", hidden: true });
    this.chosen = h(
      "div",
      { class: "row chosen" },
      field("plane.model", this.models),
      field("plane.version", this.version),
      field("plane.beside", this.other),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "plane.title" }), h("p", { t: "plane.lead" })),
      this.empty,
      this.chosen,
      this.planed,
    );
    onModels(guarded(() => this.element.isConnected && this.show(...this.#address())));
    onLanguage(() => {
      this.#offerVersions();
      this.#showPredictions();
      for (const side of this.#sides) side.say();
      this.#read(this.#cross);
    });
    this.#showPredictions();
  }

  hide() {}

  /** Show a model of the plane; without a version production's, `beside` another if given. */
  async show(name, version, beside) {
    const models = inThePlane();
    const model = models.find((one) => one.name === name) ?? models[0];
    this.empty.hidden = !!model;
    this.chosen.hidden = this.planed.hidden = !model;
    if (!model) return;
    if (model.name !== this.model?.name) this.#asked = [];
    this.model = model;
    const round = ++this.#round;
    const versions = await versionsOf(model.name);
    if (round !== this.#round) return;
    this.#versions = versions;
    offer(
      this.models,
      models.map((one) => [one.name, one.name]),
      model.name,
    );
    this.#offerVersions(version ?? model.version, beside ?? "");
    await this.#laySides(round);
  }

  #address() {
    return [this.model?.name, this.version.value || undefined, this.other.value || undefined];
  }

  #go() {
    go(
      "plane",
      this.model.name,
      this.version.value,
      ...(this.other.value ? [this.other.value] : []),
    );
  }

  #offerVersions(version = this.version.value, beside = this.other.value) {
    const options = this.#versions.map((one) => [one.version, titleOf(one)]);
    offer(this.version, options, version);
    const others = options.filter(([one]) => String(one) !== String(version));
    offer(this.other, [["", t("plane.nothing")], ...others], beside);
  }

  /** The chosen versions, each in a plane of the same extent. */
  async #laySides(round) {
    const numbers = [this.version.value, this.other.value].filter(Boolean).map(Number);
    const model = named(this.model.name);
    const frames = await Promise.all(numbers.map((version) => pointsOf(model.name, version)));
    if (round !== this.#round) return;
    const extent = { x: around(frames.map(({ x }) => x)), y: around(frames.map(({ y }) => y)) };
    const rows = grid(extent, SIZE);
    const probe = {
      move: (point) => this.#read(point),
      pick: guarded((point) => this.#ask(point)),
    };
    this.#sides = numbers.map((version, at) => {
      const facts = this.#versions.find((one) => one.version === version);
      return new Side(model, facts, { ...frames[at], ...extent }, probe);
    });
    this.sides.replaceChildren(...this.#sides.map((side) => side.element));
    this.planed.classList.toggle("two", this.#sides.length > 1);
    this.#showPredictions();
    await Promise.all(this.#sides.map((side) => side.fill(rows)));
  }

  #read(point) {
    this.#cross = point;
    for (const side of this.#sides) side.read(point);
  }

  /** Ask every version shown for its prediction of a point. */
  async #ask(point) {
    const rows = [point.map((value) => Number(value.toFixed(3)))];
    const ask = async ({ model, version }) => ({
      version,
      prediction: (await probabilities(model, version, rows))[0],
    });
    const answers = await Promise.all(this.#sides.map(ask));
    this.#asked = [{ point: rows[0], answers }, ...this.#asked].slice(0, KEPT);
    this.#showPredictions();
    speak(answers.map(({ prediction }) => this.#words(prediction)).join(" "));
  }

  #words({ label, probabilities: shares }) {
    return t("plane.words", { label, share: percent(shares[label]) });
  }

  #showPredictions() {
    this.unasked.hidden = this.#asked.length > 0;
    this.answered.hidden = this.clear.hidden = !this.#asked.length;
    const versions = this.#sides.map(({ version }) => version);
    this.head.replaceChildren(
      ...["x1", "x2"].map((name) => h("th", { scope: "col", class: "number" }, name)),
      ...versions.map((version) => h("th", { scope: "col" }, t("version", { version }))),
    );
    this.list.replaceChildren(...this.#asked.map((asked) => this.#row(asked, versions)));
    for (const side of this.#sides) {
      const of = ({ answers }) => answers.find(({ version }) => version === side.version);
      const seen = this.#asked.filter(of);
      side.plane.mark(seen.map((one) => ({ point: one.point, index: of(one).prediction.index })));
    }
  }

  #row({ point, answers }, versions) {
    const said = (version) => answers.find((answer) => answer.version === version)?.prediction;
    return h(
      "tr",
      {},
      point.map((value) => h("td", { class: "number" }, number(value, 3))),
      versions.map((version) => h("td", {}, said(version) ? this.#words(said(version)) : "–")),
    );
  }

  #forget() {
    this.#asked = [];
    this.#showPredictions();
  }
}

/** One version in its plane. */
class Side {
  constructor(model, facts, frame, probe) {
    this.model = model;
    this.facts = facts;
    this.version = facts.version;
    this.plane = new Plane({ labels: model.labels, probe });
    this.plane.frame(frame);
    this.title = h("span", { class: "badge live" });
    this.reading = h("p", { class: "plane-reading figure" });
    this.element = h(
      "section",
      { class: "panel stack" },
      h("h2", {}, `${model.name} `, this.title),
      this.reading,
      this.plane.element,
      frame.points.length ? null : h("p", { class: "muted small", t: "plane.noPoints" }),
    );
    this.say();
    this.read(null);
  }

  /** Say which version this is, in the language of the page. */
  say() {
    this.title.textContent = titleOf(this.facts);
    translated(this.plane.canvas, "label", "plane.canvas", {
      name: `${this.model.name} ${titleOf(this.facts)}`,
    });
  }

  async fill(rows) {
    try {
      const answers = await probabilities(this.model, this.version, rows, { quiet: true });
      const second = this.model.labels[1];
      this.plane.field({ size: SIZE, values: answers.map((one) => one.probabilities[second]) });
      this.read(this.point); // somebody may point at it already
    } catch (error) {
      complain(error);
    }
  }

  read(point) {
    this.point = point;
    this.plane.cross(point);
    const share = point && this.plane.at(point);
    if (share === null || share === undefined) {
      this.reading.textContent = t("plane.point");
      return;
    }
    const [x1, x2] = point.map((value) => number(value, 2));
    const label = this.model.labels[1];
    this.reading.textContent = t("plane.reading", { x1, x2, label, share: percent(share) });
  }
}

function titleOf({ version, aliases, metrics }) {
  const accuracy = metrics.test?.accuracy;
  return [
    t("version", { version }),
    ...aliases,
    ...(accuracy === undefined ? [] : [percent(accuracy)]),
  ].join(" · ");
}

/** The training points of a version; an older one has kept none. */
async function pointsOf(name, version) {
  const { plots } = await get(`models/${name}/versions/${version}`, { quiet: true });
  const kept = plots.find((path) => path.endsWith("/boundary.json"));
  return kept ? get(kept.slice(1), { quiet: true }) : NOWHERE;
}

const around = (ranges) => [
  Math.min(...ranges.map(([low]) => low)),
  Math.max(...ranges.map(([, high]) => high)),
];

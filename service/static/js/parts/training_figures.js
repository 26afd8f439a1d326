/** The figures of a training: its curves and, for a model of the plane, its boundary. */

import { h } from "../core/dom.js";
import { findModel } from "../core/models.js";
import { Playback } from "../core/timing.js";
import { accuracyChart, lossChart } from "./chart.js";
import { Plane } from "./plane.js";
import { hasEnded } from "./status.js";

const FIGURE_EVENTS = ["epoch", "plane", "boundary"];

export class TrainingFigures {
  #events = []; // those that change a figure, for a replay
  #points = [];
  #finalCurve = []; // of a job that has ended: the axes fit it from the start
  #epochs = 1;
  #model = null;
  #plane = null;
  #planes = new Map(); // by their labels, to be used again
  #playback = new Playback((event) => this.#show(event));

  /** `shown` is called with each event after it is shown, also with those that change no figure. */
  constructor(shown) {
    this.shown = shown;
    this.loss = lossChart();
    this.accuracy = accuracyChart();
    this.place = h("div", { class: "job-plane" });
    const charts = h("div", { class: "charts" }, this.loss.element, this.accuracy.element);
    this.element = h("div", { class: "job-figures" }, this.place, charts);
  }

  /** The newest point of the curves; undefined before the first. */
  get latest() {
    return this.#points.at(-1);
  }

  get epochs() {
    return this.#epochs;
  }

  /** Start with another job. */
  begin({ model, plan, curve, ...job }) {
    this.#playback.stop();
    this.#events = [];
    this.#model = model;
    this.#epochs = plan.epochs ?? job.progress?.epochs ?? 1;
    this.#finalCurve = hasEnded(job) ? curve : [];
    this.#plane = null;
    this.place.replaceChildren();
    this.element.hidden = !this.#finalCurve.length;
    this.#rewind();
  }

  stop() {
    this.#playback.stop();
  }

  add(event) {
    if (FIGURE_EVENTS.includes(event.kind)) this.#events.push(event);
    this.#playback.add(event);
  }

  replay() {
    this.#playback.stop();
    this.#rewind();
    for (const event of this.#events) this.#playback.add(event);
  }

  /** Draw the charts again, as after a change of language. */
  redraw() {
    this.loss.show();
    this.accuracy.show();
  }

  #rewind() {
    this.#points = [];
    this.loss.begin(this.#epochs, this.#finalCurve);
    this.accuracy.begin(this.#epochs, this.#finalCurve);
  }

  #show(event) {
    const { kind, data } = event;
    if (kind === "epoch") this.#addPoint(data);
    else if (kind === "plane") this.#showPlane(data);
    else if (kind === "boundary") this.#showBoundary(data);
    this.shown(event);
  }

  #addPoint(point) {
    // A worker that takes over a job repeats some epochs.
    this.#points = [...this.#points.filter(({ epoch }) => epoch < point.epoch), point];
    if (point.epochs) this.#epochs = point.epochs;
    this.element.hidden = false;
    this.loss.draw(this.#points);
    this.accuracy.draw(this.#points);
  }

  #showPlane(data) {
    const labels = findModel(this.#model)?.labels ?? ["0", "1"];
    const key = labels.join("\n");
    if (!this.#planes.has(key)) this.#planes.set(key, new Plane({ labels }));
    this.#plane = this.#planes.get(key);
    this.place.replaceChildren(this.#plane.element);
    this.element.hidden = false;
    this.#plane.setPoints(data);
    this.#plane.setProbabilities(null);
  }

  #showBoundary({ size, probabilities }) {
    this.#plane?.setProbabilities({ size, values: probabilities.map((one) => one / 255) });
  }
}

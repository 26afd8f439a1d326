/** What moves while a network learns: its curves and, in the plane, its boundary. */

import { accuracyChart, lossChart } from "./chart.js";
import { h } from "../core/dom.js";
import { Film } from "../core/film.js";
import { named } from "../core/models.js";
import { Plane } from "./plane.js";
import { isOver } from "./status.js";

const FILMED = ["epoch", "plane", "boundary"];

export class Learning {
  #filmed = []; // every event that moves something, to be played again
  #points = [];
  #known = []; // of a job that is over, so that the axes fit from the start
  #epochs = 1;
  #model = null;
  #plane = null;
  #planes = new Map(); // by their labels: one is used again and again
  #film = new Film((event) => this.#show(event));

  /** `told` is called with each event when its turn has come, whether it moves something or not. */
  constructor(told) {
    this.told = told;
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

  /** Begin anew, with another job. */
  begin({ model, plan, curve, ...job }) {
    this.#film.stop();
    this.#filmed = [];
    this.#model = model;
    this.#epochs = plan.epochs ?? job.progress?.epochs ?? 1;
    this.#known = isOver(job) ? curve : [];
    this.#plane = null;
    this.place.replaceChildren();
    this.element.hidden = !this.#known.length;
    this.#rewind();
  }

  stop() {
    this.#film.stop();
  }

  hear(event) {
    if (FILMED.includes(event.kind)) this.#filmed.push(event);
    this.#film.add(event);
  }

  replay() {
    this.#film.stop();
    this.#rewind();
    for (const event of this.#filmed) this.#film.add(event);
  }

  /** Again, as after a change of language. */
  redraw() {
    this.loss.show();
    this.accuracy.show();
  }

  #rewind() {
    this.#points = [];
    this.loss.begin(this.#epochs, this.#known);
    this.accuracy.begin(this.#epochs, this.#known);
  }

  #show(event) {
    const { kind, data } = event;
    if (kind === "epoch") this.#learn(data);
    else if (kind === "plane") this.#frame(data);
    else if (kind === "boundary") this.#moveBoundary(data);
    this.told(event);
  }

  #learn(point) {
    const before = this.#points.filter(({ epoch }) => epoch < point.epoch); // some come twice after a lost worker
    this.#points = [...before, point];
    if (point.epochs) this.#epochs = point.epochs;
    this.element.hidden = false;
    this.loss.draw(this.#points);
    this.accuracy.draw(this.#points);
  }

  #frame(data) {
    const labels = named(this.#model)?.labels ?? ["0", "1"];
    const key = labels.join("\n");
    if (!this.#planes.has(key)) this.#planes.set(key, new Plane({ labels }));
    this.#plane = this.#planes.get(key);
    this.place.replaceChildren(this.#plane.element);
    this.element.hidden = false;
    this.#plane.frame(data);
    this.#plane.field(null);
  }

  #moveBoundary({ size, probabilities }) {
    this.#plane?.field({ size, values: probabilities.map((one) => one / 255) });
  }
}

/** The view to retrain a model. */

import { address } from "../core/address.js";
import { Problem, get, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { onLanguage } from "../core/language.js";
import { allModels, findModel, onModels, versionsOf } from "../core/models.js";
import { guarded, showError } from "../core/notices.js";
import { oneAtATime } from "../core/timing.js";
import { JobPanel } from "../parts/job_panel.js";
import { hasEnded } from "../parts/status.js";
import { TrainForm } from "./train_form.js";

const LAST_MODEL = "perceptd.trained"; // a key of sessionStorage

export function build() {
  return new TrainView();
}

class TrainView {
  #model = null;

  constructor() {
    this.form = new TrainForm({
      choose: guarded((name) => this.#choose(name)),
      submit: guarded((button) => oneAtATime(button, () => this.#train())),
    });
    this.panel = new JobPanel(guarded(() => this.#load()));
    this.steps = h(
      "section",
      { class: "panel empty" },
      h("h2", { t: "train.stepsTitle" }),
      h(
        "ol",
        { class: "steps" },
        [1, 2, 3].map((step) => h("li", { t: `train.step${step}` })),
      ),
    );
    this.empty = h("p", { class: "panel", t: "train.none", hidden: true });
    this.layout = h(
      "div",
      { class: "training" },
      this.form.element,
      h("div", { class: "stack" }, this.steps, this.panel.element),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "train.title" }), h("p", { t: "train.lead" })),
      this.empty,
      this.layout,
    );
    onModels(() => this.#showModels());
    onLanguage(() => this.form.showOptions());
  }

  /** Show the form for a model, by default the one shown last. */
  async show(name) {
    this.panel.resume();
    this.#showModels();
    const last = this.#model ?? sessionStorage.getItem(LAST_MODEL);
    const model = findModel(name) ?? findModel(last) ?? allModels()[0];
    if (!model) return;
    await this.#choose(model.name);
    if (!this.panel.job) await this.#openUnfinished(model.name);
  }

  hide() {
    this.panel.pause();
  }

  /** Show the model's newest job if it has not ended, as after a reload of the page. */
  async #openUnfinished(model) {
    const query = new URLSearchParams({ model, limit: 1 });
    const { jobs } = await get(`jobs?${query}`, { quiet: true });
    if (!jobs.length || hasEnded(jobs[0])) return;
    this.steps.hidden = true;
    await this.panel.open(jobs[0].id, { quiet: true });
  }

  #showModels() {
    const models = allModels();
    this.empty.hidden = !!models.length;
    this.layout.hidden = !models.length;
    this.form.setModels(models);
  }

  async #choose(name) {
    if (name !== this.#model) this.form.clear(name);
    this.#model = name;
    sessionStorage.setItem(LAST_MODEL, name);
    history.replaceState(null, "", address("train", name));
    await this.#load();
  }

  async #load() {
    const name = this.#model;
    const path = `models/${encodeURIComponent(name)}/trainable`;
    const [trainable, versions] = await Promise.all([get(path, { quiet: true }), versionsOf(name)]);
    if (name !== this.#model) return;
    this.form.show(trainable, versions, findModel(name)?.version);
  }

  async #train() {
    if (!this.form.check()) return;
    try {
      const job = await post("jobs", this.form.body(), { admin: true });
      this.steps.hidden = true;
      await this.panel.open(job.id, { quiet: true });
      this.panel.focus();
    } catch (error) {
      const errors = error instanceof Problem ? error.errors : [];
      if (!this.form.showErrors(errors)) showError(error);
    }
  }
}

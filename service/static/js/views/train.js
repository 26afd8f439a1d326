/** Retrain: what to train, how, and what it takes for the result to serve. */

import { Problem, get, post } from "../core/api.js";
import { h, offer } from "../core/dom.js";
import { ChoiceField, NumberField } from "../parts/form_fields.js";
import { metricName } from "../core/figures.js";
import { JobPanel } from "../parts/job_panel.js";
import { number, onLanguage, t, translated } from "../core/language.js";
import { all, named, onModels, versionsOf } from "../core/models.js";
import { changed, settingFields } from "../parts/setting_fields.js";
import { complain, guarded } from "../core/notices.js";
import { isOver } from "../parts/status.js";
import { once } from "../core/once.js";

const MODEL = "perceptd.trained"; // the one that was looked at last
const QUICK = "fast";
const HYPERPARAMETERS = ["epochs", "learning_rate", "batch_size", "seed"];

export function build() {
  return new TrainView();
}

class TrainView {
  #model = null;
  #trainable = null;
  #versions = [];
  #settings = new Map(); // the network's fields by their names

  constructor() {
    this.fields = this.#made();
    this.network = h("div", { class: "pair" });
    this.feedback = h("input", { type: "checkbox" });
    this.feedbackWords = h("span");
    this.submit = h("button", { class: "button main", t: "train.submit" });
    this.more = this.#advanced();
    this.form = this.#form();
    this.panel = new JobPanel(guarded(() => this.#load()));
    this.waiting = h(
      "section",
      { class: "panel empty" },
      h("h2", { t: "train.emptyTitle" }),
      steps(),
    );
    this.empty = h("p", { class: "panel", t: "train.none", hidden: true });
    this.layout = h(
      "div",
      { class: "training" },
      this.form,
      h("div", { class: "stack" }, this.waiting, this.panel.element),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "train.title" }), h("p", { t: "train.lead" })),
      this.empty,
      this.layout,
    );
    onModels(() => this.#offerModels());
    onLanguage(() => this.#trainable && this.#offer());
  }

  /** Show the form for a model; without one, for that of the last time. */
  async show(name) {
    this.panel.resume();
    this.#offerModels();
    const model = named(name) ?? named(this.#model ?? sessionStorage.getItem(MODEL)) ?? all()[0];
    if (!model) return;
    await this.#choose(model.name);
    if (!this.panel.job) await this.#openUnfinished(model.name);
  }

  hide() {
    this.panel.pause();
  }

  /** A job that goes on is shown again, as after the page was loaded anew. */
  async #openUnfinished(model) {
    const query = new URLSearchParams({ model, limit: 1 });
    const { jobs } = await get(`jobs?${query}`, { quiet: true });
    if (!jobs.length || isOver(jobs[0])) return;
    this.waiting.hidden = true;
    await this.panel.open(jobs[0].id, { quiet: true });
  }

  #made() {
    const { model, recipe, dataset, start_from, epochs, learning_rate, batch_size, seed } = {
      model: new ChoiceField({ t: "train.model" }, [], {
        listener: guarded((name) => this.#choose(name)),
      }),
      recipe: new ChoiceField({ t: "train.recipe" }, [], {
        listener: () => this.#showRecipe(),
        hint: h("small"),
      }),
      dataset: new ChoiceField({ t: "train.dataset" }, [], {
        listener: () => this.#showYardstick(),
        hint: h("small", { t: "train.yardstick" }),
      }),
      start_from: new ChoiceField({ t: "train.startFrom" }, [], {
        listener: () => this.#holdSettings(),
      }),
      epochs: new NumberField({ t: "train.epochs" }, { whole: true, least: 1, most: 1e6 }),
      learning_rate: new NumberField({ t: "train.learningRate" }, { least: 1e-6, most: 100 }),
      batch_size: new NumberField({ t: "train.batchSize" }, { whole: true, least: 1, most: 1e6 }),
      seed: new NumberField({ t: "train.seed" }, { whole: true, least: 0 }),
    };
    const gate = new ChoiceField({ t: "train.gate" }, [], {
      listener: () => this.#showGate(),
      hint: h("small", { t: "train.gateHint" }),
    });
    const metric = new ChoiceField({ t: "train.metric" }, []);
    const change = new NumberField(
      { t: "train.change" },
      { least: -1e6, most: 1e6, hint: h("small", { t: "train.changeHint" }) },
    );
    change.control.placeholder = "0";
    return {
      model,
      recipe,
      dataset,
      start_from,
      epochs,
      learning_rate,
      batch_size,
      seed,
      gate,
      "gate.metric": metric,
      "gate.min_absolute_change": change,
    };
  }

  #advanced() {
    const { start_from, batch_size, seed } = this.fields;
    return h(
      "details",
      { class: "more" },
      h("summary", { t: "train.more" }),
      h(
        "div",
        { class: "stack" },
        start_from.element,
        h("div", { class: "pair" }, batch_size.element, seed.element),
      ),
    );
  }

  #form() {
    const { model, recipe, dataset, epochs, learning_rate, gate } = this.fields;
    this.own = h(
      "div",
      { class: "pair" },
      this.fields["gate.metric"].element,
      this.fields["gate.min_absolute_change"].element,
    );
    this.rest = h(
      "div",
      { class: "stack", hidden: true },
      h("div", { class: "pair" }, recipe.element, dataset.element),
      this.network,
      h("div", { class: "pair" }, epochs.element, learning_rate.element),
      h("label", { class: "check" }, this.feedback, this.feedbackWords),
      gate.element,
      this.own,
      this.more,
      this.submit,
    );
    const form = h(
      "form",
      { class: "panel stack", novalidate: true, label: "train.title" },
      model.element,
      this.rest,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      guarded(() => once(this.submit, () => this.#train()))();
    });
    return form;
  }

  #offerModels() {
    const models = all();
    this.empty.hidden = !!models.length;
    this.layout.hidden = !models.length;
    offer(
      this.fields.model.control,
      models.map(({ name }) => [name, name]),
    );
  }

  async #choose(name) {
    const isNew = name !== this.#model;
    this.#model = name;
    sessionStorage.setItem(MODEL, name);
    history.replaceState(null, "", `#/train/${encodeURIComponent(name)}`);
    this.fields.model.control.value = name;
    if (isNew) {
      this.#trainable = null;
      this.rest.hidden = true; // until it is known what can be set
      for (const each of Object.values(this.fields).slice(1)) each.clear();
    }
    await this.#load();
  }

  async #load() {
    const name = this.#model;
    const path = `models/${encodeURIComponent(name)}/trainable`;
    const [trainable, versions] = await Promise.all([get(path, { quiet: true }), versionsOf(name)]);
    if (name !== this.#model) return; // another one was chosen while this one was asked for
    const isNew = this.#trainable?.model !== name;
    this.#versions = versions;
    const before = JSON.stringify([this.#trainable?.model, this.#trainable?.current]);
    this.#trainable = trainable;
    if (before !== JSON.stringify([name, trainable.current])) this.#laySettings();
    this.#offer(isNew);
    this.rest.hidden = false;
  }

  #laySettings() {
    const { config, current } = this.#trainable;
    this.#settings = settingFields(config, current);
    this.network.replaceChildren(...[...this.#settings.values()].map(({ element }) => element));
    this.network.hidden = !this.#settings.size;
  }

  /** Lists in the reader's language; what is chosen in them stays, but for a new model. */
  #offer(isNew = false) {
    const { recipes, metrics, feedback } = this.#trainable;
    const names = Object.keys(recipes);
    const recipe = isNew ? (names.includes(QUICK) ? QUICK : names[0]) : undefined;
    const kept = (value) => (isNew ? value : undefined);
    offer(
      this.fields.recipe.control,
      names.map((name) => [name, name]),
      recipe,
    );
    offer(this.fields.start_from.control, this.#starts(), kept("scratch"));
    offer(this.fields.gate.control, gates(), kept("accuracy"));
    offer(
      this.fields["gate.metric"].control,
      Object.keys(metrics).map((name) => [name, metricName(name)]),
      kept("accuracy"),
    );
    this.feedback.disabled = !feedback;
    if (!feedback) this.feedback.checked = false;
    this.feedbackWords.textContent = feedback
      ? t("train.feedback", { count: number(feedback) })
      : t("train.noFeedback");
    this.feedbackWords.className = feedback ? "" : "muted";
    this.#showRecipe(isNew);
    this.#showGate();
    this.#holdSettings();
  }

  #starts() {
    const production = named(this.#model)?.version;
    const versions = this.#versions.filter(({ version }) => version !== production);
    return [
      ["scratch", t("train.scratch")],
      ["production", t("train.production", { version: production })],
      ...versions.map(({ version }) => [version, t("version", { version })]),
    ];
  }

  /** What the recipe has is what a blank field means. */
  #showRecipe(isNew = false) {
    const { recipes, datasets } = this.#trainable;
    const recipe = recipes[this.fields.recipe.value];
    const own = ["", recipe.dataset];
    const others = datasets.filter((name) => name !== recipe.dataset).map((name) => [name, name]);
    offer(this.fields.dataset.control, [own, ...others], isNew ? "" : undefined);
    this.#showYardstick();
    for (const name of HYPERPARAMETERS) {
      this.fields[name].control.placeholder = recipe[name] ?? t("train.allRows");
    }
    const hint = this.fields.recipe.element.querySelector("small");
    const { optimizer, schedule } = recipe;
    hint.textContent = [optimizer, schedule !== "constant" && schedule]
      .filter(Boolean)
      .join(", ")
      .replaceAll("_", " ");
  }

  /** Held-out rows of another data set measure something else. */
  #showYardstick() {
    const { element, value } = this.fields.dataset;
    element.querySelector("small").hidden = !value;
  }

  #showGate() {
    this.own.hidden = this.fields.gate.value !== "metric";
  }

  /** Weights fit only the settings that they were trained with. */
  #holdSettings() {
    const isHeld = this.fields.start_from.value !== "scratch";
    for (const { control } of this.#settings.values()) control.disabled = isHeld;
    this.network.classList.toggle("held", isHeld);
    this.network.querySelector(".why")?.remove();
    if (isHeld && this.#settings.size)
      this.network.append(h("small", { class: "muted why", t: "train.held" }));
  }

  #all() {
    const settings = [...this.#settings].map(([name, field]) => [`config.${name}`, field]);
    return { ...this.fields, ...Object.fromEntries(settings) };
  }

  /** What was set and nothing else: the rest is the service's to fill in. */
  #body() {
    const { model, recipe, dataset } = this.fields;
    const body = { model: model.value, recipe: recipe.value };
    if (dataset.value) body.dataset = dataset.value;
    const start = this.fields.start_from.value;
    if (start !== "scratch") body.start_from = start === "production" ? start : Number(start);
    else
      Object.assign(body, nonEmpty({ config: changed(this.#settings, this.#trainable.current) }));
    for (const name of HYPERPARAMETERS) {
      if (this.fields[name].value !== undefined) body[name] = this.fields[name].value;
    }
    if (this.feedback.checked) body.include_feedback = true;
    const gate = this.#gate();
    if (gate) body.gate = gate;
    return body;
  }

  #gate() {
    const { value } = this.fields.gate;
    if (value === "always" || value === "never") return value;
    if (value === "loss") return { metric: "loss" };
    if (value !== "metric") return null; // what the service does anyway
    return {
      metric: this.fields["gate.metric"].value,
      min_absolute_change: this.fields["gate.min_absolute_change"].value ?? 0,
    };
  }

  async #train() {
    const fields = Object.values(this.#all()).filter(
      ({ element, control }) => !element.closest("[hidden]") && !control.disabled,
    );
    const wrong = fields.filter((field) => !field.check());
    if (wrong.length) {
      this.#pointAt(wrong[0]);
      return;
    }
    try {
      const job = await post("jobs", this.#body(), { admin: true });
      this.waiting.hidden = true;
      await this.panel.open(job.id, { quiet: true });
      this.panel.focus();
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** Faults stand at their fields; what belongs to none is told in the corner. */
  #refuse(error) {
    const faults = error instanceof Problem ? error.faults : [];
    const fields = this.#all();
    const at = faults.map((fault) => {
      const loc = fault.loc[0] === "body" ? fault.loc.slice(1) : fault.loc;
      const field = fields[`${loc[0]}.${loc[1]}`] ?? fields[loc[0]];
      return field?.element.closest("[hidden]") ? undefined : field;
    });
    if (!at.length || at.includes(undefined)) complain(error);
    faults.forEach((fault, i) => at[i]?.refuse(t("error.expected", fault)));
    const first = at.find(Boolean);
    if (first) this.#pointAt(first);
  }

  #pointAt({ element, control }) {
    if (this.more.contains(element)) this.more.open = true;
    control.focus();
  }
}

const gates = () =>
  ["accuracy", "loss", "metric", "always", "never"].map((name) => [name, t(`train.gate.${name}`)]);

const nonEmpty = ({ config }) => (Object.keys(config).length ? { config } : {});

/** What happens to a retraining, before there is one. */
const steps = () =>
  h(
    "ol",
    { class: "steps" },
    [1, 2, 3].map((step) => h("li", { t: `train.step${step}` })),
  );

/** The form of a retraining. */

import { h, setOptions } from "../core/dom.js";
import { metricName } from "../core/figures.js";
import { number, t } from "../core/language.js";
import { ChoiceField, NumberField } from "../parts/form_fields.js";
import { changedSettings, settingFields } from "../parts/setting_fields.js";

const DEFAULT_RECIPE = "fast";
const HYPERPARAMETERS = ["epochs", "learning_rate", "batch_size", "seed"];
const GATES = ["accuracy", "loss", "metric", "always", "never"];

export class TrainForm {
  #trainable = null;
  #versions = [];
  #production = null; // the version in production
  #settings = new Map(); // the fields of the network's settings, by name

  /** `choose(model)` is called when the user chooses a model, `submit(button)` on submit. */
  constructor({ choose, submit }) {
    this.fields = this.#createFields(choose);
    this.network = h("div", { class: "pair" });
    this.feedback = h("input", { type: "checkbox" });
    this.feedbackLabel = h("span");
    this.submit = h("button", { class: "button main", t: "train.submit" });
    this.more = this.#createMore();
    this.element = this.#createForm();
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      submit(this.submit);
    });
  }

  setModels(models) {
    setOptions(
      this.fields.model.control,
      models.map(({ name }) => [name, name]),
    );
  }

  /** Select a model, and hide the other fields until `show`. */
  clear(model) {
    this.fields.model.control.value = model;
    this.#trainable = null;
    this.rest.hidden = true;
    for (const field of Object.values(this.fields).slice(1)) field.clear();
  }

  /** Show the fields of a model: `trainable` is what can be set, `production` a version. */
  show(trainable, versions, production) {
    const before = this.#trainable;
    this.#trainable = trainable;
    this.#versions = versions;
    this.#production = production;
    const current = JSON.stringify(trainable.current);
    if (JSON.stringify(before?.current) !== current) this.#createSettings();
    this.showOptions(!before);
    this.rest.hidden = false;
  }

  /** Show the options in the current language. Only for a new model, select the defaults. */
  showOptions(isNew = false) {
    if (!this.#trainable) return;
    const { recipes, metrics, feedback } = this.#trainable;
    const names = Object.keys(recipes);
    const recipe = names.includes(DEFAULT_RECIPE) ? DEFAULT_RECIPE : names[0];
    const set = (field, options, initial) =>
      setOptions(field.control, options, isNew ? initial : undefined);
    const asOptions = (values, text) => values.map((value) => [value, text(value)]);
    set(
      this.fields.recipe,
      asOptions(names, (name) => name),
      recipe,
    );
    set(this.fields.start_from, this.#startOptions(), "scratch");
    set(
      this.fields.gate,
      asOptions(GATES, (gate) => t(`train.gate.${gate}`)),
      "accuracy",
    );
    set(this.fields["gate.metric"], asOptions(Object.keys(metrics), metricName), "accuracy");
    this.feedback.disabled = !feedback;
    if (!feedback) this.feedback.checked = false;
    this.feedbackLabel.textContent = feedback
      ? t("train.feedback", { count: number(feedback) })
      : t("train.noFeedback");
    this.feedbackLabel.className = feedback ? "" : "muted";
    this.#showRecipe(isNew);
    this.#showGate();
    this.#lockSettings();
  }

  /** Whether all values are valid; shows the errors if not. */
  check() {
    const fields = Object.values(this.#allFields()).filter(
      ({ element, control }) => !element.closest("[hidden]") && !control.disabled,
    );
    const invalid = fields.filter((field) => !field.check());
    if (invalid.length) this.#focus(invalid[0]);
    return !invalid.length;
  }

  /** The request body, with only what the user has set: the service has the defaults. */
  body() {
    const { model, recipe, dataset, start_from: start } = this.fields;
    const body = { model: model.value, recipe: recipe.value };
    if (dataset.value) body.dataset = dataset.value;
    if (start.value === "scratch") {
      const config = changedSettings(this.#settings, this.#trainable.current);
      if (Object.keys(config).length) body.config = config;
    } else {
      body.start_from = start.value === "production" ? start.value : Number(start.value);
    }
    for (const name of HYPERPARAMETERS) {
      if (this.fields[name].value !== undefined) body[name] = this.fields[name].value;
    }
    if (this.feedback.checked) body.include_feedback = true;
    const gate = this.#gate();
    if (gate) body.gate = gate;
    return body;
  }

  /** Show errors of the service at their fields. Returns whether each has a visible field. */
  showErrors(errors) {
    const all = this.#allFields();
    const fields = errors.map((error) => {
      const loc = error.loc[0] === "body" ? error.loc.slice(1) : error.loc;
      const field = all[`${loc[0]}.${loc[1]}`] ?? all[loc[0]];
      return field?.element.closest("[hidden]") ? undefined : field;
    });
    errors.forEach((error, at) => fields[at]?.showError(t("error.expected", error)));
    const first = fields.find(Boolean);
    if (first) this.#focus(first);
    return errors.length > 0 && !fields.includes(undefined);
  }

  #createFields(choose) {
    return {
      model: new ChoiceField({ t: "train.model" }, [], { listener: choose }),
      recipe: new ChoiceField({ t: "train.recipe" }, [], {
        listener: () => this.#showRecipe(),
        hint: h("small"),
      }),
      dataset: new ChoiceField({ t: "train.dataset" }, [], {
        listener: () => this.#showDatasetHint(),
        hint: h("small", { t: "train.datasetHint" }),
      }),
      start_from: new ChoiceField({ t: "train.startFrom" }, [], {
        listener: () => this.#lockSettings(),
      }),
      epochs: new NumberField({ t: "train.epochs" }, { whole: true, min: 1, max: 1e6 }),
      learning_rate: new NumberField({ t: "train.learningRate" }, { min: 1e-6, max: 100 }),
      batch_size: new NumberField({ t: "train.batchSize" }, { whole: true, min: 1, max: 1e6 }),
      seed: new NumberField({ t: "train.seed" }, { whole: true, min: 0 }),
      gate: new ChoiceField({ t: "train.gate" }, [], {
        listener: () => this.#showGate(),
        hint: h("small", { t: "train.gateHint" }),
      }),
      "gate.metric": new ChoiceField({ t: "train.metric" }, []),
      "gate.min_absolute_change": new NumberField(
        { t: "train.change" },
        { min: -1e6, max: 1e6, hint: h("small", { t: "train.changeHint" }) },
      ),
    };
  }

  #createMore() {
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

  #createForm() {
    const { model, recipe, dataset, epochs, learning_rate, gate } = this.fields;
    const { "gate.metric": metric, "gate.min_absolute_change": change } = this.fields;
    change.control.placeholder = "0";
    this.customGate = h("div", { class: "pair" }, metric.element, change.element);
    this.rest = h(
      "div",
      { class: "stack", hidden: true },
      h("div", { class: "pair" }, recipe.element, dataset.element),
      this.network,
      h("div", { class: "pair" }, epochs.element, learning_rate.element),
      h("label", { class: "check" }, this.feedback, this.feedbackLabel),
      gate.element,
      this.customGate,
      this.more,
      this.submit,
    );
    return h(
      "form",
      { class: "panel stack", novalidate: true, label: "train.title" },
      model.element,
      this.rest,
    );
  }

  #createSettings() {
    const { config, current } = this.#trainable;
    this.#settings = settingFields(config, current);
    this.network.replaceChildren(...[...this.#settings.values()].map(({ element }) => element));
    this.network.hidden = !this.#settings.size;
  }

  #startOptions() {
    const others = this.#versions.filter(({ version }) => version !== this.#production);
    return [
      ["scratch", t("train.scratch")],
      ["production", t("train.production", { version: this.#production })],
      ...others.map(({ version }) => [version, t("version", { version })]),
    ];
  }

  /** Show the values of the recipe as placeholders: they apply to blank fields. */
  #showRecipe(isNew = false) {
    const { recipes, datasets } = this.#trainable;
    const recipe = recipes[this.fields.recipe.value];
    const others = datasets.filter((name) => name !== recipe.dataset).map((name) => [name, name]);
    const options = [["", recipe.dataset], ...others];
    setOptions(this.fields.dataset.control, options, isNew ? "" : undefined);
    this.#showDatasetHint();
    for (const name of HYPERPARAMETERS) {
      this.fields[name].control.placeholder = recipe[name] ?? t("train.allRows");
    }
    const { optimizer, schedule } = recipe;
    this.fields.recipe.element.querySelector("small").textContent = [
      optimizer,
      schedule !== "constant" && schedule,
    ]
      .filter(Boolean)
      .join(", ")
      .replaceAll("_", " ");
  }

  #showDatasetHint() {
    const { element, value } = this.fields.dataset;
    element.querySelector("small").hidden = !value;
  }

  #showGate() {
    this.customGate.hidden = this.fields.gate.value !== "metric";
  }

  /** Disable the network's settings if it starts from weights: they fit only those settings. */
  #lockSettings() {
    const isLocked = this.fields.start_from.value !== "scratch";
    for (const { control } of this.#settings.values()) control.disabled = isLocked;
    this.network.classList.toggle("locked", isLocked);
    this.network.querySelector(".locked-hint")?.remove();
    if (isLocked && this.#settings.size)
      this.network.append(h("small", { class: "muted locked-hint", t: "train.locked" }));
  }

  #allFields() {
    const settings = [...this.#settings].map(([name, field]) => [`config.${name}`, field]);
    return { ...this.fields, ...Object.fromEntries(settings) };
  }

  #gate() {
    const { value } = this.fields.gate;
    if (value === "always" || value === "never") return value;
    if (value === "loss") return { metric: "loss" };
    if (value !== "metric") return null; // accuracy is the service's default
    return {
      metric: this.fields["gate.metric"].value,
      min_absolute_change: this.fields["gate.min_absolute_change"].value ?? 0,
    };
  }

  #focus({ element, control }) {
    if (this.more.contains(element)) this.more.open = true;
    control.focus();
  }
}

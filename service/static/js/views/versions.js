/** The view of the versions of a model. */

import { address, go } from "../core/address.js";
import { copyText, field, h, icon, select, setOptions } from "../core/dom.js";
import { metricValue } from "../core/figures.js";
import { dateTime, onLanguage, t } from "../core/language.js";
import { allModels, findModel, onModels, planeModels, versionsOf } from "../core/models.js";
import { guarded, notify } from "../core/notices.js";
import { oneAtATime } from "../core/timing.js";
import { compareAddress, promote, promotionKind, versionOf } from "../parts/promotion.js";
import { aliasBadges, showDetails } from "./version_details.js";

const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
const COLUMNS = ["version", "aliases", "accuracy", "loss", "created", "parent", "job", "sha256"];
const NUMBERS = ["accuracy", "loss"];
const WIDE_ONLY = ["loss", "created", "parent", "job", "sha256"]; // columns without room on a phone

export function build() {
  return new VersionsView();
}

class VersionsView {
  #model = null;
  #versions = [];

  constructor() {
    this.models = select([], "", (name) => go("versions", name));
    this.rows = h("tbody");
    this.caption = h("caption", { class: "visually-hidden" });
    this.onlyVersion = h("p", { class: "muted", hidden: true });
    this.empty = h("p", { class: "panel", t: "versions.none", hidden: true });
    const heads = COLUMNS.map((name) =>
      h("th", { scope: "col", class: classes(name), t: `versions.${name}` }),
    );
    const actions = h(
      "th",
      { scope: "col" },
      h("span", { class: "visually-hidden", t: "versions.actions" }),
    );
    this.content = h(
      "div",
      { class: "stack" },
      h("div", { class: "row filters" }, field("versions.model", this.models)),
      h(
        "section",
        { class: "panel stack", label: "versions.title" },
        h(
          "div",
          { class: "scroll" },
          h(
            "table",
            { class: "listed" },
            this.caption,
            h("thead", {}, h("tr", {}, heads, actions)),
            this.rows,
          ),
        ),
        this.onlyVersion,
      ),
    );
    this.element = h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "versions.title" }), h("p", { t: "versions.lead" })),
      this.empty,
      this.content,
    );
    onLanguage(() => this.#model && this.#show());
    onModels(guarded(() => this.element.isConnected && this.show(this.#model)));
  }

  async show(name) {
    const models = allModels();
    const model = findModel(name ?? this.#model) ?? models[0];
    this.empty.hidden = !!model;
    this.content.hidden = !model;
    if (!model) return;
    if (model.name !== this.#model) this.rows.replaceChildren(); // rows of another model
    this.#model = model.name;
    setOptions(
      this.models,
      models.map((one) => [one.name, one.name]),
      model.name,
    );
    const versions = await versionsOf(model.name);
    if (model.name !== this.#model) return;
    this.#versions = versions;
    this.#show();
  }

  hide() {}

  /** Build the rows again; the focus stays in the row that has it. */
  #show() {
    const focused =
      this.rows.contains(document.activeElement) &&
      document.activeElement.closest("tr").dataset.version;
    this.caption.textContent = t("versions.of", { model: this.#model });
    this.rows.replaceChildren(...this.#versions.map((version) => this.#row(version)));
    if (focused) this.rows.querySelector(`[data-version="${focused}"] .actions button`)?.focus();
    this.onlyVersion.hidden = this.#versions.length > 1;
    this.onlyVersion.replaceChildren(
      t("versions.onlyVersion"),
      " ",
      h("a", { href: address("train", this.#model) }, t("shell.train")),
    );
  }

  #row(one) {
    const { test = {} } = one.metrics;
    const cells = {
      aliases: h("div", { class: "badges" }, aliasBadges(one)),
      accuracy: metricValue("accuracy", test.accuracy),
      loss: metricValue("loss", test.loss),
      created: dateTime(one.created_at),
      parent: one.parent ?? "–",
      job: one.job === null ? "–" : h("a", { href: address("jobs", one.job) }, `#${one.job}`),
      sha256: hash(one.sha256),
    };
    return h(
      "tr",
      { "data-version": one.version },
      h("th", { scope: "row", class: "figure" }, String(one.version)),
      Object.entries(cells).map(([name, content]) => h("td", { class: classes(name) }, content)),
      h("td", { class: "actions" }, this.#actions(one)),
    );
  }

  #actions(one) {
    const { version } = one;
    const production = versionOf(this.#versions, "production");
    const details = h(
      "button",
      { class: "button slim", type: "button", "aria-label": t("versions.detailsOf", { version }) },
      t("versions.details"),
    );
    details.addEventListener(
      "click",
      guarded(() => showDetails(one.model, version)),
    );
    const actions = [details];
    if (version !== production) {
      const key = promotionKind(version, production);
      const button = h(
        "button",
        { class: "button slim", type: "button", "aria-label": t(`promotion.${key}`, { version }) },
        t(`promotion.${key}Short`),
      );
      button.addEventListener(
        "click",
        guarded(() => oneAtATime(button, () => promote(one.model, version))),
      );
      actions.push(button);
      if (planeModels().some(({ name }) => name === one.model)) {
        actions.push(
          h("a", {
            class: "button slim wide-only",
            href: compareAddress(one.model, production, version),
            t: "versions.compare",
          }),
        );
      }
    }
    return h("div", { class: "row" }, actions);
  }
}

const classes = (name) =>
  [NUMBERS.includes(name) && "number", WIDE_ONLY.includes(name) && "wide-only"]
    .filter(Boolean)
    .join(" ") || null;

/** A button with the start of a hash; it copies the whole hash. */
function hash(sha256) {
  const click = async () => {
    await copyText(sha256);
    notify(t("requests.copied"));
  };
  const button = h(
    "button",
    { class: "button slim plain", type: "button", on: { click } },
    h("span", { class: "mono" }, sha256.slice(0, 8)),
    icon(COPY),
  );
  button.title = sha256;
  button.setAttribute("aria-label", t("versions.copyHash", { sha256: sha256.slice(0, 8) }));
  return button;
}

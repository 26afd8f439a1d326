/** The versions of a model: how good each is, where it comes from, and which one serves. */

import { copy } from "../core/clipboard.js";
import { choice, field, h, icon, offer } from "../core/dom.js";
import { metricValue } from "../core/figures.js";
import { moment, onLanguage, t } from "../core/language.js";
import { all, inThePlane, named, onModels, versionsOf } from "../core/models.js";
import { guarded } from "../core/notices.js";
import { once } from "../core/once.js";
import { behind, beside, promote, wayTo } from "../parts/promotion.js";
import { go } from "../router.js";
import { aliasBadges, showDetails } from "./version_details.js";

const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
const COLUMNS = ["version", "aliases", "accuracy", "loss", "created", "parent", "job", "sha256"];
const NUMBERS = ["accuracy", "loss"];
const LESSER = ["loss", "created", "parent", "job", "sha256"]; // which a phone leaves to the details

export function build() {
  return new VersionsView();
}

class VersionsView {
  #model = null;
  #versions = [];

  constructor() {
    this.models = choice([], "", (name) => go("versions", name));
    this.rows = h("tbody");
    this.caption = h("caption", { class: "unseen" });
    this.alone = h("p", { class: "muted", hidden: true });
    this.empty = h("p", { class: "panel", t: "versions.none", hidden: true });
    const heads = COLUMNS.map((name) =>
      h("th", { scope: "col", class: classes(name), t: `versions.${name}` }),
    );
    const actions = h(
      "th",
      { scope: "col" },
      h("span", { class: "unseen", t: "versions.actions" }),
    );
    this.content = h(
      "div",
      { class: "stack" },
      h("div", { class: "row chosen" }, field("versions.model", this.models)),
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
        this.alone,
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
    const models = all();
    const model = named(name ?? this.#model) ?? models[0];
    this.empty.hidden = !!model;
    this.content.hidden = !model;
    if (!model) return;
    if (model.name !== this.#model) this.rows.replaceChildren(); // they are of another model
    this.#model = model.name;
    offer(
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

  /** The rows are built anew: where one of them has the focus, its successor gets it. */
  #show() {
    const held =
      this.rows.contains(document.activeElement) &&
      document.activeElement.closest("tr").dataset.version;
    this.caption.textContent = t("versions.of", { model: this.#model });
    this.rows.replaceChildren(...this.#versions.map((version) => this.#row(version)));
    if (held) this.rows.querySelector(`[data-version="${held}"] .actions button`)?.focus();
    this.alone.hidden = this.#versions.length > 1;
    this.alone.replaceChildren(
      t("versions.alone"),
      " ",
      h("a", { href: `#/train/${encodeURIComponent(this.#model)}` }, t("shell.train")),
    );
  }

  #row(one) {
    const { test = {} } = one.metrics;
    const cells = {
      aliases: h("div", { class: "badges" }, aliasBadges(one)),
      accuracy: metricValue("accuracy", test.accuracy),
      loss: metricValue("loss", test.loss),
      created: moment(one.created_at),
      parent: one.parent ?? "–",
      job: one.job === null ? "–" : h("a", { href: `#/jobs/${one.job}` }, `#${one.job}`),
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
    const production = behind(this.#versions, "production");
    const details = h(
      "button",
      { class: "button slim", type: "button", "aria-label": t("versions.detailsOf", { version }) },
      t("versions.details"),
    );
    details.addEventListener(
      "click",
      guarded(() => showDetails(one.model, version)),
    );
    const shown = [details];
    if (version !== production) {
      const key = wayTo(version, production);
      const button = h(
        "button",
        { class: "button slim", type: "button", "aria-label": t(`promotion.${key}`, { version }) },
        t(`promotion.${key}Short`),
      );
      button.addEventListener(
        "click",
        guarded(() => once(button, () => promote(one.model, version))),
      );
      shown.push(button);
      if (inThePlane().some(({ name }) => name === one.model)) {
        shown.push(
          h("a", {
            class: "button slim lesser",
            href: beside(one.model, production, version),
            t: "versions.beside",
          }),
        );
      }
    }
    return h("div", { class: "row" }, shown);
  }
}

const classes = (name) =>
  [NUMBERS.includes(name) && "number", LESSER.includes(name) && "lesser"]
    .filter(Boolean)
    .join(" ") || null;

/** The beginning of a hash; the whole of it in the title, and to be copied. */
function hash(sha256) {
  const button = h(
    "button",
    { class: "button slim plain", type: "button", on: { click: () => copy(sha256) } },
    h("span", { class: "mono" }, sha256.slice(0, 8)),
    icon(COPY),
  );
  button.title = sha256;
  button.setAttribute("aria-label", t("versions.copyHash", { sha256: sha256.slice(0, 8) }));
  return button;
}

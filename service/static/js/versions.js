/** The versions of a model: how good each is, where it comes from, and which one serves. */

import { choice, field, h, icon, offer } from "./dom.js";
import { metricValue } from "./figures.js";
import { moment, onLanguage, t } from "./language.js";
import { all, inThePlane, named, onModels, versionsOf } from "./models.js";
import { guarded, tell } from "./notices.js";
import { behind, promote } from "./promotion.js";
import { go } from "./router.js";
import { showDetails } from "./version.js";

const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
const COLUMNS = ["version", "aliases", "accuracy", "loss", "created", "parent", "job", "sha256"];
const NUMBERS = ["accuracy", "loss"];
const LESSER = ["loss", "created", "parent", "sha256"]; // which a phone leaves to the details

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
    const heads = COLUMNS.map((name) => h("th", { scope: "col", class: classes(name), t: `versions.${name}` }));
    const actions = h("th", { scope: "col" }, h("span", { class: "unseen", t: "versions.actions" }));
    this.content = h(
      "div",
      { class: "stack" },
      h("div", { class: "row chosen" }, field("versions.model", this.models)),
      h(
        "section",
        { class: "panel stack", label: "versions.title" },
        h("div", { class: "scroll" }, h("table", { class: "listed" }, this.caption, h("thead", {}, h("tr", {}, heads, actions)), this.rows)),
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
    this.#model = model.name;
    offer(this.models, models.map((one) => [one.name, one.name]), model.name);
    const versions = await versionsOf(model.name);
    if (model.name !== this.#model) return;
    this.#versions = versions;
    this.#show();
  }

  hide() {}

  #show() {
    this.caption.textContent = t("versions.of", { model: this.#model });
    this.rows.replaceChildren(...this.#versions.map((version) => this.#row(version)));
    this.alone.hidden = this.#versions.length > 1;
    this.alone.replaceChildren(t("versions.alone"), " ", h("a", { href: `#/train/${encodeURIComponent(this.#model)}` }, t("shell.train")));
  }

  #row(one) {
    const { test = {} } = one.metrics;
    const cells = {
      aliases: one.aliases.map((alias) => h("span", { class: `badge ${alias === "production" ? "live" : ""}` }, alias)),
      accuracy: metricValue("accuracy", test.accuracy),
      loss: metricValue("loss", test.loss),
      created: moment(one.created_at),
      parent: one.parent ?? "–",
      job: one.job === null ? "–" : h("a", { href: `#/jobs/${one.job}` }, `#${one.job}`),
      sha256: hash(one.sha256),
    };
    return h(
      "tr",
      { class: one.aliases.includes("production") ? "serves" : "" },
      h("th", { scope: "row", class: "figure" }, String(one.version)),
      Object.entries(cells).map(([name, content]) => h("td", { class: classes(name) }, content)),
      h("td", { class: "actions" }, this.#actions(one)),
    );
  }

  #actions(one) {
    const { version } = one;
    const production = behind(this.#versions, "production");
    const isBack = version === behind(this.#versions, "previous");
    const details = h("button", { class: "button slim", type: "button", "aria-label": t("versions.detailsOf", { version }) }, t("versions.details"));
    details.addEventListener("click", guarded(() => showDetails(one.model, version)));
    const shown = [details];
    if (version !== production) {
      const key = isBack ? "back" : "promote";
      const button = h("button", { class: "button slim", type: "button", "aria-label": t(`promotion.${key}`, { version }) }, t(`promotion.${key}Short`));
      button.addEventListener("click", guarded(() => this.#promote(button, version)));
      shown.push(button);
      if (inThePlane().some(({ name }) => name === one.model)) {
        const path = [one.model, production, version].filter(Boolean).map(encodeURIComponent).join("/");
        shown.push(h("a", { class: "button slim", href: `#/plane/${path}` }, t("versions.beside")));
      }
    }
    return h("div", { class: "row" }, shown);
  }

  /** The row is built anew by then, so the focus goes to what stands there now. */
  async #promote(button, version) {
    button.disabled = true;
    try {
      await promote(this.#model, version);
      await this.show(this.#model);
    } finally {
      button.disabled = false;
    }
    const at = this.#versions.findIndex((one) => one.version === version);
    this.rows.children[at]?.querySelector("button")?.focus();
  }
}

const classes = (name) => [NUMBERS.includes(name) && "number", LESSER.includes(name) && "lesser"].filter(Boolean).join(" ") || null;

/** The beginning of a hash; the whole of it in the title, and to be copied. */
function hash(sha256) {
  const copy = async () => {
    await navigator.clipboard.writeText(sha256);
    tell(t("requests.copied"));
  };
  const button = h("button", { class: "button slim plain", type: "button", on: { click: guarded(copy) } }, h("span", { class: "mono" }, sha256.slice(0, 8)), icon(COPY));
  button.title = sha256;
  button.setAttribute("aria-label", t("versions.copyHash", { sha256: sha256.slice(0, 8) }));
  return button;
}

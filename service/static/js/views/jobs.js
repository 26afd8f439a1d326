/** The view of all jobs. */

import { go } from "../core/address.js";
import { get } from "../core/api.js";
import { field, h, select, setOptions } from "../core/dom.js";
import { metricValue } from "../core/figures.js";
import { dateTime, duration, onLanguage, percent, t } from "../core/language.js";
import { allModels, onModels } from "../core/models.js";
import { guarded, showError } from "../core/notices.js";
import { oneAtATime } from "../core/timing.js";
import { JobPanel } from "../parts/job_panel.js";
import { hasEnded, showBadge } from "../parts/status.js";

const PAGE_SIZE = 20;
const MAX_PAGE_SIZE = 200;
const REFRESH_MS = 2000;
const STATUSES = ["queued", "running", "cancelling", "succeeded", "failed", "cancelled"];
const COLUMNS = ["job", "kind", "model", "status", "accuracy", "runtime", "created"];
const NUMBERS = ["accuracy", "runtime"];
const WIDE_ONLY = ["kind", "runtime", "created"]; // columns without room on a phone

export function build() {
  return new JobsView();
}

class JobsView {
  #jobs = [];
  #rows = new Map(); // id -> Row; kept at a refresh, so that its link keeps the focus
  #after = null; // where the next page starts
  #isShown = false;
  #timer = 0;
  #loads = 0; // counts calls of #load(), to ignore late responses

  constructor() {
    this.model = select(
      [],
      "",
      guarded(() => this.#load()),
    );
    this.status = select(
      [],
      "",
      guarded(() => this.#load()),
    );
    this.panel = new JobPanel(
      guarded(() => this.#refresh()),
      "#/jobs",
    );
    this.body = h("tbody");
    this.table = this.#table();
    this.empty = h("p", { class: "muted", hidden: true });
    this.older = h("button", {
      class: "button",
      type: "button",
      t: "jobs.older",
      hidden: true,
      on: { click: guarded(() => oneAtATime(this.older, () => this.#loadOlder())) },
    });
    this.list = h(
      "section",
      { class: "panel stack", label: "jobs.title", tabindex: -1 },
      this.table,
      this.empty,
      this.older,
    );
    this.element = h(
      "div",
      { class: "stack" },
      h("div", { class: "lead" }, h("h1", { t: "jobs.title" }), h("p", { t: "jobs.lead" })),
      this.panel.element,
      h(
        "div",
        { class: "row filters" },
        field("jobs.model", this.model),
        field("jobs.status", this.status),
      ),
      this.list,
    );
    this.#showOptions();
    onModels(() => this.#showOptions());
    onLanguage(() => {
      this.#showOptions();
      this.#show();
    });
    document.addEventListener("visibilitychange", () => this.#refreshLater(0));
  }

  /** Show the list, and above it the job that the address names. */
  async show(job) {
    const before = this.panel.job;
    this.#isShown = true;
    if (!job) this.panel.close();
    const list = this.#jobs.length ? this.#refresh() : this.#load();
    if (job && Number(job) === before) this.panel.resume();
    else if (job) await this.#openPanel(job);
    await list;
    if (!job && before) (this.#rows.get(before)?.row.querySelector("a") ?? this.list).focus();
  }

  hide() {
    this.#isShown = false;
    clearTimeout(this.#timer);
    this.panel.pause();
  }

  async #openPanel(job) {
    try {
      await this.panel.open(job);
      this.panel.focus();
      this.panel.element.scrollIntoView({ block: "nearest" });
    } catch (error) {
      showError(error);
    }
  }

  #table() {
    const heads = COLUMNS.map((name) =>
      h("th", { scope: "col", class: classes(name), t: `jobs.${name}` }),
    );
    return h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "listed" },
        h("caption", { class: "visually-hidden", t: "jobs.title" }),
        h("thead", {}, h("tr", {}, heads)),
        this.body,
      ),
    );
  }

  #showOptions() {
    setOptions(this.model, [
      ["", t("jobs.anyModel")],
      ...allModels().map(({ name }) => [name, name]),
    ]);
    setOptions(this.status, [
      ["", t("jobs.anyStatus")],
      ...STATUSES.map((status) => [status, t(`status.${status}`)]),
    ]);
  }

  #fetch(page, options) {
    const parameters = { model: this.model.value, status: this.status.value, ...page };
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
    return get(`jobs?${query}`, options);
  }

  async #load() {
    const load = ++this.#loads;
    const { jobs, after } = await this.#fetch({ limit: PAGE_SIZE });
    if (load !== this.#loads) return;
    this.#jobs = jobs;
    this.#after = after;
    this.#show();
    this.#refreshLater();
  }

  async #loadOlder() {
    const load = this.#loads;
    const { jobs, after } = await this.#fetch({ limit: PAGE_SIZE, after: this.#after });
    if (load !== this.#loads) return;
    const first = jobs[0]?.id;
    this.#jobs = [...this.#jobs, ...jobs];
    this.#after = after;
    this.#show();
    this.#rows.get(first)?.row.querySelector("a").focus();
  }

  #refreshLater(ms = REFRESH_MS) {
    clearTimeout(this.#timer);
    if (!this.#isShown || document.hidden || this.#jobs.every(hasEnded)) return;
    this.#timer = setTimeout(() => this.#refresh().catch(() => this.#refreshLater()), ms);
  }

  /** Load again the jobs down to the oldest unfinished one. */
  async #refresh() {
    const load = this.#loads;
    const unfinished = this.#jobs.findLastIndex((job) => !hasEnded(job)) + 1;
    const { jobs, after } = await this.#fetch(
      { limit: Math.min(Math.max(PAGE_SIZE, unfinished), MAX_PAGE_SIZE) },
      { quiet: true },
    );
    if (load !== this.#loads) return;
    const oldest = jobs.at(-1)?.id ?? 0;
    const isGap = oldest > (this.#jobs[0]?.id ?? 0); // too many new jobs to be adjacent
    const older = after === null || isGap ? [] : this.#jobs.filter(({ id }) => id < oldest);
    if (!older.length) this.#after = after;
    this.#jobs = [...jobs, ...older];
    this.#show();
    this.#refreshLater();
  }

  #show() {
    const removed = new Set(this.#rows.keys());
    this.#jobs.forEach((job, at) => {
      removed.delete(job.id);
      if (!this.#rows.has(job.id)) this.#rows.set(job.id, new Row(job));
      const one = this.#rows.get(job.id);
      one.show(job, job.id === this.panel.job);
      if (this.body.children[at] !== one.row)
        this.body.insertBefore(one.row, this.body.children[at] ?? null);
    });
    for (const id of removed) {
      this.#rows.get(id).row.remove();
      this.#rows.delete(id);
    }
    this.older.hidden = this.#after === null;
    this.table.hidden = !this.#jobs.length;
    this.empty.hidden = !!this.#jobs.length;
    const isFiltered = this.model.value || this.status.value;
    this.empty.replaceChildren(
      ...(isFiltered
        ? [t("jobs.noMatch")]
        : [t("jobs.none"), " ", h("a", { href: "#/train" }, t("shell.train"))]),
    );
  }
}

class Row {
  constructor({ id }) {
    this.link = h("a", { href: `#/jobs/${id}` }, `#${id}`);
    this.status = h("span", { class: "badge" });
    this.promotion = h("span", { class: "badge" });
    this.progress = h("span", { class: "muted small figure" });
    this.cells = new Map(COLUMNS.slice(1).map((name) => [name, h("td", { class: classes(name) })]));
    this.cells
      .get("status")
      .append(h("div", { class: "badges" }, this.status, this.promotion, this.progress));
    this.row = h("tr", {}, h("th", { scope: "row", class: "figure" }, this.link), [
      ...this.cells.values(),
    ]);
    // A click anywhere in the row does what its link does.
    this.row.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !getSelection().toString()) go("jobs", id);
    });
  }

  show(job, isOpen) {
    const { progress } = job;
    this.row.classList.toggle("open", isOpen);
    if (isOpen) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
    showBadge(this.status, job.status);
    showBadge(this.promotion, job.promotion);
    this.progress.textContent =
      progress && !hasEnded(job) ? percent(progress.epoch / progress.epochs, 0) : "";
    const texts = {
      kind: t(`job.kind.${job.kind}`),
      model: job.model,
      accuracy: metricValue("accuracy", progress?.test_accuracy),
      runtime: job.runtime_s ? duration(job.runtime_s) : "–",
      created: dateTime(job.created_at),
    };
    for (const [name, text] of Object.entries(texts)) this.cells.get(name).textContent = text;
  }
}

const classes = (name) =>
  [NUMBERS.includes(name) && "number", WIDE_ONLY.includes(name) && "wide-only"]
    .filter(Boolean)
    .join(" ") || null;

/** The jobs: what runs, what waits, and what became of the rest. */

import { get } from "../core/api.js";
import { choice, field, h, offer } from "../core/dom.js";
import { metricValue } from "../core/figures.js";
import { JobPanel } from "../parts/job_panel.js";
import { duration, moment, onLanguage, percent, t } from "../core/language.js";
import { all, onModels } from "../core/models.js";
import { complain, guarded } from "../core/notices.js";
import { once } from "../core/once.js";
import { go } from "../router.js";
import { isOver, showBadge } from "../parts/status.js";

const PAGE = 20;
const MOST = 200; // of one request
const EVERY_MS = 2000;
const STATUSES = ["queued", "running", "cancelling", "succeeded", "failed", "cancelled"];
const COLUMNS = ["job", "kind", "model", "status", "accuracy", "runtime", "created"];
const NUMBERS = ["accuracy", "runtime"];
const LESSER = ["kind", "runtime", "created"]; // which a phone leaves to the job's own panel

export function build() {
  return new JobsView();
}

class JobsView {
  #jobs = [];
  #rows = new Map(); // id -> a row, which stays while its job goes on: a link in it may have the focus
  #after = null; // asks for older ones
  #isShown = false;
  #timer = 0;
  #round = 0; // of what was asked for, the newest counts

  constructor() {
    this.model = choice(
      [],
      "",
      guarded(() => this.#load()),
    );
    this.status = choice(
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
      on: { click: guarded(() => once(this.older, () => this.#loadOlder())) },
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
        { class: "row chosen" },
        field("jobs.model", this.model),
        field("jobs.status", this.status),
      ),
      this.list,
    );
    this.#offer();
    onModels(() => this.#offer());
    onLanguage(() => {
      this.#offer();
      this.#show();
    });
    document.addEventListener("visibilitychange", () => this.#refreshLater(0));
  }

  /** Show the list, and a job above it where one is named. */
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
      complain(error);
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
        h("caption", { class: "unseen", t: "jobs.title" }),
        h("thead", {}, h("tr", {}, heads)),
        this.body,
      ),
    );
  }

  #offer() {
    offer(this.model, [["", t("jobs.anyModel")], ...all().map(({ name }) => [name, name])]);
    offer(this.status, [
      ["", t("jobs.anyStatus")],
      ...STATUSES.map((status) => [status, t(`status.${status}`)]),
    ]);
  }

  #ask(more, options) {
    const given = { model: this.model.value, status: this.status.value, ...more };
    const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
    return get(`jobs?${query}`, options);
  }

  async #load() {
    const round = ++this.#round;
    const { jobs, after } = await this.#ask({ limit: PAGE });
    if (round !== this.#round) return;
    this.#jobs = jobs;
    this.#after = after;
    this.#show();
    this.#refreshLater();
  }

  async #loadOlder() {
    const round = this.#round;
    const { jobs, after } = await this.#ask({ limit: PAGE, after: this.#after });
    if (round !== this.#round) return;
    const first = jobs[0]?.id;
    this.#jobs = [...this.#jobs, ...jobs];
    this.#after = after;
    this.#show();
    this.#rows.get(first)?.row.querySelector("a").focus();
  }

  #refreshLater(ms = EVERY_MS) {
    clearTimeout(this.#timer);
    if (!this.#isShown || document.hidden || this.#jobs.every(isOver)) return;
    this.#timer = setTimeout(() => this.#refresh().catch(() => this.#refreshLater()), ms);
  }

  /** Ask again for as many as reach down to the oldest that goes on. */
  async #refresh() {
    const round = this.#round;
    const goesOn = this.#jobs.findLastIndex((job) => !isOver(job)) + 1;
    const { jobs, after } = await this.#ask(
      { limit: Math.min(Math.max(PAGE, goesOn), MOST) },
      { quiet: true },
    );
    if (round !== this.#round) return;
    const oldest = jobs.at(-1)?.id ?? 0;
    const isGap = oldest > (this.#jobs[0]?.id ?? 0); // so many new ones that those here do not follow
    const older = after === null || isGap ? [] : this.#jobs.filter(({ id }) => id < oldest);
    if (!older.length) this.#after = after;
    this.#jobs = [...jobs, ...older];
    this.#show();
    this.#refreshLater();
  }

  #show() {
    const gone = new Set(this.#rows.keys());
    this.#jobs.forEach((job, at) => {
      gone.delete(job.id);
      if (!this.#rows.has(job.id)) this.#rows.set(job.id, new Row(job));
      const one = this.#rows.get(job.id);
      one.show(job, job.id === this.panel.job);
      if (this.body.children[at] !== one.row)
        this.body.insertBefore(one.row, this.body.children[at] ?? null);
    });
    for (const id of gone) {
      this.#rows.get(id).row.remove();
      this.#rows.delete(id);
    }
    this.older.hidden = this.#after === null;
    this.table.hidden = !this.#jobs.length;
    this.empty.hidden = !!this.#jobs.length;
    const isFiltered = this.model.value || this.status.value;
    this.empty.replaceChildren(
      ...(isFiltered
        ? [t("jobs.noneSuch")]
        : [t("jobs.none"), " ", h("a", { href: "#/train" }, t("shell.train"))]),
    );
  }
}

class Row {
  constructor({ id }) {
    this.link = h("a", { href: `#/jobs/${id}` }, `#${id}`);
    this.status = h("span", { class: "badge" });
    this.promotion = h("span", { class: "badge" });
    this.share = h("span", { class: "muted small figure" }); // of the epochs, while it runs
    this.cells = new Map(COLUMNS.slice(1).map((name) => [name, h("td", { class: classes(name) })]));
    this.cells
      .get("status")
      .append(h("div", { class: "badges" }, this.status, this.promotion, this.share));
    this.row = h("tr", {}, h("th", { scope: "row", class: "figure" }, this.link), [
      ...this.cells.values(),
    ]);
    // A row is a large target for what its link does.
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
    this.share.textContent =
      progress && !isOver(job) ? percent(progress.epoch / progress.epochs, 0) : "";
    const texts = {
      kind: t(`job.kind.${job.kind}`),
      model: job.model,
      accuracy: metricValue("accuracy", progress?.test_accuracy),
      runtime: job.runtime_s ? duration(job.runtime_s) : "–",
      created: moment(job.created_at),
    };
    for (const [name, text] of Object.entries(texts)) this.cells.get(name).textContent = text;
  }
}

const classes = (name) =>
  [NUMBERS.includes(name) && "number", LESSER.includes(name) && "lesser"]
    .filter(Boolean)
    .join(" ") || null;

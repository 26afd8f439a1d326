/** One job: its progress, its figures while it trains, and its outcome. */

import { get, post } from "../core/api.js";
import { announce, h, icon } from "../core/dom.js";
import { jobEvents } from "../core/job_events.js";
import { dateTime, onLanguage, t, translate } from "../core/language.js";
import { refresh } from "../core/models.js";
import { guarded, showError } from "../core/notices.js";
import { oneAtATime } from "../core/timing.js";
import { JobActions } from "./job_actions.js";
import { JobProgress } from "./job_progress.js";
import { hasEnded, showBadge } from "./status.js";
import { TrainingFigures } from "./training_figures.js";
import { verdict, verdictCard } from "./verdict.js";

const NO_WORKER_AFTER_MS = 3000;
const MAX_LOG_LINES = 200;
const CROSS = "M6 6l12 12M18 6L6 18";
const REPLAY = "M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4";
const FIGURE_EVENTS = ["epoch", "plane", "boundary"];

let count = 0;

export class JobPanel {
  #job = null;
  #opened = 0; // counts calls of open() and close(), to ignore late responses
  #log = [];
  #lastEvent = 0;
  #stream = null; // the AbortController of the stream of events
  #timer = 0;
  #hasNoWorker = false;
  #isLost = false;
  #figures = new TrainingFigures((event) => this.#handle(event));
  #progress = new JobProgress();
  #actions = new JobActions(() => {
    (this.#actions.element.querySelector("button") ?? this.title).focus();
    this.changed();
  });

  /**
   * `changed` is called after the job ends and after a promotion. A panel that can be closed has
   * the address `closeAddress` to go to.
   */
  constructor(changed, closeAddress = null) {
    this.changed = changed;
    this.#build(closeAddress);
    onLanguage(() => this.#job && this.#showAll());
  }

  get job() {
    return this.#job?.id;
  }

  /** Show a job, and follow it until it ends. */
  async open(id, { quiet = false } = {}) {
    this.close();
    const opened = ++this.#opened;
    const job = await get(`jobs/${id}`, { quiet });
    if (opened !== this.#opened) return;
    this.#job = job;
    this.#log = job.log;
    this.#figures.begin(job);
    this.element.hidden = false;
    this.#showAll();
    if (hasEnded(job)) await this.#actions.show(job);
    this.resume();
  }

  /** Stop following the job, as while the panel is not shown. */
  pause() {
    this.#stream?.abort();
    this.#stream = null;
    clearTimeout(this.#timer);
  }

  /** Follow the job again, from the last event. */
  resume() {
    if (!this.#job || this.#stream) return;
    this.#waitForWorker();
    this.#follow(this.#job.id, new AbortController());
  }

  close() {
    this.pause();
    this.#opened++;
    this.#figures.stop();
    this.#actions.show(null);
    this.element.hidden = true;
    this.#job = null;
    this.#log = [];
    this.#lastEvent = 0;
    this.#hasNoWorker = this.#isLost = false;
  }

  focus() {
    this.title.focus();
  }

  #build(closeAddress) {
    const id = `job-${++count}`;
    this.title = h("h2", { id, tabindex: -1 });
    this.badge = h("span", { class: "badge" });
    this.facts = h("p", { class: "muted small" });
    this.cancel = h("button", {
      class: "button danger slim",
      type: "button",
      t: "job.cancel",
      on: { click: guarded(() => oneAtATime(this.cancel, () => this.#cancel())) },
    });
    this.replay = h(
      "button",
      { class: "button slim", type: "button", on: { click: () => this.#figures.replay() } },
      icon(REPLAY),
      h("span", { t: "job.replay" }),
    );
    this.notice = h("p", { class: "callout small", hidden: true });
    this.verdict = h("div");
    this.log = h("pre", {
      class: "log",
      tabindex: 0,
      role: "region",
      label: "job.log",
      hidden: true,
    });
    this.element = h(
      "section",
      { class: "panel stack job", "aria-labelledby": id, hidden: true },
      h(
        "div",
        { class: "job-head" },
        h("div", { class: "row" }, this.title, this.badge),
        h(
          "div",
          { class: "row" },
          this.replay,
          this.cancel,
          closeAddress &&
            h("a", { class: "tool", href: closeAddress, label: "jobs.close" }, icon(CROSS)),
        ),
      ),
      this.facts,
      this.#progress.element,
      this.notice,
      this.verdict,
      this.#figures.element,
      this.log,
    );
  }

  async #follow(id, stream) {
    this.#stream = stream;
    try {
      for await (const event of jobEvents(id, { after: this.#lastEvent, signal: stream.signal })) {
        if (stream !== this.#stream) return;
        this.#receive(event);
      }
      if (stream === this.#stream && !hasEnded(this.#job)) this.#figures.add({ kind: "end" });
    } catch (error) {
      showError(error);
    }
  }

  #receive(event) {
    this.#setLost(event.kind === "lost");
    if (event.kind === "lost") return;
    this.#lastEvent = event.id;
    if (FIGURE_EVENTS.includes(event.kind) || !hasEnded(this.#job)) this.#figures.add(event);
  }

  #setLost(isLost) {
    if (isLost === this.#isLost) return;
    this.#isLost = isLost;
    this.#showNotice();
  }

  #handle({ kind, data }) {
    if (kind === "status") this.#setStatus(data);
    else if (kind === "epoch") this.#showProgress();
    else if (kind === "log") this.#addLine(data.line);
    else if (kind === "end") guarded(() => this.#end())();
  }

  /** A status before the end; `#end` loads the whole job. */
  #setStatus({ status }) {
    if (hasEnded({ status })) return;
    const hasStarted = this.#job.status === "queued" && status === "running";
    this.#job.status = status;
    this.#waitForWorker();
    this.#showAll();
    if (hasStarted && !this.#figures.latest) announce(t("job.started", { job: this.#job.id }));
  }

  #addLine(line) {
    this.#log = [...this.#log, line].slice(-MAX_LOG_LINES);
    this.#showLog();
  }

  async #end() {
    const { id } = this.#job;
    const job = await get(`jobs/${id}`, { quiet: true });
    if (id !== this.#job?.id) return;
    this.#job = job;
    if (job.log.length) this.#log = job.log;
    this.#hasNoWorker = false;
    this.#showAll();
    announce(`${t("job.ended", { job: id })} ${verdict(job)}`);
    if (job.promotion === "promoted") await refresh();
    await this.#actions.show(job);
    this.changed();
  }

  /** After a while, say that no worker has started the queued job. */
  #waitForWorker() {
    clearTimeout(this.#timer);
    if (this.#job.status !== "queued") {
      this.#hasNoWorker = false;
      return;
    }
    this.#timer = setTimeout(() => {
      this.#hasNoWorker = true;
      this.#showNotice();
    }, NO_WORKER_AFTER_MS);
  }

  async #cancel() {
    const { status } = await post(`jobs/${this.#job.id}/cancel`, undefined, { admin: true });
    if (!hasEnded(this.#job) && !hasEnded({ status })) this.#job.status = status;
    this.#showAll();
    this.focus(); // the button is hidden now
  }

  #showAll() {
    const { id, model, status, curve } = this.#job;
    const isOver = hasEnded(this.#job);
    translate(this.title, "text", "job.title", { job: id, model });
    showBadge(this.badge, status);
    this.facts.textContent = facts(this.#job);
    this.cancel.hidden = status === "cancelling" || isOver;
    this.replay.hidden = !isOver || !curve.length;
    this.#figures.redraw();
    this.#showProgress();
    this.#showNotice();
    this.#showLog();
    this.verdict.hidden = !isOver;
    if (isOver) this.verdict.replaceChildren(verdictCard(this.#job, this.#actions.element));
  }

  #showProgress() {
    this.#progress.show(this.#job, this.#figures.latest, this.#figures.epochs);
  }

  #showNotice() {
    const key = this.#isLost ? "job.lost" : this.#hasNoWorker ? "job.noWorker" : null;
    this.notice.hidden = !key;
    if (key) translate(this.notice, "text", key);
  }

  #showLog() {
    this.log.hidden = !this.#log.length || this.#job.status === "succeeded";
    this.log.textContent = this.#log.join("\n");
  }
}

/** What was requested, in one line. */
function facts({ kind, plan, request, created_at: created }) {
  const texts = [t(`job.kind.${kind}`)];
  if (plan.recipe) texts.push(t("job.recipe", { recipe: plan.recipe }));
  const dataset = plan.dataset ?? request.dataset;
  if (dataset) texts.push(dataset);
  if (kind === "train")
    texts.push(plan.start_from ? t("job.from", { version: plan.start_from }) : t("job.scratch"));
  for (const [name, value] of Object.entries(request.config ?? {})) texts.push(`${name} ${value}`);
  if (request.include_feedback) texts.push(t("job.feedback"));
  texts.push(dateTime(created));
  return texts.join(" · ");
}

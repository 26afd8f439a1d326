/** One job: how far it is, what moves while it learns, and what became of it. */

import { get, post } from "../core/api.js";
import { h, icon, speak } from "../core/dom.js";
import { follow } from "../core/events.js";
import { duration, moment, number, onLanguage, t, translated } from "../core/language.js";
import { Learning } from "./training_figures.js";
import { inThePlane, refresh, versionsOf } from "../core/models.js";
import { complain, guarded } from "../core/notices.js";
import { once } from "../core/once.js";
import { behind, beside, promote, wayTo } from "./promotion.js";
import { isOver, showBadge } from "./status.js";
import { sentence, verdictCard } from "./verdict.js";

const UNTAKEN_AFTER_MS = 3000;
const LOG_LINES = 200;
const CROSS = "M6 6l12 12M18 6L6 18";
const AGAIN = "M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4";
const MOVING = ["epoch", "plane", "boundary"];

let made = 0;

export class JobPanel {
  #job = null;
  #round = 0; // of what was opened, the newest counts
  #log = [];
  #last = 0; // the number of the newest event
  #stream = null; // what ends the stream of events
  #waiting = 0;
  #isUntaken = false;
  #isLost = false;
  #versions = []; // of its model, once it is over
  #learning = new Learning((event) => this.#happen(event));

  /**
   * `changed` is called when a job has ended that was not over when it was opened, and after a
   * promotion; `shut` is the address at which the panel is closed, where there is one.
   */
  constructor(changed, shut = null) {
    this.changed = changed;
    this.#build(shut);
    onLanguage(() => this.#job && this.#showAll());
  }

  get job() {
    return this.#job?.id;
  }

  /** Show a job, and follow it until it has ended. */
  async open(id, { quiet = false } = {}) {
    this.close();
    const round = ++this.#round;
    const job = await get(`jobs/${id}`, { quiet });
    if (round !== this.#round) return;
    this.#job = job;
    this.#log = job.log;
    this.#learning.begin(job);
    this.element.hidden = false;
    this.#showAll();
    if (isOver(job)) await this.#lookForVersions();
    this.resume();
  }

  /** Stop listening, as while the panel is not shown. */
  pause() {
    this.#stream?.abort();
    this.#stream = null;
    clearTimeout(this.#waiting);
  }

  /** Listen again, from where it was left. */
  resume() {
    if (!this.#job || this.#stream) return;
    this.#waitForWorker();
    this.#follow(this.#job.id, new AbortController());
  }

  /** Forget the job. */
  close() {
    this.pause();
    this.#round++;
    this.#learning.stop();
    this.element.hidden = true;
    this.#job = null;
    this.#log = [];
    this.#last = 0;
    this.#isUntaken = this.#isLost = false;
    this.#versions = [];
  }

  focus() {
    this.title.focus();
  }

  #build(shut) {
    const id = `job-${++made}`;
    this.title = h("h2", { id, tabindex: -1 });
    this.badge = h("span", { class: "badge" });
    this.facts = h("p", { class: "muted small" });
    this.cancel = h("button", {
      class: "button danger slim",
      type: "button",
      t: "job.cancel",
      on: { click: guarded(() => once(this.cancel, () => this.#cancel())) },
    });
    this.again = h(
      "button",
      { class: "button slim", type: "button", on: { click: () => this.#learning.replay() } },
      icon(AGAIN),
      h("span", { t: "job.again" }),
    );
    this.fill = h("i");
    this.bar = h(
      "div",
      {
        class: "track progress",
        role: "progressbar",
        label: "job.progress",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
      },
      this.fill,
    );
    this.stage = h("p", { class: "small figure" });
    this.notice = h("p", { class: "callout small", hidden: true });
    this.verdict = h("div");
    this.actions = h("div", { class: "row" });
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
        h("div", { class: "row" }, this.again, this.cancel, shut && closing(shut)),
      ),
      this.facts,
      h("div", { class: "stack tight" }, this.bar, this.stage),
      this.notice,
      this.verdict,
      this.#learning.element,
      this.log,
    );
  }

  async #follow(id, stream) {
    this.#stream = stream;
    try {
      for await (const event of follow(id, { after: this.#last, signal: stream.signal })) {
        if (stream !== this.#stream) return;
        this.#hear(event);
      }
      if (stream === this.#stream && !isOver(this.#job)) this.#learning.hear({ kind: "end" });
    } catch (error) {
      complain(error);
    }
  }

  #hear(event) {
    this.#lose(event.kind === "lost");
    if (event.kind === "lost") return;
    this.#last = event.id;
    if (MOVING.includes(event.kind) || !isOver(this.#job)) this.#learning.hear(event);
  }

  #lose(isLost) {
    if (isLost === this.#isLost) return;
    this.#isLost = isLost;
    this.#showNotice();
  }

  #happen({ kind, data }) {
    if (kind === "status") this.#become(data);
    else if (kind === "epoch") this.#showProgress();
    else if (kind === "log") this.#write(data.line);
    else if (kind === "end") guarded(() => this.#end())();
  }

  /** The end itself is told by `#end`, which knows all of the job. */
  #become({ status }) {
    if (isOver({ status })) return;
    const began = this.#job.status === "queued" && status === "running";
    this.#job.status = status;
    this.#waitForWorker();
    this.#showAll();
    if (began && !this.#learning.latest) speak(t("job.started", { job: this.#job.id }));
  }

  #write(line) {
    this.#log = [...this.#log, line].slice(-LOG_LINES);
    this.#showLog();
  }

  async #end() {
    const { id } = this.#job;
    const job = await get(`jobs/${id}`, { quiet: true });
    if (id !== this.#job?.id) return; // another one was opened
    this.#job = job;
    if (job.log.length) this.#log = job.log;
    this.#isUntaken = false;
    this.#showAll();
    speak(`${t("job.ended", { job: id })} ${sentence(job)}`);
    if (job.promotion === "promoted") await refresh();
    await this.#lookForVersions();
    this.changed();
  }

  /** Who serves now decides what can be done with what the job made. */
  async #lookForVersions() {
    const { id, model, version } = this.#job;
    if (!version) return;
    const versions = await versionsOf(model);
    if (id !== this.#job?.id) return;
    this.#versions = versions;
    this.#showActions();
  }

  /** A queued job that nobody takes says so after a while. */
  #waitForWorker() {
    clearTimeout(this.#waiting);
    if (this.#job.status !== "queued") {
      this.#isUntaken = false;
      return;
    }
    this.#waiting = setTimeout(() => {
      this.#isUntaken = true;
      this.#showNotice();
    }, UNTAKEN_AFTER_MS);
  }

  async #cancel() {
    const { status } = await post(`jobs/${this.#job.id}/cancel`, undefined, { admin: true });
    if (!isOver(this.#job) && !isOver({ status })) this.#job.status = status;
    this.#showAll();
    this.focus(); // the button has nothing left to do
  }

  #showAll() {
    const { id, model, status, curve } = this.#job;
    translated(this.title, "text", "job.title", { job: id, model });
    showBadge(this.badge, status);
    this.facts.textContent = facts(this.#job);
    this.cancel.hidden = status === "cancelling" || isOver(this.#job);
    this.again.hidden = !isOver(this.#job) || !curve.length;
    this.#learning.redraw();
    this.#showProgress();
    this.#showNotice();
    this.#showLog();
    this.verdict.hidden = !isOver(this.#job);
    if (isOver(this.#job)) this.verdict.replaceChildren(verdictCard(this.#job, this.actions));
    this.#showActions();
  }

  #showProgress() {
    const { status, runtime_s } = this.#job;
    const over = isOver(this.#job);
    const { latest, epochs } = this.#learning;
    const share = latest ? latest.epoch / epochs : 0;
    const isBusy = status === "running" && (share === 0 || share === 1); // with what counts no epochs
    this.bar.hidden = over || status === "queued";
    this.bar.classList.toggle("busy", isBusy);
    if (isBusy) this.bar.removeAttribute("aria-valuenow");
    else this.bar.setAttribute("aria-valuenow", Math.round(100 * share));
    this.fill.style.transform = `scaleX(${isBusy ? 1 : share})`;
    this.stage.hidden = over && runtime_s < 0.05; // it never ran
    this.stage.textContent = over
      ? t("job.took", { time: duration(runtime_s) })
      : this.#stageWords(latest, isBusy);
    this.bar.setAttribute("aria-valuetext", this.stage.textContent);
  }

  #stageWords(latest, isBusy) {
    if (this.#job.status === "queued") return t("job.queued");
    if (this.#job.status === "cancelling") return t("job.stopping");
    if (isBusy) return t(latest ? "job.finishing" : "job.starting");
    const { epoch, seconds_left: left } = latest;
    return t("job.epoch", {
      epoch: number(epoch),
      epochs: number(this.#learning.epochs),
      time: duration(left),
    });
  }

  #showNotice() {
    const key = this.#isLost ? "job.lost" : this.#isUntaken ? "job.untaken" : null;
    this.notice.hidden = !key;
    if (key) translated(this.notice, "text", key);
  }

  #showLog() {
    this.log.hidden = !this.#log.length || this.#job.status === "succeeded";
    this.log.textContent = this.#log.join("\n");
  }

  #showActions() {
    const { model, version } = this.#job;
    const production = behind(this.#versions, "production");
    const previous = behind(this.#versions, "previous");
    const made = this.#versions.some((one) => one.version === version);
    const buttons = [];
    if (made && version !== production)
      buttons.push(this.#button(wayTo(version, production), version));
    else if (made && previous) buttons.push(this.#button(wayTo(previous, production), previous));
    if (made && version !== production && inThePlane().some(({ name }) => name === model)) {
      buttons.push(
        h("a", { class: "button", href: beside(model, production, version), t: "versions.beside" }),
      );
    }
    if (made)
      buttons.push(
        h("a", {
          class: "button",
          href: `#/versions/${encodeURIComponent(model)}`,
          t: "versions.all",
        }),
      );
    this.actions.replaceChildren(...buttons);
    this.actions.hidden = !buttons.length;
  }

  #button(what, version) {
    const button = h("button", {
      class: `button ${this.#job.promotion === "skipped" ? "main" : ""}`,
      type: "button",
      t: [`promotion.${what}`, { version }],
    });
    button.addEventListener(
      "click",
      guarded(async () => {
        await once(button, () => promote(this.#job.model, version));
        await this.#lookForVersions();
        (this.actions.querySelector("button") ?? this.title).focus();
        this.changed();
      }),
    );
    return button;
  }
}

const closing = (href) => h("a", { class: "tool", href, label: "jobs.shut" }, icon(CROSS));

/** What was asked for, in a line. */
function facts({ kind, plan, request, created_at: created }) {
  const said = [t(`job.kind.${kind}`)];
  if (plan.recipe) said.push(t("job.recipe", { recipe: plan.recipe }));
  const dataset = plan.dataset ?? request.dataset;
  if (dataset) said.push(dataset);
  if (kind === "train")
    said.push(plan.start_from ? t("job.from", { version: plan.start_from }) : t("job.scratch"));
  for (const [name, value] of Object.entries(request.config ?? {})) said.push(`${name} ${value}`);
  if (request.include_feedback) said.push(t("job.feedback"));
  said.push(moment(created));
  return said.join(" · ");
}

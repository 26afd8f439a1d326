/** How far a job is: a bar, and a line of text. */

import { h } from "../core/dom.js";
import { duration, number, t } from "../core/language.js";
import { hasEnded } from "./status.js";

const MIN_RUNTIME_S = 0.05; // of a job that has run

export class JobProgress {
  constructor() {
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
    this.text = h("p", { class: "small figure" });
    this.element = h("div", { class: "stack tight" }, this.bar, this.text);
  }

  /** `latest` is the newest point of the curves; undefined before the first. */
  show(job, latest, epochs) {
    const { status, runtime_s } = job;
    const isOver = hasEnded(job);
    const share = latest ? latest.epoch / epochs : 0;
    // Before the first epoch and after the last, the share of the work is not known.
    const isBusy = status === "running" && (share === 0 || share === 1);
    this.bar.hidden = isOver || status === "queued";
    this.bar.classList.toggle("busy", isBusy);
    if (isBusy) this.bar.removeAttribute("aria-valuenow");
    else this.bar.setAttribute("aria-valuenow", Math.round(100 * share));
    this.fill.style.transform = `scaleX(${isBusy ? 1 : share})`;
    this.text.hidden = isOver && runtime_s < MIN_RUNTIME_S;
    this.text.textContent = isOver
      ? t("job.took", { time: duration(runtime_s) })
      : stage(status, latest, epochs, isBusy);
    this.bar.setAttribute("aria-valuetext", this.text.textContent);
  }
}

function stage(status, latest, epochs, isBusy) {
  if (status === "queued") return t("job.queued");
  if (status === "cancelling") return t("job.stopping");
  if (isBusy) return t(latest ? "job.finishing" : "job.starting");
  return t("job.epoch", {
    epoch: number(latest.epoch),
    epochs: number(epochs),
    time: duration(latest.seconds_left),
  });
}

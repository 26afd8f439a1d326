/** The outcome of a job: the gate's verdict with its metrics, or why there is none. */

import { h } from "../core/dom.js";
import { metricName, metricValue } from "../core/figures.js";
import { number, t } from "../core/language.js";

const CLASSES = { promoted: "good", refused: "warn", skipped: "", failed: "bad", cancelled: "" };

/** The outcome in one sentence. */
export function verdict(job) {
  return t(`verdict.${outcome(job)}`, { version: job.version, job: job.id });
}

/** A card with the outcome; `actions` is an element with buttons. */
export function verdictCard(job, actions) {
  return h(
    "section",
    { class: `verdict ${CLASSES[outcome(job)] ?? ""}`, "aria-label": t("verdict.title") },
    h(
      "div",
      { class: "stack" },
      h("h3", {}, verdict(job)),
      job.gate ? figures(job.version, job.gate) : null,
      job.reason && needsReason(job) ? h("p", { class: "small", lang: "en" }, job.reason) : null,
    ),
    actions,
  );
}

/** Whether the service's reason, which is in English, says more than the card does. */
function needsReason({ gate, plan, promotion }) {
  if (gate) return plan.gate.min_absolute_change || plan.gate.threshold !== null;
  return !(
    (plan.gate === "always" && promotion === "promoted") ||
    (plan.gate === "never" && promotion === "skipped")
  );
}

function figures(version, gate) {
  const { metric, candidate, production, production_version: before, rows, dataset } = gate;
  return h(
    "div",
    { class: "stack tight" },
    h(
      "dl",
      { class: "figures" },
      figure(t("verdict.candidate", { version }), metricValue(metric, candidate)),
      production === null
        ? null
        : figure(t("verdict.production", { version: before }), metricValue(metric, production)),
    ),
    h(
      "p",
      { class: "muted small" },
      t("verdict.measured", { metric: metricName(metric), rows: number(rows), dataset }),
    ),
  );
}

const figure = (name, value) =>
  h("div", {}, h("dt", {}, name), h("dd", { class: "figure" }, value));

function outcome({ status, promotion, version, reproduction }) {
  if (status === "failed" || status === "cancelled") return status;
  if (reproduction) return reproduction.same ? "same" : "different";
  return promotion ?? (version ? "skipped" : "done");
}

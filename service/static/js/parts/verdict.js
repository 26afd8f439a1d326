/** What became of a job: the gate's verdict with its figures, or why there is none. */

import { metricName, metricValue } from "../core/figures.js";
import { h } from "../core/dom.js";
import { number, t } from "../core/language.js";

const KINDS = { promoted: "good", refused: "warn", skipped: "", failed: "bad", cancelled: "" };

/** In one sentence: to be read, and to be heard. */
export function sentence(job) {
  return t(`verdict.${outcome(job)}`, { version: job.version, job: job.id });
}

/** A card, with what can be done about it; built anew when the language changes. */
export function verdictCard(job, actions) {
  return h(
    "section",
    { class: `verdict ${KINDS[outcome(job)] ?? ""}`, "aria-label": t("verdict.title") },
    h(
      "div",
      { class: "stack" },
      h("h3", {}, sentence(job)),
      job.gate ? figures(job.version, job.gate) : null,
      job.reason && !isPlain(job) ? h("p", { class: "small", lang: "en" }, job.reason) : null,
    ),
    actions,
  );
}

/** Whether the card says all without the service's own reason, which is in English. */
function isPlain({ gate, plan, promotion }) {
  if (gate) return !plan.gate.min_absolute_change && plan.gate.threshold === null;
  return (
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
  if (reproduction) return reproduction.same ? "same" : "other";
  return promotion ?? (version ? "skipped" : "done");
}

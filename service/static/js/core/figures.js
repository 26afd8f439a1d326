/** Metrics in words and figures. */

import { knows, number, percent, t } from "./language.js";

const SHARES = ["accuracy", "balanced_accuracy", "f1_macro", "recall"];

/** What a metric is called; a plug-in's own by its own name. `recall:7` is one label's. */
export function metricName(metric) {
  const { kind, label } = parts(metric);
  return knows(`metric.${kind}`) ? t(`metric.${kind}`, { label }) : metric;
}

export function metricValue(metric, value) {
  if (value === null || value === undefined) return "–";
  return SHARES.includes(parts(metric).kind) ? percent(value, 2) : number(value, 4);
}

function parts(metric) {
  const [kind, ...label] = metric.split(":");
  return { kind, label: label.join(":") };
}

/** Settings in a line, as the API names them: `hidden 4, activation sigmoid`. */
export function settings(values) {
  const said = Object.entries(values).map(([name, value]) => `${name} ${plain(value)}`);
  return said.join(", ") || "–";
}

/** A value as a reader writes it: a list without brackets. */
export const plain = (value) => (Array.isArray(value) ? value.join(" × ") : String(value));

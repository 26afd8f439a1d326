/** Metrics and settings as texts. */

import { hasText, number, percent, t } from "./language.js";

const SHARES = ["accuracy", "balanced_accuracy", "f1_macro", "recall"];

/** The name of a metric, such as `recall:7`. A plug-in's metric has no translation. */
export function metricName(metric) {
  const { kind, label } = parts(metric);
  return hasText(`metric.${kind}`) ? t(`metric.${kind}`, { label }) : metric;
}

export function metricValue(metric, value) {
  if (value === null || value === undefined) return "–";
  return SHARES.includes(parts(metric).kind) ? percent(value, 2) : number(value, 4);
}

function parts(metric) {
  const [kind, ...label] = metric.split(":");
  return { kind, label: label.join(":") };
}

/** Settings in one line, with their names in the API: `hidden 4, activation sigmoid`. */
export function formatSettings(values) {
  const settings = Object.entries(values).map(([name, value]) => `${name} ${formatValue(value)}`);
  return settings.join(", ") || "–";
}

/** A value as text; a list becomes `32 × 64`. */
export const formatValue = (value) => (Array.isArray(value) ? value.join(" × ") : String(value));

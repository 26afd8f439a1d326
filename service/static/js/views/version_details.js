/** A dialog with the details of a version: plots, curves and lineage. */

import { address } from "../core/address.js";
import { get, request } from "../core/api.js";
import { h, icon } from "../core/dom.js";
import { formatSettings, metricName, metricValue } from "../core/figures.js";
import { dateTime, hasText, number, t } from "../core/language.js";
import { showError } from "../core/notices.js";
import { accuracyChart, lossChart } from "../parts/chart.js";

const CROSS = "M6 6l12 12M18 6L6 18";
const PLOT = /\/(\w+)\.svg$/;

export async function showDetails(model, version) {
  const path = `models/${encodeURIComponent(model)}/versions/${version}`;
  const details = await get(path);
  const closed = new AbortController();
  const plots = h("div", { class: "plots" });
  const dialog = h(
    "dialog",
    { class: "wide", "aria-labelledby": "details-title" },
    h(
      "div",
      { class: "stack" },
      h(
        "div",
        { class: "row spread" },
        h(
          "h2",
          { id: "details-title", tabindex: -1, autofocus: true },
          t("details.title", { model, version }),
          " ",
          aliasBadges(details),
        ),
        h(
          "button",
          { class: "tool", type: "button", label: "close", on: { click: () => dialog.close() } },
          icon(CROSS),
        ),
      ),
      h("div", { class: "details" }, plots, curves(details)),
      lineage(details),
    ),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
    if (event.target.closest("a")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    closed.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  for (const [name, file] of plotsOf(details)) showPlot(plots, name, file, details, closed.signal);
}

export const aliasBadges = ({ aliases }) =>
  aliases.map((alias) =>
    h("span", { class: `badge ${alias === "production" ? "live" : ""}` }, alias),
  );

/** The plots as `[name, path]`. The curve is left out: it is drawn by `curves`. */
function plotsOf({ plots, curve }) {
  const found = plots.flatMap((path) =>
    PLOT.test(path) ? [[path.match(PLOT)[1], path.replace(/^\//, "")]] : [],
  );
  return found.filter(([name]) => name !== "loss" || !curve.length);
}

/** Fetch and show a plot; an `<img>` would not send the token. */
async function showPlot(plots, name, path, details, signal) {
  const { model, version } = details;
  const alt = t(`details.plot.${name}`, { model, version });
  const frame = h(
    "figure",
    { class: "plot" },
    h("figcaption", { class: "muted small" }, t(`details.${name}`)),
  );
  plots.append(frame);
  try {
    const response = await request({ method: "GET", path, signal, quiet: true });
    const url = URL.createObjectURL(await response.blob());
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    frame.prepend(h("img", { src: url, alt }));
  } catch (error) {
    frame.remove();
    showError(error);
  }
}

function curves({ curve }) {
  if (!curve.length) return h("p", { class: "muted" }, t("details.noCurve"));
  const charts = [lossChart(), accuracyChart()];
  for (const chart of charts) {
    chart.begin(curve.at(-1).epoch, curve);
    chart.draw(curve);
  }
  return h(
    "div",
    { class: "charts" },
    charts.map(({ element }) => element),
  );
}

function lineage(details) {
  const { recipe, dataset, parent, job } = details;
  const entries = [
    ["created", dateTime(details.created_at)],
    ["architecture", code(details.architecture)],
    ["config", code(formatSettings(details.config))],
    ...Object.entries(details.metrics)
      .filter(([split]) => recipe || split !== "train") // unknown for an imported version
      .map(([split, values]) => [`metrics.${split}`, figures(values)]),
    ["recipe", recipe ? code(formatSettings(withoutDefaults(recipe))) : t("details.noRecipe")],
    [
      recipe ? "dataset" : "measuredOn",
      dataset ? `${dataset.name}: ${rows(dataset, recipe)}` : "–",
    ],
    ["datasetHash", dataset && code(dataset.sha256)],
    ["sha256", code(details.sha256)],
    ["parent", parent === null ? noParent(recipe) : t("version", { version: parent })],
    ["parentHash", details.parent_sha256 && code(details.parent_sha256)],
    ["libraries", code(formatSettings(details.libraries))],
    ["commit", details.git_commit ? code(details.git_commit) : "–"],
    [
      "job",
      job === null
        ? t("details.noJob")
        : h("a", { href: address("jobs", job) }, t("details.jobLink", { job })),
    ],
  ];
  return h(
    "dl",
    { class: "lineage" },
    entries.flatMap(([name, value]) =>
      value ? [h("dt", {}, t(`details.${name}`)), h("dd", {}, value)] : [],
    ),
  );
}

const code = (text) => h("span", { class: "mono" }, text);
const figures = (values) =>
  Object.entries(values)
    .map(([name, value]) => `${metricName(name)} ${metricValue(name, value)}`)
    .join(", ");
const noParent = (recipe) => t(recipe ? "details.noParent" : "details.unknownParent");
const rows = ({ rows: counts }, recipe) =>
  Object.entries(counts)
    .filter(([split]) => recipe || split !== "train")
    .map(([split, count]) => `${splitName(split)} ${number(count)}`)
    .join(", ");

const splitName = (split) =>
  hasText(`details.rows.${split}`) ? t(`details.rows.${split}`) : split;

const withoutDefaults = (recipe) =>
  Object.fromEntries(
    Object.entries(recipe).filter(([, value]) => value !== null && value !== false),
  );

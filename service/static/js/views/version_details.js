/** Where a version comes from: pictures, curves and everything needed to make it again. */

import { ask, get } from "../core/api.js";
import { accuracyChart, lossChart } from "../parts/chart.js";
import { h, icon } from "../core/dom.js";
import { metricName, metricValue, plain, settings } from "../core/figures.js";
import { knows, moment, number, t } from "../core/language.js";
import { complain } from "../core/notices.js";

const CROSS = "M6 6l12 12M18 6L6 18";
const PICTURE = /\/(\w+)\.svg$/;

/** A dialog; it is gone when it is closed, and the pictures with it. */
export async function showDetails(model, version) {
  const path = `models/${encodeURIComponent(model)}/versions/${version}`;
  const details = await get(path);
  const leaving = new AbortController();
  const pictures = h("div", { class: "pictures" });
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
      h("div", { class: "details" }, pictures, curves(details)),
      lineage(details),
    ),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
    if (event.target.closest("a")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    leaving.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  for (const [name, path] of named(details)) hang(pictures, name, path, details, leaving.signal);
}

export const aliasBadges = ({ aliases }) =>
  aliases.map((alias) =>
    h("span", { class: `badge ${alias === "production" ? "live" : ""}` }, alias),
  );

/** The pictures to show: the curve is drawn here, in the page's own colours. */
function named({ plots, curve }) {
  const found = plots.flatMap((path) =>
    PICTURE.test(path) ? [[path.match(PICTURE)[1], path.replace(/^\//, "")]] : [],
  );
  return found.filter(([name]) => name !== "loss" || !curve.length);
}

/** Fetched with the token, which an `<img>` cannot send. */
async function hang(pictures, name, path, details, signal) {
  const { model, version } = details;
  const alt = t(`details.picture.${name}`, { model, version });
  const frame = h(
    "figure",
    { class: "picture" },
    h("figcaption", { class: "muted small" }, t(`details.${name}`)),
  );
  pictures.append(frame);
  try {
    const answer = await ask({ method: "GET", path, signal, quiet: true });
    const address = URL.createObjectURL(await answer.blob());
    signal.addEventListener("abort", () => URL.revokeObjectURL(address));
    frame.prepend(h("img", { src: address, alt }));
  } catch (error) {
    frame.remove();
    complain(error);
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
    ["created", moment(details.created_at)],
    ["architecture", code(details.architecture)],
    ["config", code(settings(details.config))],
    ...Object.entries(details.metrics)
      .filter(([split]) => recipe || split !== "train") // what it learned from is not known
      .map(([split, values]) => [`metrics.${split}`, figures(values)]),
    ["recipe", recipe ? code(settings(known(recipe))) : t("details.noRecipe")],
    [
      recipe ? "dataset" : "measuredOn",
      dataset ? `${dataset.name}: ${rows(dataset, recipe)}` : "–",
    ],
    ["datasetHash", dataset && code(dataset.sha256)],
    ["sha256", code(details.sha256)],
    ["parent", parent === null ? orphan(recipe) : t("version", { version: parent })],
    ["parentHash", details.parent_sha256 && code(details.parent_sha256)],
    ["libraries", code(settings(details.libraries))],
    ["commit", details.git_commit ? code(details.git_commit) : "–"],
    [
      "job",
      job === null
        ? t("details.noJob")
        : h("a", { href: `#/jobs/${job}` }, t("details.jobLink", { job })),
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
const orphan = (recipe) => t(recipe ? "details.noParent" : "details.unknownParent");
const rows = ({ rows: counts }, recipe) =>
  Object.entries(counts)
    .filter(([split]) => recipe || split !== "train")
    .map(([split, count]) => `${splitName(split)} ${number(count)}`)
    .join(", ");

const splitName = (split) => (knows(`details.rows.${split}`) ? t(`details.rows.${split}`) : split);

/** A recipe without what it leaves as it is. */
const known = (recipe) =>
  Object.fromEntries(
    Object.entries(recipe).filter(([, value]) => value !== null && value !== false),
  );

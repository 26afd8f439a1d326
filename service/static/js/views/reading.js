/** What a model reads in the drawing: its prediction, and a bar for the probability of each label. */

import { h } from "../core/dom.js";
import { percent, t } from "../core/language.js";
import { LatestTask } from "../core/timing.js";

export class Reading {
  latest = new LatestTask();
  prediction = null;

  constructor(model) {
    this.model = model;
    this.label = h("strong", { class: "reading-label" });
    this.share = h("span", { class: "muted figure" });
    this.bars = new Map(model.labels.map((label) => [label, bar(label)]));
    this.element = h(
      "section",
      { class: "panel stack reading", "aria-label": model.name },
      h(
        "div",
        { class: "reading-head" },
        h(
          "h2",
          {},
          model.name,
          " ",
          h("span", { class: "badge", t: ["version", { version: model.version }] }),
        ),
        h("p", { class: "muted small", lang: "en" }, model.description),
        h("p", { class: "reading-answer" }, this.label, " ", this.share),
      ),
      h(
        "ol",
        { class: "bars" },
        [...this.bars.values()].map((one) => one.item),
      ),
    );
    this.show();
  }

  /** Set the prediction; null for none. */
  set(prediction) {
    this.prediction = prediction;
    this.show();
  }

  show() {
    const { label, probabilities } = this.prediction ?? {};
    this.label.textContent = label ?? "–";
    this.share.textContent = label ? percent(probabilities[label]) : "";
    for (const [one, { item, fill, share }] of this.bars) {
      const probability = probabilities?.[one] ?? 0;
      fill.style.transform = `scaleX(${probability})`;
      share.textContent = this.prediction ? percent(probability) : "";
      item.classList.toggle("best", one === label);
    }
  }

  describe() {
    const { label, probabilities } = this.prediction;
    return t("draw.prediction", {
      model: this.model.name,
      label,
      share: percent(probabilities[label]),
    });
  }
}

function bar(label) {
  const fill = h("i");
  const share = h("span", { class: "figure" });
  return {
    fill,
    share,
    item: h("li", {}, h("b", {}, label), h("span", { class: "track" }, fill), share),
  };
}

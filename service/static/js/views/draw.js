/** Draw a digit: what each network sees in it, while it is drawn. */

import { Problem, post } from "../core/api.js";
import { h, icon, speak } from "../core/dom.js";
import { EXAMPLES } from "./examples.js";
import { number, onLanguage, percent, t } from "../core/language.js";
import { Latest } from "../core/latest.js";
import { onModels, readingPictures } from "../core/models.js";
import { complain, guarded, tell } from "../core/notices.js";
import { Sketch } from "../parts/sketch.js";
import { onTheme, color } from "../core/theme.js";

const UNDO = "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3";
const CLEAR = "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13";
const UPLOAD = "M12 16V4M7 9l5-5 5 5M4 20h16";
const SPARK = "M4 20L15 9M14 4v3M20 10h-3M18.5 5.5L17 7";
const SPOKEN_AFTER_MS = 700;

export function build() {
  const view = new DrawView();
  addEventListener("paste", (event) => view.paste(event));
  return view;
}

class DrawView {
  #cards = []; // one for each model that reads pictures
  #seen = null; // what the networks see, as numbers in 0..255
  #speaking = 0;
  #example = 3;

  constructor() {
    this.sheet = h("canvas", { class: "sheet", tabindex: 0, role: "img", label: "draw.sheet" });
    this.hint = h("p", { class: "sheet-hint", t: "draw.hint", "aria-hidden": "true" });
    this.glimpse = h("canvas", {
      class: "glimpse",
      width: 28,
      height: 28,
      role: "img",
      label: "draw.seen",
    });
    this.said = h("p", { class: "muted small said" });
    this.right = h("div", { class: "digits", role: "group", label: "draw.correct" });
    this.kept = h("p", { class: "muted small", hidden: true });
    this.cards = h("div", { class: "readings" });
    this.element = this.#laidOut();
    this.sketch = new Sketch(this.sheet, () => this.#changed());
    onModels(() => this.#offerModels());
    onTheme(() => this.#showSeen());
    onLanguage(() => this.#cards.forEach((card) => card.show()));
    this.#offerModels();
  }

  show() {}

  hide() {}

  #laidOut() {
    const file = h("input", {
      type: "file",
      accept: "image/*",
      class: "unseen",
      tabindex: -1,
      "aria-hidden": "true",
    });
    file.addEventListener("change", () => {
      if (file.files.length) this.#lay(file.files[0]);
      file.value = "";
    });
    const tools = h(
      "div",
      { class: "sheet-tools" },
      tool("draw.undo", UNDO, () => this.sketch.undo()),
      tool("draw.clear", CLEAR, () => this.sketch.clear()),
      tool("draw.upload", UPLOAD, () => file.click()),
      tool("draw.example", SPARK, () => this.#trace()),
      file,
    );
    const sheet = h("div", { class: "sheet-frame" }, this.sheet, this.hint);
    for (const [name, action] of [
      ["dragover", () => {}],
      ["drop", (event) => this.#drop(event)],
    ]) {
      sheet.addEventListener(name, (event) => {
        event.preventDefault();
        action(event);
      });
    }
    return h(
      "div",
      {},
      h("div", { class: "lead" }, h("h1", { t: "draw.title" }), h("p", { t: "draw.lead" })),
      h(
        "div",
        { class: "drawing" },
        h("section", { class: "panel stack", label: "draw.sheet" }, sheet, tools),
        h(
          "section",
          { class: "panel stack", label: "draw.seen" },
          h("h2", { t: "draw.seen" }),
          this.glimpse,
          this.said,
          h("h2", { t: "draw.correct" }),
          h("p", { class: "muted small", t: "draw.correctHint" }),
          this.right,
          this.kept,
        ),
        this.cards,
      ),
    );
  }

  #offerModels() {
    const models = readingPictures();
    const same = this.#cards.map((card) => `${card.model.name} ${card.model.version}`).join();
    if (same === models.map((model) => `${model.name} ${model.version}`).join()) return;
    this.#cards = models.map((model) => new Reading(model));
    this.cards.replaceChildren(...this.#cards.map((card) => card.element));
    const labels = models[0]?.labels ?? [];
    this.right.replaceChildren(...labels.map((label) => this.#rightOne(label)));
    if (!this.sketch?.isEmpty) this.#changed();
  }

  #rightOne(label) {
    return h(
      "button",
      {
        class: "button",
        type: "button",
        label: ["draw.itIs", { label }],
        on: { click: guarded(() => this.#correct(label)) },
      },
      label,
    );
  }

  /** Ask every model of what is on the sheet now; whoever still answers is asked again after. */
  #changed() {
    this.kept.hidden = true;
    this.#allowCorrection(true);
    this.hint.hidden = !this.sketch.isEmpty;
    if (this.sketch.isEmpty) this.#forget();
    this.#cards.forEach((card, at) => card.latest.run(() => this.#read(card, at === 0)));
    clearTimeout(this.#speaking);
    this.#speaking = setTimeout(() => this.#speak(), SPOKEN_AFTER_MS);
  }

  #forget() {
    this.#seen = null;
    this.said.textContent = "";
    this.#showSeen();
    for (const card of this.#cards) card.forget();
  }

  async #read(card, showsPixels) {
    if (this.sketch.isEmpty) return;
    const query = new URLSearchParams({
      model: card.model.name,
      ...(showsPixels && { pixels: true }),
    });
    try {
      const body = await this.sketch.file();
      const answer = await post(`predict/image?${query}`, body, { type: body.type });
      if (this.sketch.isEmpty) return;
      card.read(answer.predictions[0]);
      if (!showsPixels) return;
      this.#seen = answer.pixels;
      this.said.textContent = "";
      this.#showSeen();
    } catch (error) {
      if (error instanceof Problem && error.status === 422) this.#cannotRead(error);
      else complain(error);
    }
  }

  /** No digit yet: a dot, or a picture with nothing on it. */
  #cannotRead(problem) {
    const fault = problem.faults[0];
    this.#forget();
    this.said.textContent = fault ? t("error.expected", fault) : problem.message;
  }

  #showSeen() {
    const context = this.glimpse.getContext("2d");
    const side = Math.round(Math.sqrt(this.#seen?.length ?? 784));
    this.glimpse.width = this.glimpse.height = side;
    const image = context.createImageData(side, side);
    const paper = color("sunken");
    const ink = color("ink");
    for (let at = 0; at < side * side; at++) {
      const share = (this.#seen?.[at] ?? 0) / 255;
      for (let part = 0; part < 3; part++) {
        image.data[4 * at + part] = paper[part] + share * (ink[part] - paper[part]);
      }
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  #speak() {
    const read = this.#cards.filter((card) => card.prediction);
    if (read.length) speak(read.map((card) => card.words()).join(" "));
  }

  async #correct(label) {
    if (!this.#seen) {
      tell(t("draw.nothingToCorrect"), { isWrong: true });
      return;
    }
    const inputs = [this.#seen];
    for (const { model } of this.#cards) {
      const body = { model: model.name, dtype: "uint8", inputs, labels: [label] };
      const { total } = await post("feedback", body, { admin: true });
      this.kept.textContent = t("draw.kept", { label, total: number(total) });
    }
    this.kept.hidden = false;
    this.#allowCorrection(false); // the same once more would count twice
    speak(this.kept.textContent);
  }

  #allowCorrection(isAllowed) {
    for (const button of this.right.children) button.disabled = !isAllowed;
  }

  #trace() {
    this.sketch.trace(EXAMPLES[this.#example]);
    this.#example = (this.#example + 4) % EXAMPLES.length;
  }

  paste(event) {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file && this.element.isConnected) this.#lay(file);
  }

  #drop(event) {
    if (event.dataTransfer.files.length) this.#lay(event.dataTransfer.files[0]);
  }

  async #lay(file) {
    try {
      await this.sketch.lay(file);
    } catch {
      tell(t("draw.noPicture", { name: file.name }), { isWrong: true });
    }
  }
}

function tool(key, path, listener) {
  return h(
    "button",
    { class: "button slim", type: "button", on: { click: listener } },
    icon(path),
    h("span", { t: key }),
  );
}

/** What one model reads: the label, and a bar for the probability of each. */
class Reading {
  latest = new Latest();
  prediction = null;

  constructor(model) {
    this.model = model;
    this.label = h("strong", { class: "reading-label" });
    this.sure = h("span", { class: "muted figure" });
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
        h("p", { class: "reading-answer" }, this.label, " ", this.sure),
      ),
      h(
        "ol",
        { class: "bars" },
        [...this.bars.values()].map((one) => one.item),
      ),
    );
    this.show();
  }

  read(prediction) {
    this.prediction = prediction;
    this.show();
  }

  forget() {
    this.read(null);
  }

  show() {
    const { label, probabilities } = this.prediction ?? {};
    this.label.textContent = label ?? "–";
    this.sure.textContent = label ? percent(probabilities[label]) : "";
    for (const [one, { item, fill, share }] of this.bars) {
      const probability = probabilities?.[one] ?? 0;
      fill.style.transform = `scaleX(${probability})`;
      share.textContent = this.prediction ? percent(probability) : "";
      item.classList.toggle("won", one === label);
    }
  }

  words() {
    const { label, probabilities } = this.prediction;
    return t("draw.words", { model: this.model.name, label, share: percent(probabilities[label]) });
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

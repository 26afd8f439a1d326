/** The view to draw a digit: each model reads it while it is drawn. */

import { Problem, post } from "../core/api.js";
import { announce, h, icon } from "../core/dom.js";
import { number, onLanguage, t } from "../core/language.js";
import { imageModels, onModels } from "../core/models.js";
import { guarded, notify, showError } from "../core/notices.js";
import { color, onTheme } from "../core/theme.js";
import { Sketch } from "../parts/sketch.js";
import { Reading } from "./reading.js";

const UNDO = "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3";
const CLEAR = "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13";
const UPLOAD = "M12 16V4M7 9l5-5 5 5M4 20h16";
const WAND = "M4 20L15 9M14 4v3M20 10h-3M18.5 5.5L17 7";
const ANNOUNCE_AFTER_MS = 700;

export function build() {
  const view = new DrawView();
  addEventListener("paste", (event) => view.paste(event));
  return view;
}

class DrawView {
  #readings = []; // one per model
  #pixels = null; // the input of the models, 0..255
  #timer = 0;
  #example = 3;

  constructor() {
    this.sheet = h("canvas", { class: "sheet", tabindex: 0, role: "img", label: "draw.sheet" });
    this.hint = h("p", { class: "sheet-hint", t: "draw.hint", "aria-hidden": "true" });
    this.preview = h("canvas", {
      class: "preview",
      width: 28,
      height: 28,
      role: "img",
      label: "draw.input",
    });
    this.message = h("p", { class: "muted small message" });
    this.labels = h("div", { class: "digits", role: "group", label: "draw.correct" });
    this.saved = h("p", { class: "muted small", hidden: true });
    this.readings = h("div", { class: "readings" });
    this.element = this.#layOut();
    this.sketch = new Sketch(this.sheet, () => this.#changed());
    onModels(() => this.#showModels());
    onTheme(() => this.#showPixels());
    onLanguage(() => this.#readings.forEach((reading) => reading.show()));
    this.#showModels();
  }

  show() {}

  hide() {}

  #layOut() {
    const file = h("input", {
      type: "file",
      accept: "image/*",
      class: "visually-hidden",
      tabindex: -1,
      "aria-hidden": "true",
    });
    file.addEventListener("change", () => {
      if (file.files.length) this.#load(file.files[0]);
      file.value = "";
    });
    const tools = h(
      "div",
      { class: "sheet-tools" },
      tool("draw.undo", UNDO, () => this.sketch.undo()),
      tool("draw.clear", CLEAR, () => this.sketch.clear()),
      tool("draw.upload", UPLOAD, () => file.click()),
      tool(
        "draw.example",
        WAND,
        guarded(() => this.#drawExample()),
      ),
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
          { class: "panel stack", label: "draw.input" },
          h("h2", { t: "draw.input" }),
          this.preview,
          this.message,
          h("h2", { t: "draw.correct" }),
          h("p", { class: "muted small", t: "draw.correctHint" }),
          this.labels,
          this.saved,
        ),
        this.readings,
      ),
    );
  }

  #showModels() {
    const models = imageModels();
    const key = ({ name, version }) => `${name} ${version}`;
    const shown = this.#readings.map(({ model }) => key(model)).join();
    if (shown === models.map(key).join()) return;
    this.#readings = models.map((model) => new Reading(model));
    this.readings.replaceChildren(...this.#readings.map((reading) => reading.element));
    const labels = models[0]?.labels ?? [];
    this.labels.replaceChildren(...labels.map((label) => this.#labelButton(label)));
    if (!this.sketch?.isEmpty) this.#changed();
  }

  #labelButton(label) {
    return h(
      "button",
      {
        class: "button",
        type: "button",
        label: ["draw.correctTo", { label }],
        on: { click: guarded(() => this.#correct(label)) },
      },
      label,
    );
  }

  /** Have each model read the drawing, now or after its current request. */
  #changed() {
    this.saved.hidden = true;
    this.#setCorrectable(true);
    this.hint.hidden = !this.sketch.isEmpty;
    if (this.sketch.isEmpty) this.#clearReadings();
    this.#readings.forEach((reading, at) =>
      reading.latest.run(() => this.#read(reading, at === 0)),
    );
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#announce(), ANNOUNCE_AFTER_MS);
  }

  #clearReadings() {
    this.#pixels = null;
    this.message.textContent = "";
    this.#showPixels();
    for (const reading of this.#readings) reading.set(null);
  }

  async #read(reading, showsPixels) {
    if (this.sketch.isEmpty) return;
    const query = new URLSearchParams({
      model: reading.model.name,
      ...(showsPixels && { pixels: true }),
    });
    try {
      const body = await this.sketch.file();
      const response = await post(`predict/image?${query}`, body, { type: body.type });
      if (this.sketch.isEmpty) return;
      reading.set(response.predictions[0]);
      if (!showsPixels) return;
      this.#pixels = response.pixels;
      this.message.textContent = "";
      this.#showPixels();
    } catch (error) {
      if (error instanceof Problem && error.status === 422) this.#showUnreadable(error);
      else showError(error);
    }
  }

  /** The drawing has no digit yet: it is a dot, or an empty image. */
  #showUnreadable(problem) {
    const [error] = problem.errors;
    this.#clearReadings();
    this.message.textContent = error ? t("error.expected", error) : problem.message;
  }

  #showPixels() {
    const context = this.preview.getContext("2d");
    const side = Math.round(Math.sqrt(this.#pixels?.length ?? 784));
    this.preview.width = this.preview.height = side;
    const image = context.createImageData(side, side);
    const paper = color("sunken");
    const ink = color("ink");
    for (let at = 0; at < side * side; at++) {
      const share = (this.#pixels?.[at] ?? 0) / 255;
      for (let part = 0; part < 3; part++) {
        image.data[4 * at + part] = paper[part] + share * (ink[part] - paper[part]);
      }
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  #announce() {
    const readings = this.#readings.filter((reading) => reading.prediction);
    if (readings.length) announce(readings.map((reading) => reading.describe()).join(" "));
  }

  async #correct(label) {
    if (!this.#pixels) {
      notify(t("draw.nothingDrawn"), { isError: true });
      return;
    }
    const inputs = [this.#pixels];
    for (const { model } of this.#readings) {
      const body = { model: model.name, dtype: "uint8", inputs, labels: [label] };
      const { total } = await post("feedback", body, { admin: true });
      this.saved.textContent = t("draw.saved", { label, total: number(total) });
    }
    this.saved.hidden = false;
    this.#setCorrectable(false); // a second click would save it twice
    announce(this.saved.textContent);
  }

  #setCorrectable(isEnabled) {
    for (const button of this.labels.children) button.disabled = !isEnabled;
  }

  async #drawExample() {
    const { EXAMPLES } = await import("./examples.js"); // the first view does without it
    this.sketch.animate(EXAMPLES[this.#example]);
    this.#example = (this.#example + 4) % EXAMPLES.length;
  }

  paste(event) {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file && this.element.isConnected) this.#load(file);
  }

  #drop(event) {
    if (event.dataTransfer.files.length) this.#load(event.dataTransfer.files[0]);
  }

  async #load(file) {
    try {
      await this.sketch.load(file);
    } catch {
      notify(t("draw.noImage", { name: file.name }), { isError: true });
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

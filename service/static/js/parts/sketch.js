/** A canvas to draw on, by mouse, touch, pen or arrow keys; it can also hold an image. */

import { cssColor, onTheme } from "../core/theme.js";
import { oncePerFrame } from "../core/timing.js";

const WIDTH = 0.075; // of a stroke, as a share of the canvas
const DRAWING_SIZE = 140; // pixels a side of a drawing that is sent: 5 times those of the model
const IMAGE_SIZE = 560; // the same of an image with strokes
const ACCEPTED_TYPES = ["image/png", "image/jpeg"]; // of the service
const STEP = 0.03; // share of the canvas that an arrow key moves the pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Sketch {
  #strokes = []; // each a list of [x, y] in 0..1
  #image = null; // { bitmap, file }
  #cleared = null; // { strokes, image } before the last clear()
  #pen = null; // { x, y, down }, moved by the arrow keys
  #pointer = null; // { id, stroke } of the pointer that draws
  #paintSoon = oncePerFrame(() => this.#paint());

  /** `changed` is called after each change. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#draw(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.#end(event));
    }
    canvas.addEventListener("keydown", (event) => this.#press(event));
    canvas.addEventListener("focus", () => this.#showPen(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.#showPen(false));
    new ResizeObserver(() => this.#paintSoon()).observe(canvas);
    onTheme(() => this.#paintSoon());
  }

  /** Whether there is nothing to recognise. A dot does not count. */
  get isEmpty() {
    return !this.#image && !this.#strokes.some(isLine);
  }

  /** Undo the last stroke, the image, or the last clear(). */
  undo() {
    if (this.#strokes.length) this.#strokes.pop();
    else if (this.#image) this.#image = null;
    else if (this.#cleared) this.#restore();
    this.#update();
  }

  clear() {
    if (this.#strokes.length || this.#image) {
      this.#cleared = { strokes: this.#strokes, image: this.#image };
    }
    this.#strokes = [];
    this.#image = null;
    this.#update();
  }

  /** Replace the drawing with an image. Throws if the browser cannot read the file. */
  async load(file) {
    const bitmap = await createImageBitmap(file);
    this.#strokes = [];
    this.#image = { bitmap, file };
    this.#update();
  }

  /** Draw strokes point by point. */
  async animate(strokes) {
    this.clear();
    for (const stroke of strokes) {
      const line = [];
      this.#strokes.push(line);
      for (const point of stroke) {
        if (!this.#strokes.includes(line)) return; // cleared meanwhile
        line.push(point);
        this.#update();
        await new Promise(requestAnimationFrame);
      }
    }
  }

  /** The drawing as an image file. */
  async file() {
    if (this.#image && !this.#strokes.length && ACCEPTED_TYPES.includes(this.#image.file.type)) {
      return this.#image.file;
    }
    const side = this.#image ? IMAGE_SIZE : DRAWING_SIZE;
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, side, side);
    this.#render(context, side, "#000");
    return canvas.convertToBlob({ type: "image/png" });
  }

  #restore() {
    this.#strokes = this.#cleared.strokes;
    this.#image = this.#cleared.image;
    this.#cleared = null;
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointer = { id: event.pointerId, stroke: [this.#at(event)] };
    this.#showPen(false);
    this.#strokes.push(this.#pointer.stroke);
    this.#update();
  }

  #draw(event) {
    if (event.pointerId !== this.#pointer?.id) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#pointer.stroke.push(...(events.length ? events : [event]).map((one) => this.#at(one)));
    this.#update();
  }

  #end(event) {
    if (event.pointerId === this.#pointer?.id) this.#pointer = null;
  }

  #at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  /** Arrow keys move the pen, with Shift in small steps; Space and Enter lower and lift it. */
  #press(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      this.undo();
    } else if (event.key === " " || event.key === "Enter") {
      this.#showPen(true);
      this.#pen.down = !this.#pen.down;
      if (this.#pen.down) this.#strokes.push([[this.#pen.x, this.#pen.y]]);
      this.#update();
    } else if (event.key in ARROWS) {
      this.#showPen(true);
      this.#movePen(...ARROWS[event.key], event.shiftKey ? STEP / 3 : STEP);
    } else {
      return;
    }
    event.preventDefault();
  }

  #movePen(right, down, step) {
    const pen = this.#pen;
    pen.x = Math.min(Math.max(pen.x + right * step, 0), 1);
    pen.y = Math.min(Math.max(pen.y + down * step, 0), 1);
    if (pen.down) {
      this.#strokes.at(-1)?.push([pen.x, pen.y]);
      this.#update();
    }
    this.#paintSoon();
  }

  #showPen(isShown) {
    if (isShown) this.#pen ??= { x: 0.5, y: 0.3, down: false };
    else this.#pen = null;
    this.#paintSoon();
  }

  #update() {
    this.#paintSoon();
    this.changed();
  }

  #paint() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    this.#render(context, side, cssColor("ink"));
    if (this.#pen) this.#paintPen(context, side);
  }

  #paintPen(context, side) {
    const { x, y, down } = this.#pen;
    context.beginPath();
    context.arc(x * side, y * side, (WIDTH * side) / 2, 0, 2 * Math.PI);
    context.lineWidth = side / 140;
    context.strokeStyle = cssColor("accent");
    context.fillStyle = cssColor("accent", down ? 0.9 : 0.15);
    context.fill();
    context.stroke();
  }

  #render(context, side, ink) {
    if (this.#image) drawImage(context, side, this.#image.bitmap);
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = WIDTH * side;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      context.beginPath();
      addCurve(
        context,
        stroke.map(([x, y]) => [x * side, y * side]),
      );
      context.stroke();
    }
  }
}

/** Whether a stroke is longer than a dot. */
function isLine(stroke) {
  const [[x, y]] = stroke;
  return stroke.some(([toX, toY]) => Math.hypot(toX - x, toY - y) > WIDTH);
}

/** The whole image, centred. */
function drawImage(context, side, bitmap) {
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const width = bitmap.width * scale;
  const height = bitmap.height * scale;
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
}

/** A smooth curve: from midpoint to midpoint, with the points between as control points. */
function addCurve(context, points) {
  const [first] = points;
  context.moveTo(...first);
  for (let at = 1; at < points.length - 1; at++) {
    const [x, y] = points[at];
    const [nextX, nextY] = points[at + 1];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...points.at(-1)); // a single point is a dot
}

/** A sheet to draw on, by mouse, touch, pen or the arrow keys, or to lay a picture on. */

import { soon } from "../core/frame.js";
import { onTheme, paint } from "../core/theme.js";

const WIDTH = 0.075; // of a stroke, as a share of the sheet
const SENT = 140; // pixels a side of what is sent: more than a digit of 28 needs
const SENT_PICTURE = 560; // where a picture lies under the strokes
const AS_IT_IS = ["image/png", "image/jpeg"]; // pictures that the service takes
const STEP = 0.03; // of the pen by one press of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Sketch {
  #strokes = []; // each a list of [x, y] in 0..1
  #picture = null; // { bitmap, file }
  #cleared = null; // { strokes, picture } of the sheet that was cleared last
  #pen = null; // { x, y, down }: where the arrow keys have it
  #pointer = null; // { id, stroke } of the pointer that draws
  #paintSoon = soon(() => this.#paint());

  /** `changed` is called after whatever changes what is on the sheet. */
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

  /** Whether there is nothing on the sheet yet that could be read: a dot is no digit. */
  get isEmpty() {
    return !this.#picture && !this.#strokes.some(isMore);
  }

  /** Take back the last stroke, the picture, or the clearing of the sheet. */
  undo() {
    if (this.#strokes.length) this.#strokes.pop();
    else if (this.#picture) this.#picture = null;
    else if (this.#cleared) this.#restore();
    this.#happened();
  }

  clear() {
    if (this.#strokes.length || this.#picture) {
      this.#cleared = { strokes: this.#strokes, picture: this.#picture };
    }
    this.#strokes = [];
    this.#picture = null;
    this.#happened();
  }

  /** Lay a picture on the sheet, in place of what is there. Throws where it is none. */
  async lay(file) {
    const bitmap = await createImageBitmap(file);
    this.#strokes = [];
    this.#picture = { bitmap, file };
    this.#happened();
  }

  /** Draw these strokes as a hand would, one point after the other. */
  async trace(strokes) {
    this.clear();
    for (const stroke of strokes) {
      const line = [];
      this.#strokes.push(line);
      for (const point of stroke) {
        if (!this.#strokes.includes(line)) return; // somebody has cleared the sheet
        line.push(point);
        this.#happened();
        await new Promise(requestAnimationFrame);
      }
    }
  }

  /** What is on the sheet, as a file that the service reads. */
  async file() {
    if (this.#picture && !this.#strokes.length && AS_IT_IS.includes(this.#picture.file.type)) {
      return this.#picture.file;
    }
    const side = this.#picture ? SENT_PICTURE : SENT;
    const sent = new OffscreenCanvas(side, side);
    const context = sent.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, side, side);
    this.#render(context, side, "#000");
    return sent.convertToBlob({ type: "image/png" });
  }

  #restore() {
    this.#strokes = this.#cleared.strokes;
    this.#picture = this.#cleared.picture;
    this.#cleared = null;
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointer = { id: event.pointerId, stroke: [this.#at(event)] };
    this.#showPen(false);
    this.#strokes.push(this.#pointer.stroke);
    this.#happened();
  }

  #draw(event) {
    if (event.pointerId !== this.#pointer?.id) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    this.#pointer.stroke.push(...(passed.length ? passed : [event]).map((one) => this.#at(one)));
    this.#happened();
  }

  #end(event) {
    if (event.pointerId === this.#pointer?.id) this.#pointer = null;
  }

  #at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  /** Arrows move the pen, with the shift key in small steps; space and enter set it down. */
  #press(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      this.undo();
    } else if (event.key === " " || event.key === "Enter") {
      this.#showPen(true);
      this.#pen.down = !this.#pen.down;
      if (this.#pen.down) this.#strokes.push([[this.#pen.x, this.#pen.y]]);
      this.#happened();
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
      this.#happened();
    }
    this.#paintSoon();
  }

  #showPen(shown) {
    if (shown) this.#pen ??= { x: 0.5, y: 0.3, down: false };
    else this.#pen = null;
    this.#paintSoon();
  }

  #happened() {
    this.#paintSoon();
    this.changed();
  }

  #paint() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    this.#render(context, side, paint("ink"));
    if (this.#pen) this.#markPen(context, side);
  }

  #markPen(context, side) {
    const { x, y, down } = this.#pen;
    context.beginPath();
    context.arc(x * side, y * side, (WIDTH * side) / 2, 0, 2 * Math.PI);
    context.lineWidth = side / 140;
    context.strokeStyle = paint("accent");
    context.fillStyle = paint("accent", down ? 0.9 : 0.15);
    context.fill();
    context.stroke();
  }

  #render(context, side, ink) {
    if (this.#picture) lay(context, side, this.#picture.bitmap);
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = WIDTH * side;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      context.beginPath();
      follow(
        context,
        stroke.map(([x, y]) => [x * side, y * side]),
      );
      context.stroke();
    }
  }
}

/** Whether a stroke is more than the pen set down. */
function isMore(stroke) {
  const [[x, y]] = stroke;
  return stroke.some(([toX, toY]) => Math.hypot(toX - x, toY - y) > WIDTH);
}

/** A picture, whole, in the middle. */
function lay(context, side, bitmap) {
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const width = bitmap.width * scale;
  const height = bitmap.height * scale;
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
}

/** A smooth path along points: curves from middle to middle, bent by what lies between. */
function follow(context, points) {
  const [first] = points;
  context.moveTo(...first);
  for (let at = 1; at < points.length - 1; at++) {
    const [x, y] = points[at];
    const [nextX, nextY] = points[at + 1];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...points.at(-1)); // a single point is a dot
}

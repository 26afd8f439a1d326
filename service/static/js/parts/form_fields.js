/** Form fields that read and check their value. */

import { h, select } from "../core/dom.js";
import { number, t } from "../core/language.js";

let count = 0;

class Field {
  /** `label` has the properties of the label; `hint` is an element below the control. */
  constructor(control, label, hint = null) {
    const id = `field-${++count}`;
    this.control = control;
    control.id = id;
    this.error = h("small", { class: "error", id: `${id}-error`, hidden: true });
    if (hint) hint.id = `${id}-hint`;
    control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-error`);
    control.addEventListener("input", () => this.clearError());
    this.element = h(
      "div",
      { class: "field" },
      h("label", { for: id, ...label }),
      control,
      hint,
      this.error,
    );
  }

  showError(text) {
    this.error.textContent = text;
    this.error.hidden = false;
    this.control.setAttribute("aria-invalid", "true");
  }

  clearError() {
    this.error.hidden = true;
    this.error.textContent = "";
    this.control.removeAttribute("aria-invalid");
  }

  /** Whether the value is valid; shows the error if it is not. */
  check() {
    const error = this.findError();
    if (error) this.showError(error);
    else this.clearError();
    return !error;
  }

  findError() {
    return null;
  }

  clear() {
    this.control.value = "";
    this.clearError();
  }
}

/** A select box. */
export class ChoiceField extends Field {
  constructor(label, options, { selected, hint, listener = () => {} } = {}) {
    super(select(options, selected, listener), label, hint);
  }

  get value() {
    return this.control.value || undefined;
  }
}

/** A number from `min` to `max`; blank is undefined. */
export class NumberField extends Field {
  constructor(label, { whole = false, min, max, hint } = {}) {
    const control = h("input", {
      type: "number",
      inputmode: whole ? "numeric" : "decimal",
      min,
      max,
      step: whole ? 1 : "any",
    });
    super(control, label, hint);
    Object.assign(this, { whole, min, max });
  }

  get value() {
    return this.control.value === "" ? undefined : Number(this.control.value);
  }

  findError() {
    const { value } = this;
    if (value === undefined && !this.control.validity.badInput) return null;
    const fits = value >= (this.min ?? -Infinity) && value <= (this.max ?? Infinity);
    return fits && (!this.whole || Number.isSafeInteger(value)) ? null : outOfBounds(this);
  }
}

/** A list of whole numbers, such as `32, 64`; blank is undefined. */
export class NumbersField extends Field {
  constructor(label, { min, max, minCount = 0, maxCount = Infinity, hint } = {}) {
    super(h("input", { type: "text", inputmode: "numeric", autocomplete: "off" }), label, hint);
    Object.assign(this, { whole: true, min, max, minCount, maxCount });
  }

  get value() {
    const parts = this.control.value.split(/[\s,x×]+/).filter(Boolean);
    return parts.length ? parts.map(Number) : undefined;
  }

  findError() {
    const { value } = this;
    if (value === undefined) return null;
    const fits = (one) =>
      Number.isSafeInteger(one) && one >= (this.min ?? -Infinity) && one <= (this.max ?? Infinity);
    if (value.length < this.minCount || value.length > this.maxCount) {
      return t("field.count", {
        count:
          this.minCount === this.maxCount ? this.minCount : `${this.minCount}–${this.maxCount}`,
      });
    }
    return value.every(fits) ? null : outOfBounds(this);
  }
}

/** The error for a number outside its bounds. */
function outOfBounds({ whole, min, max }) {
  const key = whole ? "field.numberWhole" : "field.number";
  const bounds = { min: bound(min), max: bound(max) };
  if (min !== undefined && max !== undefined) return t(`${key}Between`, bounds);
  if (min !== undefined) return t(`${key}From`, bounds);
  return t(key);
}

const bound = (value) => value !== undefined && number(value, decimals(value));

/** The number of decimals of a bound: 0.000001 is not shown as 0. */
const decimals = (value) => {
  const [, digits = "", exponent = "0"] = String(value).match(/^-?\d*\.?(\d*)(?:e-(\d+))?/);
  return digits.length + Number(exponent);
};

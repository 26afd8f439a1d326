/** Fields of a form that read their own value and say what is wrong with it. */

import { choice, h } from "../core/dom.js";
import { number, t } from "../core/language.js";

let made = 0;

class Field {
  /** `words` are the properties of the label; `hint` is an element below the control. */
  constructor(control, words, hint = null) {
    const id = `field-${++made}`;
    this.control = control;
    control.id = id;
    this.fault = h("small", { class: "fault", id: `${id}-fault`, hidden: true });
    if (hint) hint.id = `${id}-hint`;
    control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-fault`);
    control.addEventListener("input", () => this.accept());
    this.element = h(
      "div",
      { class: "field" },
      h("label", { for: id, ...words }),
      control,
      hint,
      this.fault,
    );
  }

  refuse(text) {
    this.fault.textContent = text;
    this.fault.hidden = false;
    this.control.setAttribute("aria-invalid", "true");
  }

  accept() {
    this.fault.hidden = true;
    this.fault.textContent = "";
    this.control.removeAttribute("aria-invalid");
  }

  /** Whether it can be sent; says so where not. */
  check() {
    const wrong = this.wrong();
    if (wrong) this.refuse(wrong);
    else this.accept();
    return !wrong;
  }

  wrong() {
    return null;
  }

  /** Forget what was entered. */
  clear() {
    this.control.value = "";
    this.accept();
  }
}

/** A list to choose from. */
export class ChoiceField extends Field {
  constructor(words, options, { chosen, hint, listener = () => {} } = {}) {
    super(choice(options, chosen, listener), words, hint);
  }

  get value() {
    return this.control.value || undefined;
  }
}

/** A number within bounds, both of them allowed; blank is undefined. */
export class NumberField extends Field {
  constructor(words, { whole = false, least, most, step, hint } = {}) {
    const control = h("input", {
      type: "number",
      inputmode: whole ? "numeric" : "decimal",
      min: least,
      max: most,
      step: step ?? (whole ? 1 : "any"),
    });
    super(control, words, hint);
    Object.assign(this, { whole, least, most });
  }

  get value() {
    return this.control.value === "" ? undefined : Number(this.control.value);
  }

  wrong() {
    const { value } = this;
    if (value === undefined && !this.control.validity.badInput) return null;
    const fits = value >= (this.least ?? -Infinity) && value <= (this.most ?? Infinity);
    return fits && (!this.whole || Number.isSafeInteger(value))
      ? null
      : expected("field.number", this);
  }
}

/** Whole numbers, one after the other: `32, 64`; blank is undefined. */
export class NumbersField extends Field {
  constructor(words, { least, most, fewest = 0, mostOf = Infinity, hint } = {}) {
    super(h("input", { type: "text", inputmode: "numeric", autocomplete: "off" }), words, hint);
    Object.assign(this, { whole: true, least, most, fewest, mostOf });
  }

  get value() {
    const parts = this.control.value.split(/[\s,x×]+/).filter(Boolean);
    return parts.length ? parts.map(Number) : undefined;
  }

  wrong() {
    const { value } = this;
    if (value === undefined) return null;
    const fits = (one) =>
      Number.isSafeInteger(one) &&
      one >= (this.least ?? -Infinity) &&
      one <= (this.most ?? Infinity);
    if (value.length < this.fewest || value.length > this.mostOf) {
      return t("field.count", {
        count: this.fewest === this.mostOf ? this.fewest : `${this.fewest}–${this.mostOf}`,
      });
    }
    return value.every(fits) ? null : expected("field.number", this);
  }
}

/** `a whole number from 1 to 4,096`, as far as there are bounds. */
function expected(key, { whole, least, most }) {
  const kind = whole ? "Whole" : "";
  const bounds = { least: bound(least), most: bound(most) };
  if (least !== undefined && most !== undefined) return t(`${key}${kind}Between`, bounds);
  if (least !== undefined) return t(`${key}${kind}From`, bounds);
  return t(`${key}${kind}`);
}

const bound = (value) => value !== undefined && number(value, decimals(value));

/** Digits after the point, so that a bound of 0.000001 is not shown as 0. */
const decimals = (value) => {
  const [, digits = "", exponent = "0"] = String(value).match(/^-?\d*\.?(\d*)(?:e-(\d+))?/);
  return digits.length + Number(exponent);
};

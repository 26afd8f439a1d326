/** DOM elements, each built in one expression; screen reader and clipboard. */

import { translate } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element. The property `t` is the key of its text and `label` the key of its accessible
 * name, either also as `[key, values]`; `on` maps event names to listeners. All others are
 * attributes: `true` sets an empty one; `false`, null and undefined set none.
 */
export function h(tag, properties = {}, ...children) {
  return build(document.createElement(tag), properties, children);
}

/** An SVG element, with the same properties. */
export function svg(tag, properties = {}, ...children) {
  return build(document.createElementNS(SVG, tag), properties, children);
}

function build(element, { t, label, on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  if (t) translate(element, "text", ...[t].flat());
  if (label) translate(element, "label", ...[label].flat());
  return element;
}

/** An icon: the path of a line drawing on 24 x 24. */
export function icon(path) {
  return svg(
    "svg",
    {
      viewBox: "0 0 24 24",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 2,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
    },
    svg("path", { d: path }),
  );
}

/** A form control with its label. */
export function field(key, control, hint) {
  return h("label", { class: "field" }, h("span", { t: key }), control, hint ?? null);
}

/** A select box. Its options are `[value, text]` pairs; the listener gets the new value. */
export function select(options, selected, listener) {
  const element = h("select", { on: { change: () => listener(element.value) } });
  setOptions(element, options, selected);
  return element;
}

/** Replace the options of a select box. The current value stays if it is still one of them. */
export function setOptions(element, options, selected = element.value) {
  element.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  if (options.some(([value]) => String(value) === String(selected))) element.value = selected;
}

/** Have a screen reader read a text aloud. */
export function announce(text) {
  document.getElementById("announcements").textContent = text;
}

export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Browsers offer the clipboard only over HTTPS and on localhost.
  const area = h("textarea", { class: "visually-hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

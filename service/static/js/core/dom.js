/** Elements, made in one expression. */

import { translated } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. Of the properties `t` is the key of its text and `label` that of its accessible name
 * (either with values: `[key, values]`), `on` maps events to listeners, the rest are attributes:
 * `true` sets an empty one, `false`, null and undefined none.
 */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same in an SVG. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, { t, label, on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  if (t) translated(element, "text", ...[t].flat());
  if (label) translated(element, "label", ...[label].flat());
  return element;
}

/** An icon: the path of a 24 x 24 drawing in lines. */
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

/** A labelled field of a form. */
export function field(key, control, hint) {
  return h("label", { class: "field" }, h("span", { t: key }), control, hint ?? null);
}

/** A list to choose from: `[value, text]` pairs. */
export function choice(options, chosen, listener, properties = {}) {
  const select = h("select", { ...properties, on: { change: () => listener(select.value) } });
  offer(select, options, chosen);
  return select;
}

/** Replace what a list offers, keeping what is chosen where that is still there. */
export function offer(select, options, chosen = select.value) {
  select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

/** Say something to those who listen to the page instead of looking at it. */
export function speak(text) {
  document.getElementById("spoken").textContent = text;
}

/** Light or dark: as the system says, or as was chosen. */

import { h } from "./dom.js";

const CHOSEN = "perceptd.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
const probe = h("i", { hidden: true });

export function start() {
  document.body.append(probe);
  const chosen = localStorage.getItem(CHOSEN);
  if (chosen) document.documentElement.dataset.theme = chosen;
  system.addEventListener("change", tell);
}

export function isDark() {
  return (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
}

/** The other one, kept; what the system says anyway is not. */
export function toggle() {
  const wanted = isDark() ? "light" : "dark";
  if ((wanted === "dark") === system.matches) {
    localStorage.removeItem(CHOSEN);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(CHOSEN, wanted);
    document.documentElement.dataset.theme = wanted;
  }
  tell();
}

/** Called whenever the colours have changed: what is painted has to be painted again. */
export function onTheme(listener) {
  listeners.add(listener);
}

function tell() {
  for (const listener of listeners) listener();
}

/** What a colour of `theme.css` is now, as `[red, green, blue]`. */
export function color(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);
}

/** The same for a canvas. */
export function paint(name, alpha = 1) {
  return `rgb(${color(name).join(" ")} / ${alpha})`;
}

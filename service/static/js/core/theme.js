/** Light or dark colours: those of the system, or the user's choice. */

import { h } from "./dom.js";

const STORAGE_KEY = "perceptd.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
const probe = h("i", { hidden: true });

export function start() {
  document.body.append(probe);
  const theme = localStorage.getItem(STORAGE_KEY);
  if (theme) document.documentElement.dataset.theme = theme;
  system.addEventListener("change", notifyListeners);
}

export function isDark() {
  return (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
}

/** Change the theme. It is stored only where it differs from that of the system. */
export function toggle() {
  const wanted = isDark() ? "light" : "dark";
  if ((wanted === "dark") === system.matches) {
    localStorage.removeItem(STORAGE_KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(STORAGE_KEY, wanted);
    document.documentElement.dataset.theme = wanted;
  }
  notifyListeners();
}

/** Call a listener after each change of colours, to repaint its canvas. */
export function onTheme(listener) {
  listeners.add(listener);
}

function notifyListeners() {
  for (const listener of listeners) listener();
}

/** The current value of a colour of `base.css`, as `[red, green, blue]`. */
export function color(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);
}

/** The same as a CSS colour, for a canvas. */
export function cssColor(name, alpha = 1) {
  return `rgb(${color(name).join(" ")} / ${alpha})`;
}

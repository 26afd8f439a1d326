/** Texts, numbers and times in the user's language. The texts are in `text/`. */

const LANGUAGES = { en: "English", ko: "한국어" };
const STORAGE_KEY = "perceptd.language";

let language = "en";
let texts = {};
const valuesOf = new WeakMap(); // element -> the values of its { text, label }
const listeners = new Set();

/** Load the texts in the user's choice of language, or else in the browser's. */
export async function start() {
  const preferred = navigator.languages.map((tag) => tag.slice(0, 2));
  const known = [localStorage.getItem(STORAGE_KEY), ...preferred].find((tag) => tag in LANGUAGES);
  await load(known ?? "en");
}

/** The language that the page can change to, with its own name. */
export function other() {
  const tag = Object.keys(LANGUAGES).find((one) => one !== language);
  return { tag, name: LANGUAGES[tag] };
}

export async function choose(tag) {
  localStorage.setItem(STORAGE_KEY, tag);
  await load(tag);
}

/** Call a listener after each change of language. */
export function onLanguage(listener) {
  listeners.add(listener);
}

async function load(tag) {
  texts = await (await fetch(`static/text/${tag}.json`)).json();
  language = tag;
  document.documentElement.lang = tag;
  updateTexts(document);
  for (const listener of listeners) listener();
}

/** Update the texts below an element that was not in the page when the language changed. */
export function updateTexts(root) {
  for (const element of root.querySelectorAll("[data-t], [data-t-label]")) update(element);
}

/** The text of a key, with each `{name}` replaced by its value. */
export function t(key, values = {}) {
  if (!(key in texts)) throw new Error(`no text for ${key}`);
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether a key has a text. Names that come from a plug-in have none. */
export const hasText = (key) => key in texts;

/** Set the "text" or the "label" (accessible name) of an element; it follows the language. */
export function translate(element, what, key, values = {}) {
  element.setAttribute(what === "label" ? "data-t-label" : "data-t", key);
  valuesOf.set(element, { ...valuesOf.get(element), [what]: values });
  update(element);
}

function update(element) {
  const values = valuesOf.get(element) ?? {};
  const { t: text, tLabel: label } = element.dataset;
  if (text) element.textContent = t(text, values.text);
  if (label) {
    const name = t(label, values.label);
    element.setAttribute("aria-label", name);
    if (element.matches("button, a")) element.title = name;
  }
}

export function number(value, digits = 0) {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, format).format(value);
}

export function percent(value, digits = 1) {
  return `${number(100 * value, digits)} %`;
}

export function dateTime(iso) {
  const format = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, format).format(new Date(iso));
}

/** Seconds as a text: `8.1 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(seconds) {
  if (seconds < 10) return t("time.seconds", { s: number(seconds, 1) });
  const s = Math.round(seconds);
  if (s < 60) return t("time.seconds", { s: number(s) });
  if (s < 3600) return t("time.minutes", { m: Math.floor(s / 60), s: s % 60 });
  return t("time.hours", { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
}

/** The page's words, in the reader's language. All of them stand in `text/`. */

const LANGUAGES = { en: "English", ko: "한국어" };
const CHOSEN = "perceptd.language";

let language = "en";
let texts = {};
const said = new WeakMap(); // element -> { text: [key, values], label: [key, values] }
const listeners = new Set();

/** Load the words of the language that was chosen, or that the browser prefers. */
export async function start() {
  const preferred = navigator.languages.map((tag) => tag.slice(0, 2));
  const known = [localStorage.getItem(CHOSEN), ...preferred].find((tag) => tag in LANGUAGES);
  await speakIn(known ?? "en");
}

/** The language that is not spoken now, and its own name. */
export function other() {
  const tag = Object.keys(LANGUAGES).find((one) => one !== language);
  return { tag, name: LANGUAGES[tag] };
}

export async function choose(tag) {
  localStorage.setItem(CHOSEN, tag);
  await speakIn(tag);
}

/** Called whenever the language has changed. */
export function onLanguage(listener) {
  listeners.add(listener);
}

async function speakIn(tag) {
  texts = await (await fetch(`static/text/${tag}.json`)).json();
  language = tag;
  document.documentElement.lang = tag;
  translateAll();
  for (const listener of listeners) listener();
}

/** The text of a key, `{name}` replaced by its value. */
export function t(key, values = {}) {
  if (!(key in texts)) throw new Error(`no text for ${key}`);
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Whether there is a text of a key: a plug-in brings names that the page has no words for. */
export const knows = (key) => key in texts;

/** Give an element a text or an accessible name that follows the language. */
export function translated(element, what, key, values = {}) {
  const mark = what === "label" ? "data-t-label" : "data-t";
  element.setAttribute(mark, key);
  said.set(element, { ...said.get(element), [what]: values });
  translate(element);
}

function translateAll() {
  for (const element of document.querySelectorAll("[data-t], [data-t-label]")) translate(element);
}

function translate(element) {
  const values = said.get(element) ?? {};
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

export function moment(iso) {
  const format = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, format).format(new Date(iso));
}

/** Seconds in words: `8.1 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(seconds) {
  if (seconds < 10) return t("time.seconds", { s: number(seconds, 1) });
  const s = Math.round(seconds);
  if (s < 60) return t("time.seconds", { s: number(s) });
  if (s < 3600) return t("time.minutes", { m: Math.floor(s / 60), s: s % 60 });
  return t("time.hours", { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
}

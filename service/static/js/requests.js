/** What the page asked the service, to be copied: the last request in a bar, the rest behind it. */

import { onRequest } from "./api.js";
import { h } from "./dom.js";
import { number, onLanguage, t } from "./language.js";
import { tell } from "./notices.js";
import { curl, python } from "./snippets.js";

const KEPT = 30;
const SHOWN = 4000; // characters; all of them are copied

const asked = []; // { request, item }, newest first
let chosen = null; // one of them; null follows the newest
let snippet = curl;

const last = h("span", { class: "last" });
const list = h("ol", { label: "requests.title" });
const code = h("pre", { tabindex: 0, role: "region", label: "requests.code" });
const kinds = [kindButton("curl", curl), kindButton("Python", python)];
const body = h(
  "div",
  { class: "body", hidden: true },
  list,
  h("div", { class: "stack" }, h("div", { class: "row" }, kinds, copyButton("requests.copy")), code),
);
const toggle = h("button", {
  class: "button slim",
  type: "button",
  t: "requests.show",
  "aria-expanded": "false",
  on: { click: () => open(body.hidden) },
});

export function start() {
  const bar = h(
    "div",
    { class: "bar" },
    last,
    copyButton("requests.copyCurl", curl),
    copyButton("requests.copyPython", python),
    toggle,
  );
  document.getElementById("requests").append(bar, body);
  onRequest(note);
  onLanguage(show);
  show();
}

function kindButton(name, made) {
  const pick = () => {
    snippet = made;
    for (const button of kinds) button.setAttribute("aria-pressed", String(button === picked));
    showCode();
  };
  const picked = h(
    "button",
    {
      class: "button slim",
      type: "button",
      "aria-pressed": String(made === snippet),
      on: { click: pick },
    },
    name,
  );
  return picked;
}

/** Copies what is shown, as code of a kind; without one, of the kind that was picked. */
function copyButton(key, made) {
  const copy = async () => {
    const { request } = chosen ?? asked[0] ?? {};
    if (!request) return;
    await toClipboard(await (made ?? snippet)(request));
    tell(t("requests.copied"));
  };
  return h("button", { class: "button slim", type: "button", t: key, on: { click: copy } });
}

async function toClipboard(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // A page that came over plain HTTP from another machine has no clipboard of its own.
  const area = h("textarea", { class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function open(wanted) {
  body.hidden = !wanted;
  toggle.setAttribute("aria-expanded", String(wanted));
  if (!wanted) chosen = null;
  show();
}

/** Keep a request; the same again, as while something is drawn, takes the place of the last. */
function note(request) {
  const newest = asked[0];
  const again = newest?.request.method === request.method && newest.request.path === request.path;
  if (again) {
    newest.request = request;
  } else {
    asked.unshift(entry(request));
    list.prepend(asked[0].item);
    if (asked.length > KEPT) forget(asked.pop());
  }
  show();
}

function entry(request) {
  const noted = { request };
  const pick = () => {
    chosen = noted;
    show();
  };
  noted.item = h("li", {}, h("button", { type: "button", on: { click: pick } }));
  return noted;
}

function forget(noted) {
  noted.item.remove();
  if (chosen === noted) chosen = null;
}

const line = ({ method, path, status, ms }) => `${method} /${path}  ${status}  ${number(ms)} ms`;

function show() {
  const current = chosen ?? asked[0];
  last.textContent = current ? line(current.request) : t("requests.none");
  if (body.hidden) return;
  for (const noted of asked) {
    noted.item.firstChild.textContent = line(noted.request);
    noted.item.firstChild.setAttribute("aria-pressed", String(noted === current));
  }
  showCode();
}

async function showCode() {
  const current = chosen ?? asked[0];
  if (!current) return;
  const text = await snippet(current.request);
  code.textContent = text.length > SHOWN ? `${text.slice(0, SHOWN)} …` : text;
}

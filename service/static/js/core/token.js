/** The token that some requests need, kept for this tab only and never shown again. */

import { h, icon } from "./dom.js";
import { translated } from "./language.js";

const KEPT = "perceptd.token";
const LOCK = "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3";
const OPEN = "M6 11h12v9H6zM8 11V8a4 4 0 0 1 7.5-2";

let asking = null; // one question at a time, however many requests wait for it

/** The header that carries it; undefined without one. */
export function authorization() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}` } : undefined;
}

/** Ask for a token; whether one was given. `problem` is what the service said of the last. */
export function askForToken({ admin, problem }) {
  asking ??= question(admin, problem).finally(() => {
    asking = null;
  });
  return asking;
}

function question(admin, problem) {
  const wrong = problem && authorization();
  const input = h("input", {
    type: "password",
    name: "token",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-where",
  });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "token-title" },
    h(
      "form",
      { method: "dialog", class: "stack" },
      h("h2", { id: "token-title", t: admin ? "token.admin" : "token.reading" }),
      h("p", { class: "muted", id: "token-where", t: "token.where" }),
      wrong ? h("p", { class: "badge bad", role: "alert", t: "token.wrong" }) : null,
      h("label", { class: "field" }, h("span", { t: "token.token" }), input),
      h(
        "div",
        { class: "row" },
        h("button", { class: "button main", value: "given", t: "token.use" }),
        h("button", {
          class: "button",
          type: "button",
          t: "cancel",
          on: { click: () => dialog.close("") },
        }),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "given" ? input.value.trim() : "";
      if (given) keep(given);
      dialog.remove();
      resolve(!!given);
    });
  });
}

function keep(token) {
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
  show();
}

const button = () => document.getElementById("token");

/** The button that gives a token ahead of time, or forgets it. */
export function start() {
  button().addEventListener("click", () => {
    if (authorization()) keep("");
    else askForToken({ admin: true });
  });
  show();
}

function show() {
  const has = !!authorization();
  button().replaceChildren(icon(has ? OPEN : LOCK));
  translated(button(), "label", has ? "token.forget" : "token.give");
}

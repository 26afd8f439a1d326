/** The token for the service, stored for this tab only. */

import { h, icon } from "./dom.js";
import { translate } from "./language.js";

const STORAGE_KEY = "perceptd.token";
const LOCK = "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3";
const OPEN = "M6 11h12v9H6zM8 11V8a4 4 0 0 1 7.5-2";

let pending = null; // one dialog serves all requests that wait for a token

/** The header with the token; undefined if there is no token. */
export function authorization() {
  const token = sessionStorage.getItem(STORAGE_KEY);
  return token ? { Authorization: `Bearer ${token}` } : undefined;
}

/** Ask the user for a token; resolves to whether there is one. `problem` rejected the last. */
export function askForToken({ admin, problem }) {
  pending ??= openDialog(admin, problem).finally(() => {
    pending = null;
  });
  return pending;
}

function openDialog(admin, problem) {
  const isRejected = problem && authorization();
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
      h("h2", { id: "token-title", t: admin ? "token.admin" : "token.required" }),
      h("p", { class: "muted", id: "token-where", t: "token.where" }),
      isRejected ? h("p", { class: "badge bad", role: "alert", t: "token.rejected" }) : null,
      h("label", { class: "field" }, h("span", { t: "token.token" }), input),
      h(
        "div",
        { class: "row" },
        h("button", { class: "button main", value: "token", t: "token.use" }),
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
      const token = dialog.returnValue === "token" ? input.value.trim() : "";
      if (token) store(token);
      dialog.remove();
      resolve(!!token);
    });
  });
}

function store(token) {
  if (token) sessionStorage.setItem(STORAGE_KEY, token);
  else sessionStorage.removeItem(STORAGE_KEY);
  show();
}

const button = () => document.getElementById("token");

/** The button in the header enters a token, or removes it. */
export function start() {
  button().addEventListener("click", () => {
    if (authorization()) store("");
    else askForToken({ admin: true });
  });
  show();
}

function show() {
  const has = !!authorization();
  button().replaceChildren(icon(has ? OPEN : LOCK));
  translate(button(), "label", has ? "token.remove" : "token.enter");
}

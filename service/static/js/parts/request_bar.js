/** What the page asked the service, to be copied: the last request in a bar, the rest behind it. */

import { onRequest } from "../core/api.js";
import { copy } from "../core/clipboard.js";
import { h } from "../core/dom.js";
import { number, onLanguage, t } from "../core/language.js";
import { curl, python } from "../core/snippets.js";

const KEPT = 30;
const REPEATED = 4; // of the newest, which may be asked in turn
const SHOWN = 4000; // characters; all of them are copied

export function start() {
  const bar = new RequestBar();
  document.getElementById("requests").append(bar.head, bar.body);
  onRequest((request) => bar.note(request));
  onLanguage(() => bar.show());
}

class RequestBar {
  #asked = []; // { request, item }, newest first
  #chosen = null; // one of them; null follows the newest
  #snippet = curl;
  #copies = []; // the buttons that copy

  constructor() {
    this.last = h("span", { class: "last" });
    this.list = h("ol", { label: "requests.title" });
    this.code = h("pre", { tabindex: 0, role: "region", label: "requests.code" });
    this.kinds = [this.#kindButton("curl", curl), this.#kindButton("Python", python)];
    this.toggle = h("button", {
      class: "button slim",
      type: "button",
      t: "requests.show",
      "aria-expanded": "false",
      on: { click: () => this.#open(this.body.hidden) },
    });
    this.head = h(
      "div",
      { class: "bar" },
      this.last,
      h(
        "div",
        { class: "row copy" },
        this.#copyButton("requests.copyCurl", () => curl),
        this.#copyButton("requests.copyPython", () => python),
      ),
      this.toggle,
    );
    const kinds = h(
      "div",
      { class: "row" },
      this.kinds,
      this.#copyButton("requests.copy", () => this.#snippet),
    );
    this.body = h(
      "div",
      { class: "body", hidden: true },
      this.list,
      h("div", { class: "stack" }, kinds, this.code),
    );
    this.show();
  }

  /** Keep a request; one that is repeated, as while something is drawn, takes its own place. */
  note(request) {
    const again = this.#asked
      .slice(0, REPEATED)
      .find((one) => one.request.method === request.method && one.request.path === request.path);
    if (again) {
      again.request = request;
    } else {
      this.#asked.unshift(this.#entry(request));
      this.list.prepend(this.#asked[0].item);
      if (this.#asked.length > KEPT) this.#forget(this.#asked.pop());
    }
    this.show();
  }

  show() {
    const current = this.#current();
    for (const button of this.#copies) button.disabled = !current;
    this.last.textContent = current ? line(current.request) : t("requests.none");
    if (this.body.hidden) return;
    for (const noted of this.#asked) {
      noted.item.firstChild.textContent = line(noted.request);
      noted.item.firstChild.setAttribute("aria-pressed", String(noted === current));
    }
    this.#showCode();
  }

  #current() {
    return this.#chosen ?? this.#asked[0];
  }

  async #showCode() {
    const current = this.#current();
    if (!current) return;
    const text = await this.#snippet(current.request);
    this.code.textContent = text.length > SHOWN ? `${text.slice(0, SHOWN)} …` : text;
  }

  #open(wanted) {
    this.body.hidden = !wanted;
    this.toggle.setAttribute("aria-expanded", String(wanted));
    if (!wanted) this.#chosen = null;
    this.show();
  }

  #entry(request) {
    const noted = { request };
    const pick = () => {
      this.#chosen = noted;
      this.show();
    };
    noted.item = h("li", {}, h("button", { type: "button", on: { click: pick } }));
    return noted;
  }

  #forget(noted) {
    noted.item.remove();
    if (this.#chosen === noted) this.#chosen = null;
  }

  #kindButton(name, snippet) {
    const pick = () => {
      this.#snippet = snippet;
      for (const one of this.kinds) one.setAttribute("aria-pressed", String(one === button));
      this.#showCode();
    };
    const button = h(
      "button",
      {
        class: "button slim",
        type: "button",
        "aria-pressed": String(snippet === this.#snippet),
        on: { click: pick },
      },
      name,
    );
    return button;
  }

  #copyButton(key, snippet) {
    const copyIt = async () => {
      const current = this.#current();
      if (current) await copy(await snippet()(current.request));
    };
    const button = h("button", {
      class: "button slim",
      type: "button",
      disabled: true, // until something was asked
      t: key,
      on: { click: copyIt },
    });
    this.#copies.push(button);
    return button;
  }
}

const line = ({ method, path, status, ms }) => `${method} /${path}  ${status}  ${number(ms)} ms`;

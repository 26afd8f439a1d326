/** The bar with the requests of the page, which can be copied as code. */

import { onRequest } from "../core/api.js";
import { copyText, h } from "../core/dom.js";
import { number, onLanguage, t } from "../core/language.js";
import { notify } from "../core/notices.js";
import { curl, python } from "../core/snippets.js";

const MAX_REQUESTS = 30;
const MERGED = 4; // a request that is like one of the newest replaces it
const MAX_CHARACTERS = 4000; // shown of the code; all of it is copied

export function start() {
  const bar = new RequestBar();
  document.getElementById("requests").append(bar.head, bar.body);
  onRequest((request) => bar.add(request));
  onLanguage(() => bar.show());
}

class RequestBar {
  #entries = []; // { request, item }, newest first
  #selected = null; // an entry; null follows the newest
  #snippet = curl;
  #copyButtons = [];

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
      on: { click: () => this.#setOpen(this.body.hidden) },
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

  /** Add a request. While the user draws, each replaces the one before. */
  add(request) {
    const same = this.#entries
      .slice(0, MERGED)
      .find((one) => one.request.method === request.method && one.request.path === request.path);
    if (same) {
      same.request = request;
    } else {
      this.#entries.unshift(this.#createEntry(request));
      this.list.prepend(this.#entries[0].item);
      if (this.#entries.length > MAX_REQUESTS) this.#remove(this.#entries.pop());
    }
    this.show();
  }

  show() {
    const current = this.#current();
    for (const button of this.#copyButtons) button.disabled = !current;
    this.last.textContent = current ? line(current.request) : t("requests.none");
    if (this.body.hidden) return;
    for (const entry of this.#entries) {
      entry.item.firstChild.textContent = line(entry.request);
      entry.item.firstChild.setAttribute("aria-pressed", String(entry === current));
    }
    this.#showCode();
  }

  #current() {
    return this.#selected ?? this.#entries[0];
  }

  async #showCode() {
    const current = this.#current();
    if (!current) return;
    const text = await this.#snippet(current.request);
    this.code.textContent =
      text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)} …` : text;
  }

  #setOpen(isOpen) {
    this.body.hidden = !isOpen;
    this.toggle.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) this.#selected = null;
    this.show();
  }

  #createEntry(request) {
    const entry = { request };
    const choose = () => {
      this.#selected = entry;
      this.show();
    };
    entry.item = h("li", {}, h("button", { type: "button", on: { click: choose } }));
    return entry;
  }

  #remove(entry) {
    entry.item.remove();
    if (this.#selected === entry) this.#selected = null;
  }

  #kindButton(name, snippet) {
    const choose = () => {
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
        on: { click: choose },
      },
      name,
    );
    return button;
  }

  #copyButton(key, snippet) {
    const click = async () => {
      const current = this.#current();
      if (!current) return;
      await copyText(await snippet()(current.request));
      notify(t("requests.copied"));
    };
    const button = h("button", {
      class: "button slim",
      type: "button",
      disabled: true, // until the first request
      t: key,
      on: { click },
    });
    this.#copyButtons.push(button);
    return button;
  }
}

const line = ({ method, path, status, ms }) => `${method} /${path}  ${status}  ${number(ms)} ms`;

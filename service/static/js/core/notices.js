/** Notices in a corner of the page. */

import { Problem, TokenDeclined, onRequest } from "./api.js";
import { h, icon } from "./dom.js";
import { t } from "./language.js";

const NOTICE_MS = 6000;
const CROSS = "M6 6l12 12M18 6L6 18";

/** Remove the notice of an unreachable service after the next response. */
export function start() {
  onRequest(() => document.querySelector(".notice.unreachable")?.remove(), { quiet: true });
}

/** Show a notice for some seconds. */
export function notify(text, { isError = false } = {}) {
  const notice = show(text, []);
  notice.classList.toggle("bad", isError);
  setTimeout(() => notice.remove(), NOTICE_MS);
}

/** Show an error with its invalid fields until the user closes it. Throws what is a bug. */
export function showError(error) {
  if (error instanceof TokenDeclined || error.name === "AbortError") return;
  if (error instanceof Problem) {
    const lines = error.errors.map(
      ({ loc, expected, got }) => `${loc.join(".")}: ${t("error.expected", { expected, got })}`,
    );
    show(error.message, lines).classList.add("bad");
  } else if (error instanceof TypeError) {
    show(t("error.unreachable"), []).classList.add("bad", "unreachable");
  } else {
    throw error;
  }
}

/** Show a notice, in place of one with the same text. */
function show(text, lines) {
  const notices = document.getElementById("notices");
  for (const old of notices.children) if (old.firstChild.textContent === text) old.remove();
  const notice = h(
    "div",
    { class: "notice" },
    h("p", {}, text),
    h(
      "button",
      { type: "button", label: "close", on: { click: () => notice.remove() } },
      icon(CROSS),
    ),
    lines.length
      ? h(
          "ul",
          {},
          lines.map((line) => h("li", {}, line)),
        )
      : null,
  );
  notices.append(notice);
  return notice;
}

/** Wrap a listener so that its errors are shown. */
export function guarded(action) {
  return async (...values) => {
    try {
      await action(...values);
    } catch (error) {
      showError(error);
    }
  };
}

/** What went well or wrong, told in a corner. */

import { Problem, Refused } from "./api.js";
import { h, icon } from "./dom.js";
import { t } from "./language.js";

const STAYS_MS = 6000;
const CROSS = "M6 6l12 12M18 6L6 18";

export function tell(text) {
  const notice = show(text, []);
  setTimeout(() => notice.remove(), STAYS_MS);
}

/** An error, with each field that was wrong. It stays until it is closed. */
export function complain(error) {
  if (error instanceof Refused || error.name === "AbortError") return;
  if (error instanceof Problem) {
    const faults = error.faults.map(
      ({ loc, expected, got }) => `${loc.join(".")}: ${t("error.expected", { expected, got })}`,
    );
    show(error.message, faults).classList.add("bad");
  } else if (error instanceof TypeError) {
    show(t("error.unreachable"), []).classList.add("bad");
  } else {
    throw error;
  }
}

function show(text, lines) {
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
  document.getElementById("notices").append(notice);
  return notice;
}

/** A listener that tells its errors. */
export function guarded(action) {
  return async (...given) => {
    try {
      await action(...given);
    } catch (error) {
      complain(error);
    }
  };
}

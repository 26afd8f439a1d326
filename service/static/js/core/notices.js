/** What went well or wrong, told in a corner. */

import { Problem, Refused, onRequest } from "./api.js";
import { h, icon } from "./dom.js";
import { t } from "./language.js";

const STAYS_MS = 6000;
const CROSS = "M6 6l12 12M18 6L6 18";

/** Nobody answering is over with the next answer. */
export function start() {
  onRequest(() => document.querySelector(".notice.unreachable")?.remove(), { quiet: true });
}

/** What was done, or `isWrong`, what cannot be done. */
export function tell(text, { isWrong = false } = {}) {
  const notice = show(text, []);
  notice.classList.toggle("bad", isWrong);
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
    show(t("error.unreachable"), []).classList.add("bad", "unreachable");
  } else {
    throw error;
  }
}

/** A notice; the same one that is still there is replaced. */
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

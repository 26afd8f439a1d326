/** Which view is shown: the address says it, `#/plane/dnn`. */

import { onLanguage, t } from "./core/language.js";
import { guarded } from "./core/notices.js";

const VIEWS = {
  draw: () => import("./views/draw.js"),
  plane: () => import("./views/plane.js"),
  train: () => import("./views/train.js"),
  versions: () => import("./views/versions.js"),
  jobs: () => import("./views/jobs.js"),
};

const built = new Map(); // name -> what the module's `build()` made: { element, show(), hide() }
let shown = null;
let current = "draw"; // its name
let round = 0; // of where somebody went, the newest counts

export async function start() {
  const again = guarded(route);
  addEventListener("hashchange", again);
  addEventListener("click", ({ target }) => {
    if (target.closest?.("a")?.hash === location.hash) again(); // it may have failed before
  });
  onLanguage(() => entitle(current));
  await route();
}

/** Go to a view: `go("plane", "dnn")`. */
export function go(...parts) {
  location.hash = `#/${parts.map(encodeURIComponent).join("/")}`;
}

async function route() {
  const mine = ++round;
  const [, given, ...rest] = location.hash.split("/").map(decodeURIComponent);
  const name = given in VIEWS ? given : "draw";
  if (!built.has(name)) {
    const { build } = await VIEWS[name]();
    if (mine !== round) return;
    built.set(name, build());
  }
  const view = built.get(name);
  if (view !== shown) {
    shown?.hide();
    document.getElementById("main").replaceChildren(view.element);
    for (const link of document.querySelectorAll(".views a")) {
      if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (shown) document.getElementById("main").focus();
    shown = view;
    scrollTo(0, 0);
    entitle(name);
  }
  await view.show(...rest);
}

function entitle(name) {
  current = name;
  document.title = `${t(`shell.${name}`)} · perceptd`;
}

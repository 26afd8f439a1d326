/** Shows the view that the address names: `#/plane/dnn`. */

import { onLanguage, t, updateTexts } from "./core/language.js";
import { guarded } from "./core/notices.js";

const VIEWS = {
  draw: () => import("./views/draw.js"),
  plane: () => import("./views/plane.js"),
  train: () => import("./views/train.js"),
  versions: () => import("./views/versions.js"),
  jobs: () => import("./views/jobs.js"),
};

const built = new Map(); // name -> a view: { element, show(), hide() }
let shown = null; // a view
let current = "draw"; // its name
let routes = 0; // counts calls of route(), to ignore modules that load late

export async function start() {
  const again = guarded(route);
  addEventListener("hashchange", again);
  addEventListener("click", ({ target }) => {
    if (target.closest?.("a")?.hash === location.hash) again(); // to retry what failed
  });
  onLanguage(() => setTitle(current));
  await route();
}

async function route() {
  const turn = ++routes;
  const [, wanted, ...rest] = location.hash.split("/").map(decodeURIComponent);
  const name = wanted in VIEWS ? wanted : "draw";
  if (!built.has(name)) {
    const { build } = await VIEWS[name]();
    if (turn !== routes) return;
    built.set(name, build());
  }
  const view = built.get(name);
  if (view !== shown) {
    shown?.hide();
    updateTexts(view.element);
    document.getElementById("main").replaceChildren(view.element);
    for (const link of document.querySelectorAll(".views a")) {
      if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (shown) document.getElementById("main").focus();
    shown = view;
    scrollTo(0, 0);
    setTitle(name);
  }
  await view.show(...rest);
}

function setTitle(name) {
  current = name;
  document.title = `${t(`shell.${name}`)} · perceptd`;
}

/** Starts the page. */

import { TokenDeclined } from "./core/api.js";
import { h, icon } from "./core/dom.js";
import * as language from "./core/language.js";
import * as models from "./core/models.js";
import * as notices from "./core/notices.js";
import * as theme from "./core/theme.js";
import * as token from "./core/token.js";
import * as requestBar from "./parts/request_bar.js";
import * as router from "./router.js";

const SUN =
  "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2-1.4-1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0z";
const MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z";

const themeButton = document.getElementById("theme");
const languageButton = document.getElementById("language");

function showTools() {
  themeButton.replaceChildren(icon(theme.isDark() ? SUN : MOON));
  language.translate(themeButton, "label", theme.isDark() ? "shell.light" : "shell.dark");
  const { tag, name } = language.other();
  languageButton.textContent = name;
  languageButton.lang = tag;
}

async function start() {
  theme.start();
  await language.start();
  token.start();
  requestBar.start();
  notices.start();
  showTools();
  themeButton.addEventListener("click", theme.toggle);
  languageButton.addEventListener("click", () => language.choose(language.other().tag));
  theme.onTheme(showTools);
  language.onLanguage(showTools);
  await notices.guarded(open)();
}

async function open() {
  try {
    await models.refresh();
  } catch (error) {
    if (error instanceof TokenDeclined) return showLocked();
    notices.showError(error);
  }
  await router.start();
}

/** Without a token, no view has anything to show. */
function showLocked() {
  const retry = h("button", {
    class: "button main",
    type: "button",
    t: "token.retry",
    on: { click: notices.guarded(open) },
  });
  document
    .getElementById("main")
    .replaceChildren(
      h(
        "section",
        { class: "panel stack" },
        h("h1", { t: "token.required" }),
        h("p", { t: "token.missing" }),
        h("p", {}, retry),
      ),
    );
}

start();

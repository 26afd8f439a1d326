/** The page, started. */

import { Refused } from "./core/api.js";
import * as language from "./core/language.js";
import * as models from "./core/models.js";
import * as notices from "./core/notices.js";
import * as requests from "./parts/request_bar.js";
import * as router from "./router.js";
import * as theme from "./core/theme.js";
import * as token from "./core/token.js";
import { h, icon } from "./core/dom.js";

const SUN =
  "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2-1.4-1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0z";
const MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z";

const themeButton = document.getElementById("theme");
const languageButton = document.getElementById("language");

function showTools() {
  themeButton.replaceChildren(icon(theme.isDark() ? SUN : MOON));
  language.translated(themeButton, "label", theme.isDark() ? "shell.light" : "shell.dark");
  const { tag, name } = language.other();
  languageButton.textContent = name;
  languageButton.lang = tag;
}

async function start() {
  theme.start();
  await language.start();
  token.start();
  requests.start();
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
    if (error instanceof Refused) return showLocked();
    notices.complain(error);
  }
  await router.start();
}

/** No view has anything to show without a token, and none was given. */
function showLocked() {
  const again = h("button", {
    class: "button main",
    type: "button",
    t: "token.again",
    on: { click: notices.guarded(open) },
  });
  document
    .getElementById("main")
    .replaceChildren(
      h(
        "section",
        { class: "panel stack" },
        h("h1", { t: "token.reading" }),
        h("p", { t: "token.without" }),
        h("p", {}, again),
      ),
    );
}

start();

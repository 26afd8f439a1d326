/** Text for another program. */

import { h } from "./dom.js";
import { t } from "./language.js";
import { tell } from "./notices.js";

/** Copy a text, and say so. */
export async function copy(text) {
  await toClipboard(text);
  tell(t("requests.copied"));
}

async function toClipboard(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // A page that came over plain HTTP from another machine has no clipboard of its own.
  const area = h("textarea", { class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

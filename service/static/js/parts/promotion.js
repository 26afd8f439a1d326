/** Which version serves, and having another one serve. */

import { put } from "../core/api.js";
import { t } from "../core/language.js";
import { refresh } from "../core/models.js";
import { tell } from "../core/notices.js";

/** The version behind an alias; undefined where none is. */
export const behind = (versions, alias) =>
  versions.find(({ aliases }) => aliases.includes(alias))?.version;

/** Where a version of the plane lies beside the one in production, where there is one. */
export const beside = (model, production, version) =>
  `#/plane/${[model, production, version].filter(Boolean).map(encodeURIComponent).join("/")}`;

/** What it is to have a version serve in place of another: to promote it, or to go back. */
export const wayTo = (version, production) => (version < production ? "back" : "promote");

export async function promote(model, version) {
  await put(`models/${model}/aliases/production`, { version }, { admin: true });
  tell(t("promotion.done", { model, version }));
  await refresh();
}

/** Promote a version, or roll back to an older one. */

import { address } from "../core/address.js";
import { put } from "../core/api.js";
import { t } from "../core/language.js";
import { refresh } from "../core/models.js";
import { notify } from "../core/notices.js";

/** The version with an alias; undefined if there is none. */
export const versionOf = (versions, alias) =>
  versions.find(({ aliases }) => aliases.includes(alias))?.version;

/** The address that shows a version in the plane beside the one in production. */
export const compareAddress = (model, production, version) =>
  address(...["plane", model, production, version].filter(Boolean));

/** Whether serving a version means to promote it or to roll back: a part of a text's key. */
export const promotionKind = (version, production) => (version < production ? "back" : "promote");

export async function promote(model, version) {
  await put(`models/${model}/aliases/production`, { version }, { admin: true });
  notify(t("promotion.done", { model, version }));
  await refresh();
}

/** The status of a job and what the gate said of it, as badges. */

import { translated } from "../core/language.js";

const KINDS = {
  queued: "",
  running: "live",
  cancelling: "warn",
  succeeded: "good",
  failed: "bad",
  cancelled: "",
  promoted: "good",
  refused: "warn",
  skipped: "",
};

/** Show a word of these in a badge; nothing hides it. */
export function showBadge(badge, word) {
  badge.hidden = !word;
  badge.className = `badge ${KINDS[word] ?? ""}`;
  if (word) translated(badge, "text", `status.${word}`);
}

export const isOver = ({ status }) => ["succeeded", "failed", "cancelled"].includes(status);

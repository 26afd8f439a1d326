/** The status of a job and the outcome of its gate, as badges. */

import { translate } from "../core/language.js";

const CLASSES = {
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

/** Show a status in a badge; without one the badge is hidden. */
export function showBadge(badge, status) {
  badge.hidden = !status;
  badge.className = `badge ${CLASSES[status] ?? ""}`;
  if (status) translate(badge, "text", `status.${status}`);
}

export const hasEnded = ({ status }) => ["succeeded", "failed", "cancelled"].includes(status);

/** A button that works once at a time. */

/**
 * Run what a button does; pressed meanwhile it does nothing, and afterwards it works again however
 * that ended. It is not `disabled`, as that would take the focus away from under the reader.
 */
export async function once(button, action) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await action();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

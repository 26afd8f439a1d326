/** The next frame of the screen. */

/** A function that has something painted in the next frame, once however often it is called. */
export function soon(paint) {
  let isWaiting = false;
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      paint();
    });
  };
}

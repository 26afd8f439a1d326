/** Addresses of the views, such as `#/plane/dnn`. */

export const address = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

export function go(...parts) {
  location.hash = address(...parts);
}

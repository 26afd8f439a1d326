/** The models that are being served. */

import { get, post } from "./api.js";

let models = [];
const listeners = new Set();

export async function refresh() {
  ({ models } = await get("models", { quiet: true }));
  for (const listener of listeners) listener();
}

/** Call a listener after each refresh. */
export function onModels(listener) {
  listeners.add(listener);
}

export const allModels = () => models;
export const findModel = (name) => models.find((model) => model.name === name);
export const imageModels = () => models.filter((model) => model.input.picture);

/** Models of two numbers and two labels, which can be shown in a plane. */
export const planeModels = () =>
  models.filter(({ input, labels }) => isPlane(input.shape) && labels.length === 2);

const isPlane = (shape) => shape.length === 1 && shape[0] === 2;

export async function versionsOf(name) {
  return (await get(`models/${name}/versions`, { quiet: true })).versions;
}

/** The predictions for rows, split into requests of at most `max_rows`. */
export async function predictProba(model, version, rows, options) {
  const responses = [];
  for (let at = 0; at < rows.length; at += model.max_rows) {
    const inputs = rows.slice(at, at + model.max_rows);
    responses.push(post("predict_proba", { model: model.name, version, inputs }, options));
  }
  return (await Promise.all(responses)).flatMap(({ predictions }) => predictions);
}

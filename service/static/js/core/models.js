/** The models that serve, as the page last heard of them. */

import { get, post } from "./api.js";

let models = [];
const listeners = new Set();

/** Ask again what serves. */
export async function refresh() {
  ({ models } = await get("models", { quiet: true }));
  for (const listener of listeners) listener();
}

/** Called whenever it may have changed. */
export function onModels(listener) {
  listeners.add(listener);
}

export const all = () => models;
export const named = (name) => models.find((model) => model.name === name);
export const readingPictures = () => models.filter((model) => model.input.picture);

/** Those of two numbers and two labels, which can be shown in a plane. */
export const inThePlane = () =>
  models.filter(({ input, labels }) => isPlane(input.shape) && labels.length === 2);

const isPlane = (shape) => shape.length === 1 && shape[0] === 2;

export async function versionsOf(name) {
  return (await get(`models/${name}/versions`, { quiet: true })).versions;
}

/** Probabilities of rows, over as many requests as they take. */
export async function probabilities(model, version, rows, options) {
  const answers = [];
  for (let at = 0; at < rows.length; at += model.max_rows) {
    const inputs = rows.slice(at, at + model.max_rows);
    answers.push(post("predict_proba", { model: model.name, version, inputs }, options));
  }
  return (await Promise.all(answers)).flatMap((answer) => answer.predictions);
}

/** The settings of a network, as fields made from the JSON Schema of its config. */

import { h } from "../core/dom.js";
import { ChoiceField, NumberField, NumbersField } from "./form_fields.js";
import { plain } from "../core/figures.js";
import { knows } from "../core/language.js";

/** Fields by the name of the setting; one that the page has no field for is left out. */
export function settingFields(schema, current) {
  const fields = new Map();
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const field = fieldOf(name, property, current[name] ?? property.default);
    if (field) fields.set(name, field);
  }
  return fields;
}

/** The settings that differ from those there are. */
export function changed(fields, current) {
  const values = [...fields].map(([name, field]) => [name, parsed(field.value)]);
  const differs = ([name, value]) =>
    value !== undefined && JSON.stringify(value) !== JSON.stringify(current[name]);
  return Object.fromEntries(values.filter(differs));
}

function fieldOf(name, property, current) {
  const known = knows(`setting.${name}`);
  const words = known ? { t: `setting.${name}` } : {};
  const one = property.anyOf?.find((each) => each.type !== "null") ?? property;
  const field = made(one, words, current);
  if (!field) return null;
  if (!known) field.element.firstChild.textContent = property.title ?? name;
  if (current !== undefined && current !== null)
    field.control.placeholder = plain(current).replaceAll(" × ", ", ");
  return field;
}

function made(property, words, current) {
  const { type, minimum, maximum, exclusiveMinimum } = property;
  if (property.enum) return listOf(words, property.enum, current);
  if (type === "boolean") return listOf(words, [true, false], current);
  if (type === "integer") {
    return new NumberField(words, {
      whole: true,
      least: minimum ?? after(exclusiveMinimum),
      most: maximum,
    });
  }
  if (type === "number")
    return new NumberField(words, { least: minimum ?? exclusiveMinimum, most: maximum });
  if (type === "array") return numbers(words, property);
  return null;
}

const after = (bound) => (bound === undefined ? undefined : bound + 1);

function listOf(words, values, current) {
  return new ChoiceField(
    words,
    values.map((value) => [JSON.stringify(value), String(value)]),
    {
      chosen: JSON.stringify(current),
    },
  );
}

function numbers(words, { items, prefixItems, minItems, maxItems }) {
  const item = items || prefixItems?.[0];
  if (item?.type !== "integer") return null;
  return new NumbersField(words, {
    least: item.minimum,
    most: item.maximum,
    fewest: minItems,
    mostOf: maxItems,
    hint: h("small", { t: "setting.numbers" }),
  });
}

/** What a list holds is JSON; numbers are themselves. */
const parsed = (value) => (typeof value === "string" ? JSON.parse(value) : value);

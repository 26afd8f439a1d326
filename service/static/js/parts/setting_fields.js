/** Form fields for the settings of a network, from the JSON Schema of its config. */

import { h } from "../core/dom.js";
import { formatValue } from "../core/figures.js";
import { hasText } from "../core/language.js";
import { ChoiceField, NumberField, NumbersField } from "./form_fields.js";

/** A map from each setting to its field. Settings of an unsupported type have none. */
export function settingFields(schema, current) {
  const fields = new Map();
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const field = fieldOf(name, property, current[name] ?? property.default);
    if (field) fields.set(name, field);
  }
  return fields;
}

/** The settings that differ from the current ones. */
export function changedSettings(fields, current) {
  const values = [...fields].map(([name, field]) => [name, parse(field.value)]);
  const differs = ([name, value]) =>
    value !== undefined && JSON.stringify(value) !== JSON.stringify(current[name]);
  return Object.fromEntries(values.filter(differs));
}

function fieldOf(name, property, current) {
  const isTranslated = hasText(`setting.${name}`);
  const label = isTranslated ? { t: `setting.${name}` } : {};
  const type = property.anyOf?.find((one) => one.type !== "null") ?? property;
  const field = build(type, label, current);
  if (!field) return null;
  if (!isTranslated) field.element.firstChild.textContent = property.title ?? name;
  if (current !== undefined && current !== null)
    field.control.placeholder = formatValue(current).replaceAll(" × ", ", ");
  return field;
}

function build(property, label, current) {
  const { type, minimum, maximum, exclusiveMinimum } = property;
  if (property.enum) return listField(label, property.enum, current);
  if (type === "boolean") return listField(label, [true, false], current);
  if (type === "integer") {
    return new NumberField(label, {
      whole: true,
      min: minimum ?? after(exclusiveMinimum),
      max: maximum,
    });
  }
  if (type === "number")
    return new NumberField(label, { min: minimum ?? exclusiveMinimum, max: maximum });
  if (type === "array") return numbersField(label, property);
  return null;
}

const after = (bound) => (bound === undefined ? undefined : bound + 1);

function listField(label, values, current) {
  return new ChoiceField(
    label,
    values.map((value) => [JSON.stringify(value), String(value)]),
    { selected: JSON.stringify(current) },
  );
}

function numbersField(label, { items, prefixItems, minItems, maxItems }) {
  const item = items || prefixItems?.[0];
  if (item?.type !== "integer") return null;
  return new NumbersField(label, {
    min: item.minimum,
    max: item.maximum,
    minCount: minItems,
    maxCount: maxItems,
    hint: h("small", { t: "setting.numbers" }),
  });
}

/** The values of a select box are JSON. */
const parse = (value) => (typeof value === "string" ? JSON.parse(value) : value);

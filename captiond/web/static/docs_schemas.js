// JSON Schemas as lists of fields.

import { element, inline } from "./docs_elements.js";

export class Schemas {
  #api;

  constructor(api) {
    this.#api = api;
  }

  all() {
    return Object.entries(this.#api.components.schemas);
  }

  // The object that a reference names: "#/components/schemas/Name".
  #found(reference) {
    return reference.slice(2).split("/").reduce((object, name) => object[name], this.#api);
  }

  nameOf(schema) {
    return schema.$ref?.split("/").at(-1);
  }

  header(header) {
    const { schema, description } = header.$ref ? this.#found(header.$ref) : header;
    return { ...schema, description };
  }

  // A schema without references at its top, and with the parts of allOf joined.
  plain(schema) {
    if (schema.$ref) {
      const { $ref, ...rest } = schema;
      return { ...this.plain(this.#found($ref)), ...rest };
    }
    if (!schema.allOf) return schema;
    const { allOf, ...joined } = schema;
    for (const part of allOf.map((each) => this.plain(each))) {
      const properties = { ...joined.properties };
      for (const [name, field] of Object.entries(part.properties ?? {})) {
        properties[name] = { ...properties[name], ...field };
      }
      Object.assign(joined, part, { properties });
    }
    return joined;
  }
}

export function fieldList(schema, schemas) {
  if (!schema.properties) return element("p", {}, ...typeNodes(schema, schemas));
  const required = schema.required ?? [];
  const list = element("dl", { className: "fields" });
  for (const [name, field] of Object.entries(schema.properties)) {
    const term = element("dt", {}, element("code", {}, name));
    if (required.includes(name)) term.append(" ", element("span", { className: "required" }, "required"));
    list.append(term, element("dd", {}, ...inline(field.description ?? ""), " ",
      element("span", { className: "about" }, ...typeNodes(field, schemas), limits(field))));
  }
  return list;
}

// What a schema says about types. Types with a name are links.
export function typeNodes(schema, schemas) {
  const name = schemas.nameOf(schema);
  if (name) return [element("a", { href: `#type-${name}` }, name)];
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives && !schema.properties) {
    return alternatives.flatMap((each, n) => [...(n ? [" or "] : []), ...typeNodes(each, schemas)]);
  }
  if (schema.allOf) return schema.allOf.slice(0, 1).flatMap((each) => typeNodes(each, schemas));
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [`one of ${schema.enum.join(", ")}`];
  if (schema.type === "array") return ["list of ", ...typeNodes(schema.items ?? {}, schemas)];
  if (schema.format === "binary") return ["file"];
  return [schema.type ? [schema.type].flat().join(" or ") : "any value"];
}

function limits(schema) {
  const parts = [];
  const add = (key, text) => schema[key] !== undefined && parts.push(`${text} ${schema[key]}`);
  add("minimum", "at least");
  add("exclusiveMinimum", "above");
  add("maximum", "at most");
  add("exclusiveMaximum", "below");
  add("minLength", "length at least");
  add("maxLength", "length at most");
  add("maxItems", "items at most");
  if (schema.default !== undefined && schema.default !== "") parts.push(`default ${JSON.stringify(schema.default)}`);
  return parts.length ? `, ${parts.join(", ")}` : "";
}

// What an operation refers to, put into it. Swagger UI's own way parses the whole document anew for
// every operation that is opened, which takes seconds; all our references stay within the document.

/** The part of a document at a path. */
const partAt = (document, path) => path.reduce((part, name) => part?.[name], document);

/** The names of a local reference: `#/components/schemas/Money`. */
const namesOf = (reference) => reference.slice(2).split("/").map((name) => decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~"));

// Schemas that refer to themselves keep that reference. What stands beside a reference is added to it.
function resolved(part, document, inside = []) {
  if (Array.isArray(part)) return part.map((one) => resolved(one, document, inside));
  if (part === null || typeof part !== "object") return part;
  const { $ref: reference, ...rest } = part;
  if (typeof reference !== "string" || !reference.startsWith("#/")) {
    return Object.fromEntries(Object.entries(part).map(([name, one]) => [name, resolved(one, document, inside)]));
  }
  if (inside.includes(reference)) return part;
  const meant = resolved(partAt(document, namesOf(reference)), document, [...inside, reference]);
  return Object.assign({}, meant, resolved(rest, document, inside), { $$ref: reference });
}

/** A plugin of Swagger UI that resolves operations here. */
const resolveHere = () => ({
  fn: {
    resolveSubtree: async (document, path) => ({ spec: resolved(partAt(document, path), document), errors: [] }),
  },
});

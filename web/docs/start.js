// Shows the OpenAPI document with Swagger UI. What a buyer does comes first and is open; the first
// operation can be executed at once.

const BUYERS = ["products", "carts", "checkout", "orders"];
const FIRST = ["products", "browse_products"];
const METHODS = ["get", "put", "post", "delete", "patch"];

// Moves the admin's operations of a tag to a tag of their own, and leaves optional parameters empty:
// Swagger UI would send the examples of all of them at once.
function arrange(document) {
  const admins = new Map();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const operation of METHODS.map((method) => item[method]).filter(Boolean)) {
      const [tag] = operation.tags;
      if (path.startsWith("/v1/admin/") && BUYERS.includes(tag)) {
        operation.tags = [`${tag} (admin)`];
        admins.set(operation.tags[0], document.tags.find((one) => one.name === tag));
      }
      for (const parameter of operation.parameters ?? []) {
        if (!parameter.required) delete parameter.example;
      }
    }
  }
  const buyers = document.tags.filter((one) => BUYERS.includes(one.name));
  const others = document.tags.filter((one) => !BUYERS.includes(one.name));
  const moved = [...admins].map(([name, tag]) => ({ ...tag, name }));
  document.tags = [...buyers, ...moved, ...others];
  return document;
}

function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", show);
  show();
}

async function start() {
  followTheme();
  const answer = await fetch("/openapi.json");
  const ui = SwaggerUIBundle({
    spec: arrange(await answer.json()),
    dom_id: "#swagger-ui",
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [resolveHere],
    deepLinking: true,
    defaultModelsExpandDepth: -1,
    docExpansion: "none",
    displayRequestDuration: true,
    tryItOutEnabled: true,
    onComplete() {
      if (location.hash.length > 1) return;
      for (const tag of BUYERS) ui.layoutActions.show(["operations-tag", tag], true);
      ui.layoutActions.show(["operations", ...FIRST], true);
    },
  });
}

start();

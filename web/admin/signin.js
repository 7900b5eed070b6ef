// Signing in by a one-time link or an API key, and what to do without either.

import { send } from "./api.js";
import { sentence } from "./dialog.js";
import { fill, h, text } from "./dom.js";

/** Takes the one-time token out of the address, so that it stays in no history. */
export function linkInAddress() {
  const match = /^#sign-in=(.+)$/.exec(location.hash);
  if (!match) return null;
  history.replaceState(null, "", `${location.pathname}#/`);
  return match[1];
}

/** Opens a session by a link. */
export const byLink = (token) => send("POST", "/v1/session", { link: token });

/** Shows the form; `entered` gets the session. */
export function signIn(root, entered, why = "") {
  const error = h("p", { class: "form-error", role: "alert", hidden: !why, text: why });
  const key = h("input", { id: "api-key", type: "password", name: "key", autocomplete: "off", spellcheck: "false", placeholder: "sk_…", required: true, "aria-describedby": "key-hint" });
  const go = h("button", { class: "button primary wide", text: "Sign in" });
  const form = h("form", { novalidate: true }, h("label", { class: "label", for: "api-key", text: "API key" }), key,
    h("p", { class: "hint", id: "key-hint", text: "The session has the scopes of the key, and ends when the key is revoked." }), error, go);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!key.value.trim()) {
      text(error, "Enter a key, or open a sign-in link.");
      error.hidden = false;
      return key.focus();
    }
    go.disabled = true;
    try {
      entered(await send("POST", "/v1/session", { key: key.value.trim() }));
    } catch (problem) {
      text(error, sentence(problem));
      error.hidden = false;
      key.focus();
      key.select();
    }
    go.disabled = false;
  });
  fill(root, h("div", { class: "sign-in" },
    h("div", { class: "card" },
      h("img", { src: "/admin/logo.svg", width: "40", height: "40", alt: "" }),
      h("h1", { text: "Sign in to kontor" }),
      form,
      h("hr"),
      h("p", { class: "label", text: "Without a key: a link" }),
      h("pre", { class: "command", tabindex: "0" }, "kontor sign-in --data ", h("i", { text: "DIR" })),
      h("p", { class: "hint", text: "Run this on the server. It prints a link that signs in to this page, once, within 15 minutes. kontor demo and the first start of kontor serve print one, too." })),
    h("p", { class: "promise", text: "Never oversold, never paid without an order, never an order lost, and you can see why." })));
  key.focus();
}

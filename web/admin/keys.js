// The keyboard: single keys that work anywhere, and those of the page that is shown.

import { look } from "./dialog.js";
import { h } from "./dom.js";
import { addressOf, go } from "./router.js";

const JUMPS = { o: "", r: "orders", s: "stock", l: "locations", a: "attention", c: "cluster", y: "system", e: "settings" };
const EVERYWHERE = [
  ["?", "These shortcuts"],
  ["/", "Search"],
  ["j  k", "Next and previous in a list"],
  ["Enter", "Open"],
  ["Esc", "Back, or close"],
  ["Ctrl Enter", "Send a dialog"],
  ["g o", "Overview"],
  ["g r", "Orders"],
  ["g s", "Stock"],
  ["g l", "Locations"],
  ["g a", "Attention"],
  ["g c", "Cluster"],
  ["g y", "System"],
  ["g e", "Settings"],
  ["t", "Light or dark"],
];

let page = { keys: {}, help: [] };
let everywhere = {};
let jumping = 0;

/** The keys of the page that is shown now: `{key: run}` and `[[key, words]]` for the help. */
export function pageKeys(keys, help = []) {
  page = { keys, help };
}

function typing(target) {
  return target.closest('input:not([type="checkbox"]), textarea, select, [contenteditable]') !== null;
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (typing(event.target)) {
    const range = event.target.type === "range";
    if (event.key === "Escape") event.target.blur();
    if (!range) return;
  }
  if (jumping) {
    clearTimeout(jumping);
    jumping = 0;
    if (event.key in JUMPS) {
      event.preventDefault();
      go(addressOf(JUMPS[event.key]));
    }
    return;
  }
  if (event.key === "g") {
    jumping = setTimeout(() => (jumping = 0), 1200);
    return;
  }
  const run = page.keys[event.key] ?? everywhere[event.key];
  if (run && run(event) !== false) event.preventDefault();
}

/** Starts listening; `keys` work on every page. */
export function startKeys(keys) {
  everywhere = { "?": help, ...keys };
  addEventListener("keydown", pressed);
}

function row([keys, words]) {
  const caps = keys.split(" ").filter(Boolean).map((key) => h("kbd", { text: key }));
  return h("div", { class: "shortcut" }, h("dt", {}, caps), h("dd", { text: words }));
}

/** Shows all shortcuts. */
export function help() {
  look("Keyboard", h("div", {}, h("dl", { class: "shortcuts" }, EVERYWHERE.map(row), page.help.map(row)),
    h("p", { class: "hint", text: "To ship makes a shipment; the API calls it a fulfillment." })));
}

/** Moves the focus among links by j and k; `find` gives them in order. */
export function listKeys(find) {
  const move = (step) => {
    const links = find();
    if (links.length === 0) return;
    const row = document.activeElement?.closest("[data-row]");
    const at = row ? links.findIndex((link) => row.contains(link)) : -1;
    const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
    const link = links[Math.max(0, Math.min(links.length - 1, next))];
    link.focus({ preventScroll: true });
    link.scrollIntoView({ block: "nearest" });
  };
  return {
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => (document.activeElement?.closest("[data-row]") ? move(1) : false),
    ArrowUp: () => (document.activeElement?.closest("[data-row]") ? move(-1) : false),
  };
}

// Orders as CSV files: those that are selected, as the page knows them, or all that match, which a job of
// the server writes.

import { file, freshKey, get, path, send } from "./api.js";
import { openDialog, sentence } from "./dialog.js";
import { fill, h, say, text } from "./dom.js";
import { count, exponent, several, shift } from "./format.js";

/** How often the page asks how far an export is, in milliseconds. */
const ASK_EVERY = 500;

const FIELDS = ["number", "id", "status", "payment_status", "fulfillment_status", "email", "buyer_name", "country", "reference", "item_count", "currency", "total", "captured", "refunded", "placed_at", "updated_at"];

/** What a spreadsheet may take for a formula, at the beginning of a text or of one of its lines. */
const FORMULA = /^(?=[^\S\r\n]*[=+\-@]|[\t\r])/gm;

/** A cell: quoted where that is needed, and never read as a formula by a spreadsheet. */
function cell(value) {
  const plain = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" ? plain.replace(FORMULA, "'") : plain;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The orders as CSV (RFC 4180), amounts in whole units of their currency. */
export function csvOf(rows) {
  const value = (row, name) => (typeof row[name]?.amount === "number" ? shift(row[name].amount, exponent(row.currency)) : row[name]);
  return [FIELDS.join(","), ...rows.map((row) => FIELDS.map((name) => cell(value(row, name))).join(","))].join("\r\n") + "\r\n";
}

/** Lets the browser save the parts of a text as a file; a spreadsheet reads it as UTF-8 by its first character. */
function save(...parts) {
  const address = URL.createObjectURL(new Blob(["\ufeff", ...parts], { type: "text/csv" }));
  const day = new Date().toISOString().slice(0, 10);
  h("a", { href: address, download: `orders-${day}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Saves orders of the page as a CSV file. */
export function exportChosen(rows) {
  save(csvOf(rows));
  say(`${several(rows.length, "order")} exported`);
}

const pause = () => new Promise((resume) => setTimeout(resume, ASK_EVERY));

/** Waits for the end of an export, and tells how many orders were written so far. */
async function ended(at, tell) {
  for (;;) {
    const now = await get(at);
    if (now.state === "done") return now;
    if (now.state === "dead") throw new Error(now.last_error ?? "the export has failed");
    tell(now.orders ?? 0);
    await pause();
  }
}

/** Saves all orders that a query finds as a CSV file, and says how far that is. */
export function exportAll(query) {
  const how = query.sort === "placed_at" ? "oldest" : "newest";
  const progress = h("p", { class: "sum", role: "status", text: "The export is starting." });
  const wrong = h("p", { class: "form-error", role: "alert", hidden: true });
  const close = h("button", { class: "button", type: "button", text: "Cancel", onclick: () => dialog.close() });
  const dialog = openDialog("Export orders",
    h("p", { class: "dialog-intro", text: `All orders that match the search and the filters, also those that the list does not show yet, with the ${how} first. Amounts are in whole units of their currency.` }),
    progress, wrong, h("div", { class: "dialog-end" }, close));
  close.focus();
  run(query, { progress, wanted: () => dialog.open }).then((orders) => {
    if (!dialog.open) return;
    dialog.close();
    say(`${several(orders, "order")} exported`);
  }, (problem) => {
    progress.hidden = true;
    wrong.hidden = false;
    text(wrong, sentence(problem));
    text(close, "Close");
  });
}

/** Has the file written, saves it if it is still `wanted()`, and deletes it at the server. */
async function run(query, { progress, wanted }) {
  const made = await send("POST", path("/v1/admin/order-exports", query), undefined, { key: freshKey() });
  const at = `/v1/admin/order-exports/${encodeURIComponent(made.id)}`;
  try {
    const { file: place, orders } = await ended(at, (written) => fill(progress, h("b", { class: "num", text: count(written) }), h("span", { text: `${written === 1 ? "order" : "orders"} written` })));
    if (wanted()) save(await file(place));
    return orders ?? 0;
  } finally {
    send("DELETE", at).catch(() => {});
  }
}

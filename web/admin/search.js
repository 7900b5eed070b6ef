// What is searched for: its words, and where they are in what was found.

import { h } from "./dom.js";

/** The words of a search. `#` before a number is not in what is shown. */
const wordsOf = (q) => q.toLowerCase().split(/\s+/).map((word) => word.replace(/^#(?=\d+$)/, "")).filter(Boolean);

/** A text with the words of a search marked, as the children of an element. */
export function marked(text, q) {
  const low = text.toLowerCase();
  // A letter may be longer in lower case: then no place in one text is a place in the other.
  if (low.length !== text.length) return [text];
  const marks = new Uint8Array(text.length);
  for (const word of wordsOf(q)) {
    for (let at = low.indexOf(word); at >= 0; at = low.indexOf(word, at + 1)) marks.fill(1, at, at + word.length);
  }
  const pieces = [];
  for (let from = 0, to; from < text.length; from = to) {
    for (to = from + 1; to < text.length && marks[to] === marks[from]; ) to += 1;
    const piece = text.slice(from, to);
    pieces.push(marks[from] ? h("mark", { text: piece }) : piece);
  }
  return pieces;
}

/** Lets Esc clear a search that has words, and stay in it; without words, Esc leaves it. */
export function escClears(search, clear) {
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !search.value) return;
    event.preventDefault();
    search.value = "";
    clear();
  });
}

/** The names of what an order is found by. */
const FIELDS = {
  number: "Order", id: "ID", reference: "Reference", name: "Name", company: "Company", email: "Email", phone: "Phone",
  tracking_number: "Tracking number", payment: "Payment ID", sku: "SKU", product: "Product",
};
/** The most values that are shown of what was found in one order. */
const SHOWN = 4;

/** What was found in an order, as the children of an element. */
export function findings(matched, q) {
  const some = matched.slice(0, SHOWN).map(({ field, text }) => h("span", { class: "match" }, h("span", { class: "faint", text: `${FIELDS[field] ?? field} ` }), marked(text, q)));
  const more = matched.length - some.length;
  return more > 0 ? [some, h("span", { class: "faint", text: `and ${more} more` })] : some;
}

/** What a search of orders finds. */
export const ORDERS_FOUND_BY = "Search by any part of a name, company, email address, phone number, SKU, product, tracking number, payment ID, reference or order number. Words of one or two characters must be whole; of several words, each must be in the order.";

// What is searched for: its words, and where they are in what was found.

import { h } from "./dom.js";

/** Letters that are another one with a mark that Unicode does not take apart. */
const LETTERS = { ø: "o", ł: "l", đ: "d", ð: "d", ı: "i", æ: "ae", œ: "oe", þ: "th", ß: "ss", "‘": "'", "’": "'", "–": "-", "‐": "-" };

/** A text without case and accents, as the server searches it. */
const fold = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069]/g, "").toLowerCase().replace(/[øłđðıæœþß‘’–‐]/g, (one) => LETTERS[one]);

/** The words of a search. `#` before a number is not in what is shown. */
const wordsOf = (q) => fold(q).split(/\s+/).map((word) => word.replace(/^#(?=\d+$)/, "")).filter(Boolean);

/** A text with the words of a search marked, as the children of an element. */
export function marked(text, q) {
  const letters = [...text];
  const parts = letters.map(fold);
  /** The letter of the text from which each character of the folded one comes. */
  const from = parts.flatMap((part, at) => Array(part.length).fill(at));
  const low = parts.join("");
  const marks = new Uint8Array(letters.length);
  for (const word of wordsOf(q)) {
    for (let at = low.indexOf(word); at >= 0; at = low.indexOf(word, at + 1)) marks.fill(1, from[at], from[at + word.length - 1] + 1);
  }
  const pieces = [];
  for (let at = 0, to; at < letters.length; at = to) {
    for (to = at + 1; to < letters.length && marks[to] === marks[at]; ) to += 1;
    const piece = letters.slice(at, to).join("");
    pieces.push(marks[at] ? h("mark", { text: piece }) : piece);
  }
  return pieces;
}

/** The address of the row from which somebody went to a search. */
let left = null;

/** Goes to a search, whose old words the next ones replace. */
export function seek(search) {
  left = document.activeElement?.closest("[data-row]") ? document.activeElement.getAttribute("href") : null;
  search.focus();
  search.select();
}

/**
 * Lets Esc clear a search that has words, and stay in it; without words, Esc leaves it to the list: to the
 * row from which somebody came, else to the page, where the keys of the list work.
 */
export function escClears(search, clear) {
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (search.value) {
      search.value = "";
      return clear();
    }
    const rows = [...document.querySelectorAll("#page [data-row] a")].filter((one) => one.checkVisibility());
    (rows.find((one) => left !== null && one.getAttribute("href") === left) ?? document.getElementById("main")).focus();
  });
}

/** The names of what an order is found by. */
const FIELDS = {
  number: "Order", id: "ID", reference: "Reference", name: "Name", company: "Company", street: "Street", city: "City", postal_code: "Postal code", email: "Email", phone: "Phone",
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
export const ORDERS_FOUND_BY = "Search by any part of a name, company, email address, phone number, street, city, postal code, SKU, product, tracking number, payment ID, reference or order number. Words of one or two characters must be whole; of several words, each must be in the order.";

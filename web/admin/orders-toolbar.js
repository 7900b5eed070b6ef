// What orders are searched, filtered and sorted by: the fields above the list.

import { atMost, attr, h, text } from "./dom.js";
import { title, words } from "./format.js";
import { DAY_MAX, DAY_MIN, dayFault, filtered, filterOf, FULFILLMENTS, PAYMENTS, STATUSES, UNFINISHED } from "./orders-filter.js";
import { byFinger } from "./held.js";
import { icon } from "./parts.js";
import { escClears } from "./search.js";

/** What is sorted by where there is no room for the columns. */
const SORTS = [["", "Newest first"], ["placed", "Oldest first"], ["-total", "Highest total"], ["total", "Lowest total"], ["buyer", "Buyer"], ["status", "Status"], ["fulfillment", "Shipping"]];

/** The fields; `change(part)` is told what somebody chose, `enter()` goes from the search to what was found. */
export class Toolbar {
  #filter;
  #change;
  /** The days of the filter that the fields show, or whose place they took. */
  #shownDays = null;
  #typed = atMost(250, () => this.#change({ q: this.search.value.trim() }));

  constructor(filter, change, enter) {
    this.#filter = filter;
    this.#change = change;
    this.search = h("input", { type: "search", id: "orders-search", placeholder: "Name, email, product, tracking number…", autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
    this.search.addEventListener("input", this.#typed);
    this.search.addEventListener("keydown", ({ key }) => (key === "Enter" || key === "ArrowDown") && enter());
    escClears(this.search, () => {
      this.settle();
      change({ q: "" });
    });
    this.payment = this.#select("payment_status", "Payment", PAYMENTS);
    this.fulfillment = this.#select("fulfillment_status", "Shipping", FULFILLMENTS);
    this.chips = new Map(["", ...STATUSES].map((status) => [status, h("button", { class: "chip", type: "button", text: status ? title(status) : "All", onclick: () => this.#toggle(status) })]));
    this.from = this.#date("Placed from");
    this.to = this.#date("Placed until");
    this.wrongDays = h("p", { class: "field-error days", id: "orders-dates", role: "alert", hidden: true });
    this.sortBy = h("select", { class: "narrow-only", "aria-label": "Sort" }, SORTS.map(([value, label]) => h("option", { value, text: label })));
    this.sortBy.addEventListener("change", () => change({ sort: this.sortBy.value }));
    this.clear = h("button", { class: "button", type: "button", text: "Clear", "aria-label": "Clear search and filters", onclick: () => this.#clear() });
    this.elements = [
      h("div", { class: "toolbar" },
        h("label", { class: "search", for: "orders-search" }, icon("search"), h("span", { class: "unseen", text: "Search orders" }), this.search, h("kbd", { class: "wide-only", text: "/" })),
        h("div", { class: "selects" }, this.payment, this.fulfillment, h("span", { class: "dates" }, this.from, h("span", { class: "faint", text: "–" }), this.to), this.sortBy, this.clear)),
      this.wrongDays,
      h("div", { class: "chips", role: "group", "aria-label": "Status" }, ...this.chips.values()),
    ];
    this.reflect(filter);
  }

  #select(name, label, options) {
    const select = h("select", { "aria-label": label }, h("option", { value: "", text: `Any ${label.toLowerCase()}` }), options.map((one) => h("option", { value: one, text: words(one) })));
    select.addEventListener("change", () => this.#change({ [name]: select.value }));
    return select;
  }

  #date(label) {
    const input = h("input", { type: "date", "aria-label": label, title: label, min: DAY_MIN, max: DAY_MAX, "aria-describedby": "orders-dates" });
    // A day that was only begun is no change: it is found when the field is left.
    for (const kind of ["change", "blur"]) input.addEventListener(kind, () => this.#days());
    return input;
  }

  /** Shows what is asked for now. */
  reflect(filter) {
    this.#filter = filter;
    const { q, status, payment_status, fulfillment_status, from, to, sort } = filter;
    this.sortBy.value = sort;
    this.#showDays(from, to);
    this.clear.hidden = !(filtered(filter) || from || to || !this.wrongDays.hidden);
    // What is being typed is searched for once it is complete.
    if (this.search.value.trim() !== q) this.search.value = q;
    this.payment.value = payment_status;
    this.fulfillment.value = fulfillment_status;
    for (const [name, chip] of this.chips) attr(chip, "aria-pressed", String(name ? status.includes(name) : status.length === 0));
  }

  #toggle(status) {
    const now = new Set(this.#filter.status);
    if (!status) now.clear();
    else if (!now.delete(status)) now.add(status);
    this.#change({ status: [...now] });
  }

  #clear() {
    this.search.value = "";
    this.#shownDays = null;
    this.#change({ ...filterOf(), sort: this.#filter.sort });
    this.reflect(this.#filter);
    // A finger that clears does not ask for the keyboard.
    (byFinger() ? this.chips.get("") : this.search).focus({ preventScroll: true });
  }

  /** Shows the days of the filter in the fields, unless what was typed there is not in the filter. */
  #showDays(from, to) {
    const days = `${from} ${to}`;
    if (days === this.#shownDays) return;
    this.#shownDays = days;
    for (const [field, value] of [[this.from, from], [this.to, to]]) {
      // Only this empties a field with a day that was only begun.
      field.value = DAY_MIN;
      field.value = value;
    }
    this.#sayDays(dayFault(from, to));
  }

  /** Asks for a range of days; with something wrong with it, for all days, and says so. */
  #days() {
    const [from, to] = [this.from, this.to].map((one) => (one.validity.badInput ? UNFINISHED : one.value));
    const fault = dayFault(from, to);
    const kept = fault && [from, to].some((one) => one === UNFINISHED || dayFault(one, "")) ? { from: "", to: "" } : { from, to };
    this.#shownDays = `${kept.from} ${kept.to}`;
    this.#sayDays(fault);
    if (kept.from !== this.#filter.from || kept.to !== this.#filter.to) this.#change(kept);
    this.clear.hidden = !(filtered(this.#filter) || from || to);
  }

  #sayDays(fault) {
    for (const name of ["from", "to"]) attr(this[name], "aria-invalid", fault?.[name] ? "true" : null);
    text(this.wrongDays, fault ? `${Object.values(fault)[0]}. Orders of all days are shown.` : "");
    this.wrongDays.hidden = !fault;
  }

  /** What is being typed is given up for what the address says. */
  follow({ q }) {
    this.settle();
    this.#shownDays = null;
    this.search.value = q;
  }

  /** What is being typed is not searched for any more. */
  settle() {
    this.#typed.cancel();
  }
}

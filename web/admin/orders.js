// The list of orders: searched, filtered, endless, and alive without moving under one's hand.

import { get, path } from "./api.js";
import { arrange, atMost, attr, fill, h, perFrame, text } from "./dom.js";
import { money, orderName, several, title, words } from "./format.js";
import { listKeys } from "./keys.js";
import { live } from "./live.js";
import { badge, empty, failed, flashAll, icon, loading, pips, setBadge, setPips, setWhen } from "./parts.js";
import { link, restate } from "./router.js";

const STATUSES = ["pending", "awaiting_payment", "confirmed", "partially_fulfilled", "fulfilled", "completed", "refunded", "cancelled", "stuck"];
const PAYMENTS = ["none", "requested", "unknown", "declined", "authorized", "partially_captured", "captured", "partially_refunded", "refunded", "voided"];
const FULFILLMENTS = ["unfulfilled", "partial", "fulfilled", "not_required"];
const PAGE = 50;
/** The most rows of a list that nobody has paged in: older ones make room for new orders. */
const LIVE_ROWS = 60;
/** The most orders that wait behind the pill. */
const NEW_MAX = 1000;
const age = ({ placed_at: placed, id }) => `${placed} ${id}`;
const newestFirst = (one, other) => (age(one) < age(other) ? 1 : -1);

/** Shows the page. */
export function orders(root, { query }) {
  const list = new List(filterOf(query));
  fill(root, list.element);
  return {
    heading: "Orders",
    keys: {
      ...listKeys(() => [...list.body.querySelectorAll("a.row-link")]),
      n: () => list.release(),
      "/": () => list.search.focus(),
      Escape: () => list.leave(),
    },
    help: [["n", "Show new orders"]],
    update: ({ query: next }) => list.refilter(filterOf(next)),
    reconnected: () => list.reconnected(),
    sleep: () => list.sleep(),
    wake: ({ query: next }) => list.wake(filterOf(next)),
    close: () => list.close(),
  };
}

function filterOf(query) {
  const known = (names, value) => (names.includes(value) ? value : "");
  return {
    q: query.get("q") ?? "",
    status: (query.get("status") ?? "").split(",").filter((one) => STATUSES.includes(one)),
    payment_status: known(PAYMENTS, query.get("payment_status")),
    fulfillment_status: known(FULFILLMENTS, query.get("fulfillment_status")),
  };
}

const asQuery = (filter) => ({ ...filter, status: filter.status.join(",") });

class List {
  #filter;
  #rows = new Map();
  #pool = [];
  #new = new Map();
  #dirty = new Set();
  #cursor = null;
  #paged = false;
  #cut = false;
  #loading = null;
  #problem = null;
  #started = false;
  #behind = false;
  #asleep = false;
  #focus = null;
  #subscription = null;
  #write = perFrame(() => this.#paint());
  #flush = atMost(500, () => this.#settle());
  #typed = atMost(250, () => this.#change({ q: this.search.value.trim() }));

  constructor(filter) {
    this.#filter = filter;
    this.#build();
    this.#open();
  }

  #build() {
    this.search = h("input", { type: "search", id: "orders-search", placeholder: "Number, id, email or reference", autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
    this.search.addEventListener("input", this.#typed);
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "ArrowDown") this.body.querySelector("a.row-link")?.focus();
    });
    const choose = (name, label, options) => {
      const select = h("select", { "aria-label": label }, h("option", { value: "", text: `Any ${label.toLowerCase()}` }), options.map((one) => h("option", { value: one, text: words(one) })));
      select.addEventListener("change", () => this.#change({ [name]: select.value }));
      return select;
    };
    this.payment = choose("payment_status", "Payment", PAYMENTS);
    this.fulfillment = choose("fulfillment_status", "Fulfillment", FULFILLMENTS);
    this.chips = new Map(["", ...STATUSES].map((status) => [status, h("button", { class: "chip", type: "button", text: status ? title(status) : "All", onclick: () => this.#toggle(status) })]));
    this.pill = h("button", { class: "pill", type: "button", hidden: true, onclick: () => this.release() });
    this.body = h("tbody");
    const column = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
    this.table = h("table", { class: "list orders-table" }, h("caption", { class: "unseen", text: "Orders, newest first" }),
      h("thead", {}, h("tr", {}, column("Order"), column("Progress", "c-pips"), column("Status"), column("Payment"), column("Fulfillment", "c-goods"), column("Customer", "c-who"), column("Items", "end c-items"), column("Total", "end"), column("Placed", "end"))),
      this.body);
    this.state = h("div", { class: "list-state" });
    this.more = h("button", { class: "button", type: "button", text: "Show more", hidden: true, onclick: () => this.#load() });
    this.table.addEventListener("pointerleave", () => this.#flush());
    this.element = h("div", { class: "list-page" },
      h("div", { class: "toolbar" },
        h("label", { class: "search", for: "orders-search" }, icon("search"), h("span", { class: "unseen", text: "Search orders" }), this.search, h("kbd", { class: "wide-only", text: "/" })),
        h("div", { class: "selects" }, this.payment, this.fulfillment)),
      h("div", { class: "chips", role: "group", "aria-label": "Status" }, ...this.chips.values()),
      h("div", { class: "pill-place" }, this.pill),
      h("div", { class: "panel flush" }, this.table, this.state),
      h("div", { class: "list-end" }, this.more));
    this.watch = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#load(), { rootMargin: "600px" });
    this.watch.observe(this.more);
    this.scrolled = () => scrollY < 8 && this.#new.size && this.#flush();
    addEventListener("scroll", this.scrolled, { passive: true });
    this.#reflect();
  }

  #reflect() {
    const { q, status, payment_status, fulfillment_status } = this.#filter;
    if (document.activeElement !== this.search) this.search.value = q;
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

  #change(part) {
    const filter = { ...this.#filter, ...part };
    restate(["orders"], asQuery(filter));
    this.refilter(filter);
  }

  /** Is left for another page, and answers its address. Its rows stay current, and in their places. */
  sleep() {
    this.#typed.cancel();
    this.#asleep = true;
    removeEventListener("scroll", this.scrolled);
    this.#focus = this.element.contains(document.activeElement) ? document.activeElement : null;
    return link(["orders"], asQuery(this.#filter));
  }

  /** Is shown again; whether it is as it was left. */
  wake(filter) {
    this.#asleep = false;
    addEventListener("scroll", this.scrolled, { passive: true });
    const same = JSON.stringify(filter) === JSON.stringify(this.#filter);
    if (same) this.#focus?.focus({ preventScroll: true });
    else this.refilter(filter);
    this.#write();
    return same;
  }

  /** Shows other orders. */
  refilter(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.#filter)) return;
    this.#filter = filter;
    this.#reflect();
    this.#open();
  }

  /** Reads what could not be read while there was no connection. */
  reconnected() {
    if (this.#problem) this.#load();
  }

  /** Esc: out of the list. */
  leave() {
    if (this.body.contains(document.activeElement)) document.activeElement.blur();
    this.#flush();
  }

  #open() {
    this.#subscription?.close();
    this.#loading?.abort();
    this.#loading = null;
    this.#new.clear();
    this.#pool.push(...[...this.#rows.values()].map((one) => one.parts).filter(Boolean));
    this.#rows.clear();
    [this.#cursor, this.#paged, this.#cut, this.#problem, this.#behind] = [null, false, false, null, false];
    const { status, payment_status, fulfillment_status } = this.#filter;
    const filter = {};
    if (status.length) filter.status = status;
    if (payment_status) filter.payment_status = payment_status;
    if (fulfillment_status) filter.fulfillment_status = fulfillment_status;
    this.#subscription = live.subscribe("orders", { filter, limit: 1 }, {
      // What is read after the snapshot misses nothing: what changes from then on is told.
      snapshot: () => (this.#started ? this.#renew() : this.#start()),
      changes: (changes) => this.#take(changes),
      error: () => this.#started || this.#start(),
    });
    this.#started = false;
    if (live.state !== "open") this.#start();
    this.#write();
  }

  #start() {
    this.#started = true;
    this.#load();
  }

  /** Changes were missed: reads the list anew, at once or when nobody is at it. */
  #renew() {
    this.#behind = true;
    this.#flush();
  }

  #ask(after) {
    const { q, status, payment_status, fulfillment_status } = this.#filter;
    return path("/v1/admin/orders", { q, status: status.join(","), payment_status, fulfillment_status, limit: PAGE, after });
  }

  async #load() {
    if (this.#loading || (this.#rows.size && !this.#cursor && !this.#cut)) return;
    const first = this.#rows.size === 0;
    const doing = new AbortController();
    this.#loading = doing;
    this.#problem = null;
    this.#write();
    try {
      if (this.#cut) await this.#fillUp(doing.signal);
      const page = await get(this.#ask(first ? null : this.#cursor), { signal: doing.signal });
      if (!first) this.#paged = true;
      this.#cursor = page.next_cursor;
      for (const row of page.data) this.#put(row, true);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#problem = problem;
    }
    if (this.#loading === doing) this.#loading = null;
    this.#write();
  }

  /** Rows were let go at the end of the list: reads on from its beginning until they are back. */
  async #fillUp(signal) {
    const last = this.#oldest();
    let after = null;
    for (let pages = 0; pages < 6; pages += 1) {
      const page = await get(this.#ask(after), { signal });
      for (const row of page.data) this.#put(row, true);
      after = page.next_cursor;
      if (!after || age(page.data.at(-1)) <= last) break;
    }
    this.#cursor = after;
    [this.#cut, this.#paged] = [false, true];
  }

  /** Reads the first page, and shows it in place of all that is there. */
  async #replace() {
    this.#behind = false;
    const asked = this.#filter;
    try {
      const page = await get(this.#ask(null));
      if (asked !== this.#filter) return;
      const ids = new Set(page.data.map((row) => row.id));
      for (const id of [...this.#rows.keys()]) if (!ids.has(id)) this.#drop(id);
      for (const row of page.data) this.#put(row, true);
      [this.#cursor, this.#paged, this.#cut, this.#problem] = [page.next_cursor, false, false, null];
    } catch {
      // The list stays as it was, and the next snapshot tries again.
    }
    this.#write();
  }

  #take(changes) {
    for (const { order, version, matches, row } of changes) {
      const known = this.#rows.get(order);
      if (known) {
        if (version <= known.row.version) continue;
        known.gone = !matches;
        this.#put(row, true);
      } else if (matches && this.#fits(row)) this.#put(row, false);
      else this.#new.delete(order);
    }
    this.#flush();
  }

  /** Whether an order is one that is searched for, as the server does it. */
  #fits({ id, number, email, reference }) {
    const q = this.#filter.q.toLowerCase();
    return !q || id === q || String(number) === q.replace(/^#/, "") || email.toLowerCase().startsWith(q) || reference?.toLowerCase() === q;
  }

  #put(row, shown) {
    const known = this.#rows.get(row.id);
    if (known) {
      if (row.version < known.row.version) return;
      if (row.version > known.row.version) known.changed = true;
      known.row = row;
      this.#dirty.add(row.id);
      this.#write();
    } else if (shown) {
      // A change may have overtaken the page that the row is in.
      const told = this.#new.get(row.id);
      this.#rows.set(row.id, { row: told?.version > row.version ? told : row, parts: null });
      this.#dirty.add(row.id);
      this.#new.delete(row.id);
    } else {
      this.#new.set(row.id, row);
      if (this.#new.size > NEW_MAX) this.#new.delete(this.#new.keys().next().value);
    }
  }

  /** Whether somebody is at the list: then nothing moves in it. */
  #held() {
    const pointer = matchMedia("(hover: hover)").matches && this.table.matches(":hover");
    return this.#asleep || pointer || scrollY > 8 || this.body.contains(document.activeElement) || this.#paged;
  }

  #settle() {
    if (!this.#held()) {
      if (this.#behind) this.#replace();
      this.#admit();
    }
    this.#write();
  }

  /** Shows the new orders. */
  release() {
    if (this.#behind) this.#replace();
    this.#admit();
    if (this.#paged) {
      this.#paged = false;
      this.#trim();
    }
    scrollTo({ top: 0 });
    this.#write();
  }

  #admit() {
    for (const [id, one] of this.#rows) if (one.gone) this.#drop(id);
    const oldest = this.#cursor ? this.#oldest() : "";
    for (const [id, row] of this.#new) {
      if (age(row) <= oldest) continue;
      this.#rows.set(id, { row, parts: null, changed: true });
      this.#dirty.add(id);
    }
    this.#new.clear();
    if (!this.#paged) this.#trim();
  }

  #trim() {
    if (this.#rows.size <= LIVE_ROWS) return;
    const old = this.#ordered().slice(LIVE_ROWS);
    for (const { row } of old) this.#drop(row.id);
    this.#cut = true;
  }

  #ordered() {
    return [...this.#rows.values()].sort((one, other) => newestFirst(one.row, other.row));
  }

  #oldest() {
    const last = this.#ordered().at(-1);
    return last ? age(last.row) : "";
  }

  #drop(id) {
    const { parts } = this.#rows.get(id);
    this.#rows.delete(id);
    this.#dirty.delete(id);
    if (parts) this.#pool.push(parts);
  }

  #paint() {
    const ordered = this.#ordered();
    for (const one of ordered) {
      const fresh = !one.parts;
      if (fresh) one.parts = this.#pool.pop() ?? makeRow();
      if (fresh || this.#dirty.has(one.row.id)) writeRow(one);
    }
    this.#dirty.clear();
    arrange(this.body, ordered.map((one) => one.parts.element));
    flashAll(ordered.filter((one) => one.changed).map((one) => one.parts.element));
    for (const one of ordered) one.changed = false;
    this.#pool.length = Math.min(this.#pool.length, LIVE_ROWS);
    const waits = this.#new.size;
    this.pill.hidden = (waits === 0 && !this.#behind) || !this.#held();
    if (this.#behind) text(this.pill, "Show the newest");
    else if (waits) text(this.pill, `${several(waits, "new order")}${waits >= NEW_MAX ? " or more" : ""}`);
    this.#showState();
  }

  #showState() {
    const none = this.#rows.size === 0;
    attr(this.table, "hidden", none);
    this.more.hidden = none || !(this.#cursor || this.#cut);
    attr(this.more, "aria-busy", this.#loading ? "true" : null);
    if (this.#problem) fill(this.state, failed(this.#problem, () => this.#load()));
    else if (none && (this.#loading || !this.#started)) this.state.firstElementChild?.matches(".bones") || fill(this.state, loading(10));
    else if (none) fill(this.state, nothing(this.#filter));
    else fill(this.state);
  }

  close() {
    this.#subscription?.close();
    this.#loading?.abort();
    this.watch.disconnect();
    removeEventListener("scroll", this.scrolled);
    for (const one of [this.#write, this.#flush, this.#typed]) one.cancel();
  }
}

function nothing({ q, status, payment_status, fulfillment_status }) {
  if (q) return empty(`Nothing found for “${q}”`, "Search by the order's number, its whole id, the beginning of an email address, or the buyer's reference.");
  if (status.length || payment_status || fulfillment_status) return empty("No order matches the filter", "Orders appear here as soon as they match the filter.");
  return empty("No orders yet", "New orders appear here automatically.");
}

function makeRow() {
  const parts = {
    link: h("a", { class: "row-link" }),
    pips: pips({ payment_status: "none" }),
    status: badge("pending"),
    payment: badge("none"),
    goods: badge("unfulfilled"),
    who: h("span", { class: "clip" }),
    items: h("td", { class: "end num c-items" }),
    total: h("td", { class: "end num strong c-total" }),
    time: h("time", {}),
  };
  parts.element = h("tr", { data: { row: "" } },
    h("th", { scope: "row", class: "c-order" }, parts.link),
    h("td", { class: "c-pips" }, parts.pips),
    h("td", { class: "c-status" }, parts.status),
    h("td", { class: "c-payment" }, parts.payment),
    h("td", { class: "c-goods" }, parts.goods),
    h("td", { class: "c-who" }, parts.who),
    parts.items, parts.total,
    h("td", { class: "end faint c-time" }, parts.time));
  parts.element.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !getSelection()?.toString()) parts.link.click();
  });
  return parts;
}

function writeRow({ row, parts, gone }) {
  attr(parts.link, "href", link(["orders", row.id]));
  attr(parts.link, "title", row.id);
  text(parts.link, orderName(row));
  parts.element.classList.toggle("gone", Boolean(gone));
  setPips(parts.pips, row);
  setBadge(parts.status, row.status);
  setBadge(parts.payment, row.payment_status);
  setBadge(parts.goods, row.fulfillment_status);
  text(parts.who, row.country ? `${row.email} · ${row.country}` : row.email);
  text(parts.items, row.item_count);
  text(parts.total, money(row.total));
  setWhen(parts.time, row.placed_at);
}

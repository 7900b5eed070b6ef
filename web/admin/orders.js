// The list of orders: searched, filtered, endless, and alive without moving under one's hand.

import { get, path } from "./api.js";
import { arrange, atMost, attr, fill, h, perFrame, text } from "./dom.js";
import { several } from "./format.js";
import { atHand, onceLeft } from "./held.js";
import { listKeys } from "./keys.js";
import { live } from "./live.js";
import { Desk, MANY_MAX } from "./orders-desk.js";
import { asQuery, filtered, filterOf, inTime, nothing, sortedByServer, wanted } from "./orders-filter.js";
import { COLUMNS, makeRow, sorter, writeRow } from "./orders-row.js";
import { Toolbar } from "./orders-toolbar.js";
import { failed, flashAll, icon, loading } from "./parts.js";
import { link, restate } from "./router.js";
import { seek } from "./search.js";

const PAGE = 50;
/** The most rows of a list that nobody has paged in: older ones make room for new orders. */
const LIVE_ROWS = 60;
/** The most orders that wait behind the pill. */
const NEW_MAX = 1000;
/** The most orders that are read to be sorted by another column, and how many at a time. */
const SORTED_MAX = 1000;
const SORTED_PAGE = 200;
/** The most changed orders of which the server is asked whether a search finds them. */
const ASKED_MAX = 100;
/** Shows the page. */
export function orders(root, { query }) {
  const list = new List(filterOf(query));
  fill(root, list.element);
  return {
    heading: "Orders",
    keys: {
      ...listKeys(() => [...list.body.querySelectorAll("a.row-link")]),
      n: () => list.release(),
      "/": () => seek(list.toolbar.search),
      Escape: () => list.leave(),
    },
    help: [["n", "Show new orders"]],
    update: ({ query: next }) => list.follow(filterOf(next)),
    reconnected: () => list.reconnected(),
    sleep: () => list.sleep(),
    wake: ({ query: next }) => list.wake(filterOf(next)),
    close: () => list.close(),
  };
}

class List {
  #filter;
  #rows = new Map();
  #pool = [];
  #new = new Map();
  #dirty = new Set();
  /** Changed orders that the search may find. */
  #unsure = new Set();
  #cursor = null;
  #paged = false;
  #cut = false;
  #loading = null;
  #problem = null;
  #started = false;
  #behind = false;
  #asleep = false;
  #focus = null;
  #chosen = new Set();
  #subscription = null;
  #write = perFrame(() => this.#paint());
  #flush = atMost(500, () => this.#settle());
  #seek = atMost(500, () => this.#askForUnsure());

  constructor(filter) {
    this.#filter = filter;
    this.#build();
    this.#open();
  }

  #build() {
    this.toolbar = new Toolbar(this.#filter, (part) => this.#change(part), () => this.body.querySelector("a.row-link")?.focus());
    this.pill = h("button", { class: "pill", type: "button", hidden: true, onclick: () => this.release(true) });
    this.body = h("tbody");
    this.heads = COLUMNS.map((column) => h("th", { scope: "col", class: column.kind, data: { name: column.name } },
      h("button", { class: "sort", type: "button", onclick: () => this.#sort(column.id) }, column.before ? h("span", { class: "name", text: column.before }) : null, column.name, icon("up"))));
    this.allBox = h("input", { type: "checkbox", "aria-label": "Select all orders that are shown" });
    this.allBox.addEventListener("change", () => this.#chooseAll(this.allBox.checked));
    this.table = h("table", { class: "list orders-table" }, h("caption", { class: "unseen", text: "Orders" }),
      h("thead", {}, h("tr", {}, h("td", { class: "c-box" }, h("label", {}, this.allBox)), this.heads)), this.body);
    this.desk = new Desk({
      chosen: () => this.#chosenRows(),
      shipped: (ids) => this.#choose(ids, false),
      none: () => this.#chooseAll(false),
      wanted: () => wanted(this.#filter),
      pill: this.pill,
    });
    this.state = h("div", { class: "list-state" });
    this.more = h("button", { class: "button", type: "button", text: "Show more", hidden: true, onclick: () => this.#load() });
    onceLeft(this.body, this.#flush);
    this.element = h("div", { class: "list-page" },
      this.toolbar.elements,
      this.desk.element,
      h("div", { class: "panel flush" }, this.table, this.state),
      h("div", { class: "list-end" }, this.more));
    this.watch = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#load(), { rootMargin: "600px" });
    this.watch.observe(this.more);
    this.scrolled = () => scrollY < 8 && this.#new.size && this.#flush();
    addEventListener("scroll", this.scrolled, { passive: true });
    this.#reflect();
  }

  #reflect() {
    const { sort } = this.#filter;
    this.toolbar.reflect(this.#filter);
    this.heads.forEach((head, at) => {
      const { id } = COLUMNS[at];
      const mine = (sort || "-placed").replace(/^-/, "") === id;
      const down = !sort || sort.startsWith("-");
      attr(head, "aria-sort", mine ? (down ? "descending" : "ascending") : null);
    });
  }

  /** Sorts by a column, first as one looks for it, then the other way round, then newest first. */
  #sort(id) {
    const first = ["total", "items", "progress", "placed", "number"].includes(id) ? `-${id}` : id;
    const second = first === id ? `-${id}` : id;
    const now = this.#filter.sort || "-placed";
    const next = now === first ? second : now === second ? "" : first;
    this.#change({ sort: next === "-placed" ? "" : next });
  }

  #shownRows() {
    return this.#ordered().map((one) => one.row);
  }

  /** What no longer matches is shown as long as somebody is at the list, and does not count. */
  #matching() {
    return this.#ordered().filter((one) => !one.gone).map((one) => one.row);
  }

  #chosenRows() {
    return this.#shownRows().filter((row) => this.#chosen.has(row.id)).slice(0, MANY_MAX);
  }

  #choose(ids, on) {
    for (const id of ids) {
      if (!on) this.#chosen.delete(id);
      else if (this.#chosen.size < MANY_MAX) this.#chosen.add(id);
      this.#dirty.add(id);
    }
    this.#write();
  }

  /** Selects what is shown; with as many as can be selected, a further click selects none. */
  #chooseAll(on) {
    on &&= this.#chosen.size < MANY_MAX;
    this.#choose(on ? this.#shownRows().map((row) => row.id) : [...this.#chosen], on);
  }

  /** How many orders are shown, and whether these are all that there are. */
  #amount(many) {
    const one = many === 1;
    const [orders, match] = [several(many, "order"), filtered(this.#filter) ? ` that ${one ? "matches" : "match"}` : ""];
    if (this.#cursor || this.#cut) return `Of the ${this.#filter.sort === "placed" ? "oldest" : "newest"} ${one ? "order" : orders} shown, not of all${match && " that match"}`;
    if (this.#new.size || this.#behind) return `Of ${orders} shown`;
    return `${one ? "" : "All "}${orders}${match}`;
  }

  /** Shows what is shown or selected, in sums, and what can be done with it. */
  #showDesk(all) {
    const [rows, chosen] = [this.#matching(), this.#chosenRows()];
    this.desk.show(rows, chosen, this.#amount(rows.length));
    this.allBox.checked = chosen.length > 0 && chosen.length === all;
    this.allBox.indeterminate = chosen.length > 0 && chosen.length < all;
  }

  /** Whether a column decides the order that the server cannot sort by. */
  get #sorted() {
    return !sortedByServer(this.#filter);
  }

  #change(part) {
    const filter = { ...this.#filter, ...part };
    restate(["orders"], asQuery(filter));
    this.refilter(filter);
  }

  /** Is left for another page, and answers its address. Its rows stay current, and in their places. */
  sleep() {
    this.toolbar.settle();
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
    else this.follow(filter);
    this.#write();
    return same;
  }

  /** Follows the address, whatever is being typed. */
  follow(filter) {
    this.toolbar.follow(filter);
    this.refilter(filter);
    this.#reflect();
  }

  /** Shows other orders. */
  refilter(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.#filter)) return;
    this.#filter = filter;
    this.#chosen.clear();
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
    this.#unsure.clear();
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
    return path("/v1/admin/orders", { ...wanted(this.#filter), limit: this.#sorted ? SORTED_PAGE : PAGE, after });
  }

  async #load() {
    if (this.#loading || (this.#rows.size && !this.#cursor && !this.#cut)) return;
    if (this.#sorted && this.#rows.size >= SORTED_MAX) return;
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
      if (this.#sorted) await this.#readToSort(doing.signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#problem = problem;
    }
    if (this.#loading === doing) this.#loading = null;
    this.#write();
  }

  /** Reads all that match, up to a limit: only then they can be sorted. */
  async #readToSort(signal) {
    while (this.#cursor && this.#rows.size < SORTED_MAX) {
      const page = await get(this.#ask(this.#cursor), { signal });
      for (const row of page.data) this.#put(row, true);
      this.#cursor = page.next_cursor;
    }
  }

  /** Rows were let go at the end of the list: reads on from its beginning until they are back. */
  async #fillUp(signal) {
    const [last, compare] = [this.#last(), sorter(this.#filter.sort)];
    let after = null;
    for (let pages = 0; pages < 6; pages += 1) {
      const page = await get(this.#ask(after), { signal });
      for (const row of page.data) this.#put(row, true);
      after = page.next_cursor;
      if (!after || !last || compare(page.data.at(-1), last) >= 0) break;
    }
    this.#cursor = after;
    [this.#cut, this.#paged] = [false, true];
  }

  /** Reads the first page, and shows it in place of all that is there, if still nobody is at it or `asked` for it. */
  async #replace(asked = false) {
    this.#behind = false;
    const filter = this.#filter;
    try {
      const page = await get(this.#ask(null));
      if (filter !== this.#filter) return;
      if (!asked && this.#held()) return this.#renew();
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
      } else if (!matches || !inTime(this.#filter, row) || this.#isBeyond(row)) this.#new.delete(order);
      else if (!this.#filter.q) this.#put(row, false);
      else if (this.#unsure.size < ASKED_MAX) this.#unsure.add(order);
    }
    if (this.#unsure.size) this.#seek();
    this.#flush();
  }

  /** Asks which of the changed orders the search finds: only the server knows all that it reads. */
  async #askForUnsure() {
    const [ids, asked] = [[...this.#unsure], this.#filter];
    this.#unsure.clear();
    if (ids.length === 0) return;
    try {
      const page = await get(path("/v1/admin/orders", { ...wanted(asked), id: ids.join(","), limit: ASKED_MAX }));
      if (asked !== this.#filter) return;
      for (const row of page.data) this.#put(row, false);
      this.#flush();
    } catch {
      // They are found when the list is read again.
    }
  }

  /** Each entry is at the place of `place`, the order as it was when nobody was at the list. */
  #put(row, shown) {
    const known = this.#rows.get(row.id);
    if (known) {
      if (row.version < known.row.version) return;
      if (row.version > known.row.version) known.changed = true;
      known.row = { matched: known.row.matched, ...row };
      this.#dirty.add(row.id);
      this.#write();
    } else if (shown) {
      // A change may have overtaken the page that the row is in.
      const told = this.#new.get(row.id);
      const next = told?.version > row.version ? { matched: row.matched, ...told } : row;
      this.#rows.set(row.id, { row: next, place: next, parts: null });
      this.#dirty.add(row.id);
      this.#new.delete(row.id);
    } else {
      this.#new.set(row.id, row);
      if (this.#new.size > NEW_MAX) this.#new.delete(this.#new.keys().next().value);
    }
  }

  /** Whether somebody is at the list: then nothing moves in it. */
  #held() {
    const chosen = this.#chosen.size > 0 || document.querySelector("dialog[open]") !== null;
    return this.#asleep || atHand(this.body) || chosen || scrollY > 8 || this.#paged;
  }

  #settle() {
    if (!this.#held()) {
      if (this.#behind) this.#replace();
      this.#admit();
    }
    this.#write();
  }

  /** Shows the new orders; by the pill, which goes, the focus goes to the page. */
  release(byPill = false) {
    if (this.#behind) this.#replace(true);
    this.#admit();
    if (this.#paged) {
      this.#paged = false;
      this.#trim();
    }
    scrollTo({ top: 0 });
    if (byPill) document.getElementById("main").focus({ preventScroll: true });
    this.#write();
  }

  #admit() {
    for (const [id, one] of this.#rows) {
      if (one.gone) this.#drop(id);
      one.place = one.row;
    }
    for (const [id, row] of [...this.#new].filter(([, one]) => !this.#isBeyond(one))) {
      this.#rows.set(id, { row, place: row, parts: null, changed: true });
      this.#dirty.add(id);
    }
    this.#new.clear();
    if (!this.#paged) this.#trim();
  }

  #trim() {
    if (this.#sorted || this.#rows.size <= LIVE_ROWS) return;
    const old = this.#ordered().slice(LIVE_ROWS).filter(({ row }) => !this.#chosen.has(row.id));
    for (const { row } of old) this.#drop(row.id);
    this.#cut = true;
  }

  #ordered() {
    const compare = sorter(this.#filter.sort);
    return [...this.#rows.values()].sort((one, other) => compare(one.place, other.place));
  }

  /** Whether a row would be elsewhere, or gone, if nobody were at the list. */
  #displaced(ordered) {
    const compare = sorter(this.#filter.sort);
    return ordered.some((one, at) => one.gone || (at > 0 && compare(ordered[at - 1].row, one.row) > 0));
  }

  #last() {
    return this.#ordered().at(-1)?.row;
  }

  /** Whether an order belongs behind the rows that were read so far. */
  #isBeyond(row) {
    const last = this.#cursor && !this.#sorted ? this.#last() : null;
    return Boolean(last) && sorter(this.#filter.sort)(row, last) > 0;
  }

  #drop(id) {
    this.#chosen.delete(id);
    const { parts } = this.#rows.get(id);
    this.#rows.delete(id);
    this.#dirty.delete(id);
    if (parts) this.#pool.push(parts);
  }

  #paint() {
    const ordered = this.#ordered();
    for (const one of ordered) {
      const fresh = !one.parts;
      if (fresh) one.parts = this.#pool.pop() ?? makeRow((id, on) => this.#choose([id], on));
      if (fresh || this.#dirty.has(one.row.id)) writeRow(one, this.#chosen.has(one.row.id), this.#filter.q);
    }
    this.#dirty.clear();
    arrange(this.body, ordered.map((one) => one.parts.element));
    flashAll(ordered.filter((one) => one.changed).map((one) => one.parts.element));
    for (const one of ordered) one.changed = false;
    this.#pool.length = Math.min(this.#pool.length, LIVE_ROWS);
    const waits = this.#new.size;
    this.pill.hidden = !this.#held() || !(waits || this.#behind || this.#displaced(ordered));
    text(this.pill, this.#behind ? "Show the newest" : waits ? `${several(waits, "new order")}${waits >= NEW_MAX ? " or more" : ""}` : "Updated");
    this.#showDesk(ordered.length);
    this.#showState();
  }

  #showState() {
    const none = this.#rows.size === 0;
    attr(this.table, "hidden", none);
    this.more.hidden = none || this.#sorted || !(this.#cursor || this.#cut);
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
    for (const one of [this.#write, this.#flush, this.#seek]) one.cancel();
    this.toolbar.settle();
  }
}

// Stock: all SKUs with their products and levels, found by any part of either, and kept current.

import { get, path } from "./api.js";
import { arrange, atMost, attr, fill, h, perFrame, text } from "./dom.js";
import { count, several } from "./format.js";
import { atHand, onceLeft } from "./held.js";
import { listKeys } from "./keys.js";
import { live } from "./live.js";
import { isClosed, placeName, readNames } from "./location-names.js";
import { empty, failed, flashAll, icon, loading, pillPlace, setWhen } from "./parts.js";
import { link, restate } from "./router.js";
import { escClears, marked, seek } from "./search.js";

/** What few means in the filter for what runs out. */
const FEW = 5;
/** What can be looked for, by its name in the address. */
const FILTERS = { "": {}, few: { sellable_max: FEW }, held: { held: true } };
const LABELS = { "": "All", few: `At most ${FEW} sellable`, held: "Reserved now" };
const known = (name) => (name in FILTERS ? name : "");
/** The most SKUs of which the server is asked at once whether a search finds them. */
const ASKED_MAX = 100;
const keyOf = ({ sku, location }) => `${sku}/${location}`;
/** The order of the list: by SKU, then by location. */
const compare = (one, other) => (one.sku === other.sku ? one.location > other.location : one.sku > other.sku) ? 1 : -1;

/** Whether a level is one that is looked for, whatever is searched for. */
function fits(only, { sellable, reserved }) {
  const { sellable_max: most = Infinity, held = false } = FILTERS[only];
  return sellable <= most && (!held || reserved > 0);
}

/** Shows the page. */
export function stock(root, { query }) {
  const list = new Shelf(root, query);
  return {
    heading: "Stock",
    keys: {
      ...listKeys(() => [...list.body.querySelectorAll("a.row-link")]),
      n: () => list.release(),
      "/": () => seek(list.search),
      Escape: () => list.leave(),
    },
    help: [["n", "Show new rows"]],
    update: ({ query: next }) => list.reask(next),
    reconnected: () => list.reconnected(),
    sleep: () => list.sleep(),
    wake: ({ query: next }) => list.wake(next),
    close: () => list.close(),
  };
}

class Shelf {
  #rows = new Map();
  #q;
  #only;
  #cursor = null;
  #loading = null;
  #problem = null;
  #opened = false;
  #asleep = false;
  #focus = null;
  /** Changes of rows that are being read. */
  #early = new Map();
  /** Rows that have come to match, by their key: they wait while somebody is at the list. */
  #new = new Map();
  /** Their SKUs, where the search may find them. */
  #unsure = new Set();
  #dirty = new Set();
  #write = perFrame(() => this.#paint());
  #flush = atMost(200, () => this.#settle());
  #seek = atMost(500, () => this.#askForUnsure());
  #typed = atMost(200, () => this.#change(this.search.value.trim(), this.#only));

  constructor(root, query) {
    this.#q = query.get("q") ?? "";
    this.#only = known(query.get("only") ?? "");
    this.search = h("input", { type: "search", id: "stock-search", placeholder: "SKU or product name", autocomplete: "off", spellcheck: "false" });
    this.search.value = this.#q;
    this.search.addEventListener("input", this.#typed);
    this.search.addEventListener("keydown", (event) => event.key === "Enter" && this.body.querySelector("a.row-link")?.focus());
    escClears(this.search, () => {
      this.#typed.cancel();
      this.#change("", this.#only);
    });
    this.chips = Object.keys(FILTERS).map((name) => h("button", { class: "chip", type: "button", text: LABELS[name], data: { name }, onclick: () => this.#change(this.#q, name) }));
    this.body = h("tbody");
    const column = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
    this.table = h("table", { class: "list stock-table" }, h("caption", { class: "unseen", text: "Levels by SKU and location" }),
      h("thead", {}, h("tr", {}, column("SKU"), column("Product", "c-name"), column("Location", "c-place"), column("Breakdown", "c-bar"), column("Sellable", "end c-sellable"), column("Reserved", "end c-reserved"), column("Allocated", "end c-allocated"), column("On hand", "end c-hand"), column("Incoming", "end c-incoming"), column("Sold", "end c-sold"), column("Changed", "end c-time"))),
      this.body);
    this.state = h("div", { class: "list-state" });
    this.more = h("button", { class: "button", type: "button", text: "Show more", hidden: true, onclick: () => this.#load() });
    this.watch = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#load(), { rootMargin: "600px" });
    this.watch.observe(this.more);
    this.pill = h("button", { class: "pill", type: "button", hidden: true, onclick: () => this.release(true) });
    onceLeft(this.body, this.#flush);
    this.scrolled = () => scrollY < 8 && this.#new.size && this.#flush();
    addEventListener("scroll", this.scrolled, { passive: true });
    this.element = h("div", { class: "list-page" },
      h("div", { class: "toolbar" },
        h("label", { class: "search", for: "stock-search" }, icon("search"), h("span", { class: "unseen", text: "Search by SKU or product" }), this.search, h("kbd", { class: "wide-only", text: "/" })),
        h("div", { class: "chips", role: "group", "aria-label": "Show" }, this.chips),
        h("a", { class: "button", href: "#/locations", text: "Locations" })),
      h("div", { class: "desk" },
        h("span", { class: "legend bars grow" }, ["sellable", "reserved", "allocated"].map((name) => h("span", { class: `key ${name}` }, h("i"), name))), pillPlace(this.pill)),
      h("div", { class: "panel flush" }, this.table, this.state), h("div", { class: "list-end" }, this.more));
    fill(root, this.element);
    this.subscription = live.subscribe("stock", { limit: 1 }, {
      changes: (list) => {
        for (const one of list) for (const row of one.rows) this.#take({ ...row, version: one.version });
        if (this.#unsure.size) this.#seek();
        this.#flush();
      },
      // What is read after the snapshot misses nothing: what changes from then on is told.
      snapshot: () => this.#open(),
      error: () => this.#open(),
    });
    if (live.state !== "open") this.#open();
    else this.#write();
    this.#rename();
  }

  /** Reads what locations are called, and writes it into the rows. */
  async #rename() {
    if (!await readNames()) return;
    for (const key of this.#rows.keys()) this.#dirty.add(key);
    this.#write();
  }

  /** Follows the address. */
  reask(query) {
    this.#typed.cancel();
    this.search.value = query.get("q") ?? "";
    this.#change(this.search.value, known(query.get("only") ?? ""));
  }

  /** Reads what could not be read while there was no connection. */
  reconnected() {
    if (this.#problem) this.#load();
  }

  /** Esc: out of the list. */
  leave() {
    if (this.body.contains(document.activeElement)) document.activeElement.blur();
  }

  /** Is left for another page, and answers its address. Its rows stay current. */
  sleep() {
    this.#typed.cancel();
    this.#asleep = true;
    removeEventListener("scroll", this.scrolled);
    this.#focus = this.element.contains(document.activeElement) ? document.activeElement : null;
    return link(["stock"], { q: this.#q, only: this.#only });
  }

  /** Is shown again; whether it is as it was left. */
  wake(query) {
    this.#asleep = false;
    addEventListener("scroll", this.scrolled, { passive: true });
    this.#rename();
    const same = (query.get("q") ?? "") === this.#q && known(query.get("only") ?? "") === this.#only;
    if (same) this.#focus?.focus({ preventScroll: true });
    else this.reask(query);
    this.#flush();
    return same;
  }

  #change(q, only) {
    if (q === this.#q && only === this.#only) return;
    [this.#q, this.#only] = [q, only];
    restate(["stock"], { q, only });
    this.#open();
  }

  #open() {
    this.#loading?.abort();
    [this.#loading, this.#cursor] = [null, null];
    for (const one of [this.#rows, this.#new, this.#early, this.#unsure]) one.clear();
    this.#opened = true;
    for (const chip of this.chips) attr(chip, "aria-pressed", String(chip.dataset.name === this.#only));
    this.#load();
  }

  async #load() {
    if (this.#loading || (this.#rows.size && !this.#cursor)) return;
    const doing = new AbortController();
    this.#loading = doing;
    this.#problem = null;
    this.#write();
    try {
      const page = await get(path("/v1/admin/stock", { ...FILTERS[this.#only], q: this.#q, limit: 100, after: this.#cursor }), { signal: doing.signal });
      this.#cursor = page.next_cursor;
      for (const row of page.data) this.#put(row);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#problem = problem;
    }
    if (this.#loading === doing) {
      this.#loading = null;
      const early = [...this.#early.values()];
      this.#early.clear();
      for (const row of early) this.#take(row);
      if (this.#unsure.size) this.#seek();
      if (this.#new.size) this.#flush();
    }
    this.#write();
  }

  /** Takes a row of a page that was read. */
  #put(row) {
    const key = keyOf(row);
    const known = this.#rows.get(key);
    if (known) return this.#renew(known, row);
    // A change may have overtaken the page that the row is in.
    const told = this.#early.get(key) ?? this.#new.get(key);
    for (const one of [this.#early, this.#new]) one.delete(key);
    this.#rows.set(key, { row: told?.version > row.version ? { name: row.name, ...told } : row, parts: null });
    this.#dirty.add(key);
  }

  /** Takes a row as a change tells it: it is shown already, or may have come to match. */
  #take(row) {
    const key = keyOf(row);
    const known = this.#rows.get(key);
    if (known) this.#renew(known, row);
    else if (this.#loading) this.#early.set(key, row);
    else if (!fits(this.#only, row) || this.#isBeyond(row)) this.#new.delete(key);
    else if (!this.#q) this.#new.set(key, row);
    else if (this.#unsure.size < ASKED_MAX) this.#unsure.add(row.sku);
  }

  #renew(known, row) {
    if (row.version <= known.row.version) return;
    known.row = { name: known.row.name, ...row };
    known.changed = true;
    this.#dirty.add(keyOf(row));
  }

  /** Whether a row belongs behind those that were read so far. */
  #isBeyond(row) {
    const last = this.#cursor ? [...this.#rows.values()].at(-1)?.row : null;
    return Boolean(last) && compare(row, last) > 0;
  }

  /** Asks which of the changed SKUs the search finds: only the server knows all that it reads. */
  async #askForUnsure() {
    const [skus, q, only] = [[...this.#unsure], this.#q, this.#only];
    this.#unsure.clear();
    if (skus.length === 0) return;
    const asked = path("/v1/admin/stock", { ...FILTERS[only], q, sku: skus.join(","), limit: 200 });
    // What cannot be read now is found when the list is read again.
    const page = await get(asked).catch(() => ({ data: [] }));
    if (q !== this.#q || only !== this.#only) return;
    for (const row of page.data) if (!this.#rows.has(keyOf(row)) && !this.#isBeyond(row)) this.#new.set(keyOf(row), row);
    this.#flush();
  }

  /** Whether somebody is at the list: then nothing moves in it. */
  #held() {
    return this.#asleep || atHand(this.body) || scrollY > 8;
  }

  #settle() {
    if (this.#new.size && !this.#held()) this.#admit();
    this.#write();
  }

  #admit() {
    for (const [key, row] of this.#new) {
      this.#rows.set(key, { row, parts: null, changed: true });
      this.#dirty.add(key);
    }
    this.#new.clear();
    this.#rows = new Map([...this.#rows].sort(([, one], [, other]) => compare(one.row, other.row)));
  }

  /** Shows the new rows; by the pill, which goes, the focus goes to the page. */
  release(byPill = false) {
    this.#admit();
    if (byPill) document.getElementById("main").focus({ preventScroll: true });
    this.#write();
  }

  #paint() {
    const keys = [...this.#rows.keys()];
    const news = [];
    for (const [key, one] of this.#rows) {
      const fresh = !one.parts;
      if (fresh) one.parts = makeRow();
      if (fresh || this.#dirty.has(key)) writeRow(one.parts, one.row, this.#q);
      if (one.changed) news.push(one.parts.element);
      one.changed = false;
    }
    flashAll(news);
    if (this.body.childElementCount !== keys.length || this.#dirty.size) arrange(this.body, keys.map((key) => this.#rows.get(key).parts.element));
    this.#dirty.clear();
    this.pill.hidden = this.#new.size === 0 || !this.#held();
    text(this.pill, several(this.#new.size, "new row"));
    const none = keys.length === 0;
    attr(this.table, "hidden", none);
    this.more.hidden = none || !this.#cursor;
    if (this.#problem) fill(this.state, failed(this.#problem, () => this.#load()));
    else if (none && (this.#loading || !this.#opened)) this.state.firstElementChild?.matches(".bones") || fill(this.state, loading(10));
    else if (none && this.#q) fill(this.state, empty(`Nothing found for “${this.#q}”`, "Search by any part of a SKU or of a product's name; of several words, each must be in one of them."));
    else if (none && this.#only === "held") fill(this.state, empty("No units are reserved", "Units are reserved while their order is being paid, for 15 minutes at most."));
    else if (none && this.#only) fill(this.state, empty("No SKU is low", `Every SKU has more than ${FEW} sellable units.`));
    else if (none) fill(this.state, empty("No stock yet", "Add units by an import, or with PUT /v1/admin/stock/{sku}/{location}."));
    else fill(this.state);
  }

  close() {
    this.subscription.close();
    this.#loading?.abort();
    this.watch.disconnect();
    removeEventListener("scroll", this.scrolled);
    for (const one of [this.#write, this.#flush, this.#seek, this.#typed]) one.cancel();
  }
}

/** The three parts of what is on hand, as one bar. */
export function bar() {
  return h("span", { class: "bar" }, h("i", { class: "sellable" }), h("i", { class: "reserved" }), h("i", { class: "allocated" }));
}

/** Shows a level in a bar. */
export function setBar(element, level) {
  const whole = Math.max(1, level.on_hand);
  [level.sellable, level.reserved, level.allocated].forEach((value, at) => {
    element.children[at].hidden = value <= 0;
    element.children[at].style.setProperty("width", `${Math.max(0, (100 * value) / whole)}%`);
  });
}

function makeRow() {
  const cell = (kind) => h("td", { class: `end num ${kind}` });
  const parts = { link: h("a", { class: "row-link mono" }), name: h("td", { class: "c-name" }), place: h("td", { class: "faint c-place" }), bar: bar(), sellable: cell("strong c-sellable"), reserved: cell("c-reserved"), allocated: cell("c-allocated"), hand: cell("c-hand"), incoming: cell("c-incoming"), sold: cell("c-sold"), time: h("time", {}) };
  parts.element = h("tr", { data: { row: "" } }, h("th", { scope: "row", class: "c-sku" }, parts.link), parts.name, parts.place, h("td", { class: "c-bar" }, parts.bar), parts.sellable, parts.reserved, parts.allocated, parts.hand, parts.incoming, parts.sold, h("td", { class: "end faint c-time" }, parts.time));
  parts.element.addEventListener("click", (event) => event.target.closest("a") || parts.link.click());
  return parts;
}

function writeRow(parts, row, q) {
  attr(parts.link, "href", link(["stock", row.sku]));
  fill(parts.link, marked(row.sku, q));
  fill(parts.name, marked(row.name ?? "", q));
  attr(parts.name, "title", row.name);
  text(parts.place, `${placeName(row.location)}${isClosed(row.location) ? ", not for sale" : ""}`);
  attr(parts.place, "title", row.location);
  setBar(parts.bar, row);
  const numbers = { sellable: row.sellable, reserved: row.reserved, allocated: row.allocated, hand: row.on_hand, incoming: row.incoming, sold: row.sold };
  for (const [name, value] of Object.entries(numbers)) text(parts[name], count(value));
  parts.element.classList.toggle("out", row.sellable <= 0);
  setWhen(parts.time, row.updated_at);
}

// What waits for an operator, known on every page: the count in the navigation comes from here.

import { get, path } from "./api.js";
import { atMost } from "./dom.js";
import { follows, live } from "./live.js";
import { may, refusal } from "./rights.js";

/** How often lists are read that have no topic of their own. */
const POLL = 15_000;
/** The most orders of a kind that are kept here. */
const ORDERS_MAX = 500;

/** Orders by id, as a list and its changes tell them; what is gone is remembered by its version. */
class Kept extends Map {
  more = false;
  /** Whether they were told once. */
  told = false;
  #gone = new Map();

  all(rows, more) {
    this.clear();
    [this.more, this.told] = [more, true];
    for (const row of rows) this.put(row, true);
  }

  merge(changes) {
    for (const change of changes) {
      if (follows(this.#version(change.order), change) !== "stale") this.put(change.row, change.matches);
    }
  }

  put(row, matches) {
    if (row.version < this.#version(row.id)) return;
    this.delete(row.id);
    if (matches) {
      this.set(row.id, row);
      if (this.size > ORDERS_MAX) {
        this.delete(this.keys().next().value);
        this.more = true;
      }
    } else {
      this.#gone.set(row.id, row.version);
      if (this.#gone.size > 2000) this.#gone.delete(this.#gone.keys().next().value);
    }
  }

  #version(id) {
    return Math.max(this.get(id)?.version ?? 0, this.#gone.get(id) ?? 0);
  }
}

class Alarms extends EventTarget {
  /** Orders that are stuck or carry an alert, by id. */
  stuck = new Kept();
  /** Orders that are under way, by id. */
  underWay = new Kept();
  webhooks = [];
  letters = [];
  quarantine = [];
  cluster = null;
  /** Switches that are off and stop buyers: settings as the API lists them. */
  off = [];
  problem = null;
  #answered = false;
  #subscriptions = [];
  #timer = 0;
  #tell = atMost(250, () => this.dispatchEvent(new Event("change")));

  start() {
    const keep = (kept) => ({
      snapshot: (rows, more) => {
        kept.all(rows, more);
        this.#tell();
      },
      changes: (list) => {
        kept.merge(list);
        this.#tell();
      },
    });
    this.#subscriptions = [
      may("orders:read") && live.subscribe("orders", { filter: { status: ["stuck"] }, limit: 200 }, keep(this.stuck)),
      may("ops") && live.subscribe("sagas", { limit: 200 }, keep(this.underWay)),
      may("ops") && live.subscribe("cluster", {}, { cluster: (data) => this.#see(data) }),
    ].filter(Boolean);
    this.refresh();
    this.#timer = setInterval(() => this.refresh(), POLL);
  }

  stop() {
    for (const one of this.#subscriptions) one.close();
    clearInterval(this.#timer);
    this.#tell.cancel();
    [this.stuck, this.underWay] = [new Kept(), new Kept()];
    [this.webhooks, this.letters, this.quarantine, this.off, this.cluster] = [[], [], [], [], null];
    [this.#answered, this.problem] = [false, null];
  }

  /** Whether all of it that may be read was read once: before, nothing can be said of it. */
  get read() {
    return this.#answered && (this.stuck.told || !may("orders:read")) && (this.underWay.told || !may("ops"));
  }

  /** What the session may not see of it, each in a sentence. */
  get unseen() {
    return [
      refusal("orders:read", "see stuck orders and alerts"),
      refusal("ops", "see payments with an unknown outcome, parked webhooks, dead letters and what is in quarantine"),
    ].filter(Boolean);
  }

  /** How many things want somebody. */
  get count() {
    return this.stuck.size + this.webhooks.length + this.letters.length + this.quarantine.length;
  }

  /** Orders that are under way, and not stuck. */
  get waiting() {
    return [...this.underWay.values()].filter((row) => !this.stuck.has(row.id));
  }

  /** Orders whose payment has no known outcome. */
  get unknown() {
    return this.waiting.filter((row) => row.payment_status === "unknown");
  }

  /** Reads what has no topic. */
  async refresh() {
    if (may("ops")) await this.#ask();
    this.#answered = true;
    this.#tell();
  }

  async #ask() {
    try {
      const [webhooks, letters, cluster, settings] = await Promise.all([
        get(path("/v1/admin/webhooks", { limit: 100 })),
        get(path("/v1/admin/dead-letters", { limit: 100 })),
        get("/v1/admin/cluster"),
        get("/v1/admin/settings"),
      ]);
      this.off = settings.data.filter((one) => one.kind === "switch" && one.default === true && one.value === false);
      this.webhooks = webhooks.data;
      this.letters = letters.data;
      this.problem = null;
      this.#see(cluster);
    } catch (problem) {
      this.problem = problem;
    }
  }

  #see(cluster) {
    this.cluster = cluster;
    this.quarantine = cluster.here.quarantine;
    this.#tell();
  }
}

/** What waits for an operator. */
export const alarms = new Alarms();

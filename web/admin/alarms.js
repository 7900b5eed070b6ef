// What waits for an operator, known on every page: the count in the navigation comes from here.

import { get, path } from "./api.js";
import { atMost } from "./dom.js";
import { follows, live } from "./live.js";

/** How often lists are read that have no topic of their own. */
const POLL = 15_000;
/** The most sagas that are kept here. */
const SAGAS_MAX = 500;

class Alarms extends EventTarget {
  /** Sagas that are stuck or carry an alert, by order. */
  stuck = new Map();
  /** Sagas that are under way and not stuck, by order. */
  waiting = new Map();
  /** Whether there are more sagas than are kept. */
  more = false;
  webhooks = [];
  letters = [];
  quarantine = [];
  cluster = null;
  problem = null;
  /** Whether all of it was read once. */
  read = false;
  #subscriptions = [];
  #timer = 0;
  #gone = new Map();
  #tell = atMost(250, () => this.dispatchEvent(new Event("change")));

  start() {
    this.#subscriptions = [
      live.subscribe("sagas", { limit: 200 }, {
        snapshot: (rows, more) => this.#all(rows, more),
        changes: (list) => this.#merge(list),
      }),
      live.subscribe("cluster", {}, {
        cluster: (data) => this.#see(data),
      }),
    ];
    this.refresh();
    this.#timer = setInterval(() => this.refresh(), POLL);
  }

  stop() {
    for (const one of this.#subscriptions) one.close();
    clearInterval(this.#timer);
    this.#tell.cancel();
    for (const map of [this.stuck, this.waiting, this.#gone]) map.clear();
    [this.webhooks, this.letters, this.quarantine, this.cluster] = [[], [], [], null];
    [this.read, this.problem, this.more] = [false, null, false];
  }

  /** How many things want somebody. */
  get count() {
    return this.stuck.size + this.webhooks.length + this.letters.length + this.quarantine.length;
  }

  /** Sagas whose payment has no known outcome. */
  get unknown() {
    return [...this.waiting.values()].filter((row) => row.payment_status === "unknown");
  }

  /** Reads what has no topic. */
  async refresh() {
    try {
      const [webhooks, letters, cluster, stuck] = await Promise.all([
        get(path("/v1/admin/webhooks", { limit: 100 })),
        get(path("/v1/admin/dead-letters", { limit: 100 })),
        get("/v1/admin/cluster"),
        get(path("/v1/admin/sagas", { stuck: true, limit: 200 })),
      ]);
      this.webhooks = webhooks.data;
      this.letters = letters.data;
      for (const row of stuck.data) this.#put(row, true);
      this.problem = null;
      this.#see(cluster);
    } catch (problem) {
      this.problem = problem;
    }
    this.read = true;
    this.#tell();
  }

  #see(cluster) {
    this.cluster = cluster;
    this.quarantine = cluster.nodes.flatMap((node) => node.quarantine);
    this.#tell();
  }

  #all(rows, more) {
    const kept = more ? [...this.stuck.values()] : [];
    this.stuck.clear();
    this.waiting.clear();
    for (const row of [...kept, ...rows]) this.#put(row, true);
    this.more = more;
    this.#tell();
  }

  #merge(list) {
    for (const change of list) {
      const known = this.stuck.get(change.order) ?? this.waiting.get(change.order);
      const version = Math.max(known?.version ?? 0, this.#gone.get(change.order) ?? 0);
      if (follows(version, change) !== "stale") this.#put(change.row, change.matches);
    }
    this.#tell();
  }

  #put(row, matches) {
    const known = this.stuck.get(row.id) ?? this.waiting.get(row.id);
    if (row.version < Math.max(known?.version ?? 0, this.#gone.get(row.id) ?? 0)) return;
    this.stuck.delete(row.id);
    this.waiting.delete(row.id);
    if (!matches) {
      this.#gone.set(row.id, row.version);
      if (this.#gone.size > 2000) this.#gone.delete(this.#gone.keys().next().value);
      return;
    }
    const into = row.stuck_reason || row.alert || row.status === "stuck" ? this.stuck : this.waiting;
    into.set(row.id, row);
    if (into.size > SAGAS_MAX) {
      into.delete(into.keys().next().value);
      this.more = true;
    }
  }
}

/** What waits for an operator. */
export const alarms = new Alarms();

// All nodes: who is there, who owns which shard, how the services behind them are, and moving
// shards about. This node's own lanes and hosts are on the System page.

import { get, send } from "./api.js";
import { ask, sentence } from "./dialog.js";
import { fill, h, keepFocus, sayHere } from "./dom.js";
import { count, several, title } from "./format.js";
import { listKeys } from "./keys.js";
import { allow, badge, empty, failed, loading, panel, when, whyNot } from "./parts.js";

/** How often the page looks. */
const EVERY = 2_000;
/** Colors of nodes, in order of their names. */
const HUES = ["hue-1", "hue-2", "hue-3", "hue-4", "hue-5", "hue-6"];

/** Shows the page. */
export function cluster(root) {
  let known = null;
  let closed = false;
  let busy = false;
  fill(root, loading(8));

  const read = async () => {
    if (busy) return;
    busy = true;
    try {
      const next = await get("/v1/admin/cluster");
      if (closed) return;
      known = next;
      draw();
    } catch (problem) {
      if (!known && !closed) fill(root, failed(problem, read));
    } finally {
      busy = false;
    }
  };
  const draw = () => {
    const giveBack = keepFocus(root);
    const scrolled = root.querySelector(".shards-scroll")?.scrollTop ?? 0;
    fill(root, figures(known), findings(known), nodes(known, read), services(known), shards(known, read));
    const list = root.querySelector(".shards-scroll");
    if (list) list.scrollTop = scrolled;
    giveBack();
  };
  const timer = setInterval(read, EVERY);
  read();
  return {
    heading: "Cluster",
    keys: listKeys(() => [...root.querySelectorAll("[data-row] button")]),
    reconnected: read,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

const sum = (list, of) => list.reduce((all, one) => all + (of(one) ?? 0), 0);

function figures({ nodes, shards, services }) {
  const live = nodes.filter((node) => node.state !== "dead");
  const owned = shards.filter((shard) => shard.owner);
  const away = services.filter((service) => service.status === "failed" || service.status === "degraded");
  const pinned = shards.filter((shard) => shard.pinned_to).length;
  const behind = sum(shards, (shard) => shard.projection_lag);
  const figure = (label, value, small, bad) => h("div", { class: bad ? "figure bad" : "figure" },
    h("span", { text: label }), h("b", { class: "num", text: value }), h("small", { text: small }));
  return h("div", { class: "figures five" },
    figure("Nodes", count(live.length), live.length === nodes.length ? "all live" : `${count(nodes.length - live.length)} dead`, live.length < nodes.length),
    figure("Shards owned", count(owned.length), `of ${count(shards.length)}`, owned.length < shards.length),
    figure("Projection lag", count(behind), behind === 1 ? "event" : "events", behind > 10_000),
    figure("Pinned", count(pinned), `${pinned === 1 ? "shard" : "shards"}, by operators`),
    figure("Services", away.length ? `${count(away.length)} degraded` : "ok", away.map((one) => one.name).join(", ") || services.map((one) => one.name).join(", "), away.length > 0));
}

function findings({ findings: list }) {
  return list.map((text) => h("p", { class: "callout wait" }, h("b", { text: "Finding" }), h("span", { text })));
}

const hue = (nodes, id) => HUES[nodes.findIndex((node) => node.id === id) % HUES.length] ?? "none";

function dot(nodes, id) {
  return h("i", { class: `node-dot ${hue(nodes, id)}`, "aria-hidden": "true" });
}

/** What a node says of itself; nothing if it does not answer. */
const told = (figure) => (figure === null ? "–" : count(figure));

const age = (ms) => (ms === null || ms === undefined ? "–" : `${(ms / 1000).toFixed(1)} s`);

function nodes({ nodes: list, here }, read) {
  const head = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
  return panel("Nodes", h("span", { class: "faint wide-only", text: "a draining node hands its shards over and takes no new ones" }),
    h("table", { class: "list nodes-table" },
      h("thead", {}, h("tr", {}, head("Node"), head("State"), head("Shards", "end"), head("In progress", "end c-queue"), head("In quarantine", "end c-queue"), head("Version", "c-version"), head("Started", "c-time"), head("Lease", "end c-lease"), h("th", {}, h("span", { class: "unseen", text: "Actions" })))),
      h("tbody", {}, list.map((node) => h("tr", { data: { row: "" } },
        h("th", { scope: "row" }, h("span", { class: "clip", title: node.url }, dot(list, node.id), h("span", { class: "mono", text: node.id }), node.id === here.id ? h("span", { class: "faint wide-only", text: " this node" }) : null)),
        h("td", {}, badge(node.state)),
        h("td", { class: "end num", text: count(node.shards) }),
        h("td", { class: "end num c-queue", text: told(node.under_way) }),
        h("td", { class: "end num c-queue", text: told(node.quarantined) }),
        h("td", { class: "c-version num", text: node.version }),
        h("td", { class: "c-time" }, node.started_at ? when(node.started_at) : "–"),
        h("td", { class: "end num c-lease", text: node.state === "dead" ? "expired" : age(node.lease_left_ms) }),
        h("td", { class: "end" }, drainButton(node, read)))))));
}

function drainButton(node, read) {
  const draining = node.state === "draining";
  const label = draining ? "Undrain" : "Drain";
  const button = h("button", {
    class: "button small", type: "button", id: `drain-${node.id}`,
    text: label, "aria-label": `${label} ${node.id}`, onclick: () => (draining ? undrain(node, read) : drain(node, read)),
  });
  const note = whyNot();
  allow(button, note, label, node.state === "dead" ? "the node is dead." : node.can_drain ? null : "no other node can take its shards.");
  return [button, note];
}

const nodePlace = (node) => `/v1/admin/cluster/nodes/${encodeURIComponent(node.id)}`;

function undrain(node, read) {
  ask({
    heading: `Undrain ${node.id}`,
    intro: "The node gets its share of the shards again.",
    verb: "Undrain",
    done: `${node.id} no longer drains`,
    act: async () => {
      await send("POST", `${nodePlace(node)}/undrain`);
      await read();
    },
  });
}

/** Asks first what it would do. */
async function drain(node, read) {
  const tell = sayHere();
  let plan;
  try {
    plan = await send("POST", `${nodePlace(node)}/drain?dry_run=true`);
  } catch (problem) {
    return tell(sentence(problem), true);
  }
  if (!tell.here()) return;
  ask({
    heading: `Drain ${node.id}`,
    intro: ["Its shards are handed over to other nodes one by one, and no request fails. The node still answers requests, by forwarding them.", moves(plan)],
    verb: "Drain",
    danger: true,
    done: `${node.id} drains`,
    act: async () => {
      await send("POST", `${nodePlace(node)}/drain`);
      await read();
    },
  });
}

/** What a plan moves: shard by shard, or if that is much, how many to whom. */
function moves({ moves: list }) {
  if (list.length === 0) return h("p", { text: "No shard moves." });
  const to = [...new Set(list.map((one) => one.to))].sort();
  const lines = list.length <= 8
    ? list.map((one) => `Shard ${one.shard}: from ${one.from || "no owner"} to ${one.to}`)
    : to.map((id) => `${several(list.filter((one) => one.to === id).length, "shard")} to ${id}`);
  return h("ul", { class: "plan" }, lines.map((text) => h("li", { text })));
}

function services({ services: list }) {
  return panel("Services", null, h("ul", { class: "rows" }, list.map((service) =>
    h("li", {}, h("span", { class: "service", text: title(service.name) }), badge(service.status), h("span", { class: "faint end", text: service.detail })))));
}

function shards({ shards: list, nodes: all }, read) {
  if (list.length === 0) return empty("There are no shards");
  const head = (name, kind = "end") => h("th", { scope: "col", class: kind, text: name });
  const map = h("div", { class: "shard-map", role: "img", "aria-label": words(list, all) },
    list.map((shard) => h("i", { class: hue(all, shard.owner), title: `Shard ${shard.id}: ${shard.owner || "no owner"}` })));
  const row = (shard) => h("tr", { data: { row: "" } },
    h("th", { scope: "row", class: "num", text: shard.id }),
    h("td", {}, shard.owner ? h("span", { class: "clip" }, dot(all, shard.owner), h("span", { class: "mono", text: shard.owner })) : badge("unowned"),
      shard.pinned_to ? h("span", { class: "faint pin", text: shard.pinned_to === shard.owner ? " pinned" : ` pinned to ${shard.pinned_to}` }) : null),
    h("td", { class: "end num c-epoch", text: count(shard.epoch) }),
    h("td", { class: "end num c-lease", text: age(shard.lease_left_ms) }),
    h("td", { class: "end num", text: count(shard.last_pos) }),
    h("td", { class: "end num c-lag", text: count(shard.projection_lag) }),
    h("td", { class: "end num c-queue", text: told(shard.lane_depth) }),
    h("td", { class: "end num c-relay", text: told(shard.relay_lag) }),
    h("td", { class: "end" },
      shard.pinned_to ? h("button", { class: "button small wide-only", type: "button", id: `unpin-${shard.id}`, text: "Unpin", "aria-label": `Unpin shard ${shard.id}`, onclick: () => unpin(shard, read) }) : null,
      h("button", { class: "button small", type: "button", id: `move-${shard.id}`, text: "Move", "aria-label": `Move shard ${shard.id}`, onclick: () => move(shard, all, read) })));
  const rows = list.map(row);
  const note = whyNot();
  allow(rows.map((one) => one.querySelector(`[id^="move-"]`)), note, "Move", list.length === 1 ? "there is one shard, and one node for it." : null);
  return panel("Shards", [note, h("span", { class: "faint wide-only", text: "each has one owner, under a lease" })], map,
    h("div", { class: "shards-scroll", tabindex: "0", role: "region", "aria-label": "All shards" }, h("table", { class: "list shards-table" },
      h("thead", {}, h("tr", {}, head("Shard", ""), head("Owner", ""), head("Epoch", "end c-epoch"), head("Lease", "end c-lease"), head("Position"), head("Projection lag", "end c-lag"), head("Queued", "end c-queue"), head("Relay lag", "end c-relay"), h("th", {}, h("span", { class: "unseen", text: "Actions" })))),
      h("tbody", {}, rows))));
}

function words(list, all) {
  const of = (id) => list.filter((shard) => shard.owner === id).length;
  const free = list.filter((shard) => !shard.owner).length;
  return [...all.map((node) => `${node.id} owns ${several(of(node.id), "shard")}`), free ? `${several(free, "shard")} without an owner` : null].filter(Boolean).join(", ");
}

/** First what it would do, then doing it. */
function move(shard, all, read) {
  const place = `/v1/admin/cluster/shards/${shard.id}/move`;
  const targets = all.filter((node) => node.state === "live");
  ask({
    heading: `Move shard ${shard.id}`,
    intro: "The shard is handed over and pinned to its new node, until it is unpinned or the node is absent. You will see a preview first.",
    fields: [{ name: "to", label: "To", type: "select", required: true, options: targets.map((node) => [node.id, node.id === shard.owner ? `${node.id} (current owner)` : node.id]) }],
    verb: "Preview",
    act: async ({ to }) => {
      const tell = sayHere();
      const plan = await send("POST", place, { to, dry_run: true });
      setTimeout(() => tell.here() && confirmMove(shard, to, plan, place, read));
    },
  });
}

function confirmMove(shard, to, plan, place, read) {
  ask({
    heading: `Move shard ${shard.id} to ${to}`,
    intro: [shard.owner === to ? "The node owns the shard already; it will be pinned there. " : null, moves(plan)],
    verb: "Move",
    done: `Shard ${shard.id} is being moved`,
    act: async (_, key) => {
      await send("POST", place, { to, dry_run: false }, { key });
      await read();
    },
  });
}

async function unpin(shard, read) {
  const tell = sayHere();
  try {
    await send("DELETE", `/v1/admin/cluster/shards/${shard.id}/pin`);
    tell(`Shard ${shard.id} is unpinned`);
  } catch (problem) {
    tell(sentence(problem), true);
  }
  await read();
}

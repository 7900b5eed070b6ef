// The machine: this node, its shards and lanes, its hosts, and how far the lists are behind.

import { alarms } from "./alarms.js";
import { get } from "./api.js";
import { chart, SPAN } from "./chart.js";
import { atMost, fill, h, renew } from "./dom.js";
import { bytes, count, millis, several, title } from "./format.js";
import { live } from "./live.js";
import { badge, empty, facts, loading, panel } from "./parts.js";
import { may, refusal } from "./rights.js";

const whole = (value) => count(Math.round(value));

/** Shows the page. */
export function system(root) {
  const samples = [];
  const made = [
    chart({ heading: "Journal", unit: "a second", read: whole, floor: 10, series: [
      { label: "events", color: "green", of: (one) => one.events, area: true }, { label: "commits", color: "blue", of: (one) => one.commits }] }),
    chart({ heading: "Requests", unit: "ms", read: millis, floor: 5, series: [
      { label: "p99", color: "amber", of: (one) => (one.request_ms?.count ? one.request_ms.p99 : NaN) },
      { label: "p50", color: "green", of: (one) => (one.request_ms?.count ? one.request_ms.p50 : NaN), area: true }] }),
    chart({ heading: "Projection lag", unit: "events", read: whole, floor: 10, series: [
      { label: "projection lag", color: "amber", of: (one) => one.projection_lag, area: true }, { label: "lane queue", color: "blue", of: (one) => one.lane_queued }] }),
    chart({ heading: "Memory", unit: "MiB, resident", read: whole, floor: 32, series: [
      { label: "rss", color: "blue", of: (one) => (one.rss_bytes ? one.rss_bytes / 2 ** 20 : NaN), area: true }] }),
  ];
  const nodes = h("div", {}, loading(6));
  const ready = h("div");
  const measured = may("orders:read");
  fill(root, nodes, measured ? h("div", { class: "two" }, made.map((one) => one.figure)) : empty("The charts cannot be shown", refusal("orders:read", "see the figures of the shop")), ready);
  let cluster = alarms.cluster;
  const draw = atMost(500, () => {
    renew(nodes.firstChild, cluster ? nodePart(cluster.here, samples.at(-1)) : loading(6));
  });
  const subscriptions = [
    measured && live.subscribe("stats", {}, {
      stats: (list) => {
        if (list.length > 1) samples.length = 0;
        samples.push(...list);
        samples.splice(0, Math.max(0, samples.length - SPAN));
        for (const one of made) one.show(samples);
        draw();
      },
    }),
    live.subscribe("cluster", {}, {
      cluster: (data) => {
        cluster = data;
        draw();
      },
    }),
  ].filter(Boolean);
  const check = async () => {
    const found = await get("/readyz").catch((problem) => problem);
    if (found.checks) fill(ready, checks(found));
  };
  const timer = setInterval(check, 10_000);
  check();
  draw();
  return {
    heading: "System",
    close() {
      for (const one of subscriptions) one.close();
      for (const one of made) one.close();
      clearInterval(timer);
      draw.cancel();
    },
  };
}

function nodePart(node, sample) {
  const last = node.shards.reduce((most, shard) => Math.max(most, shard.last_pos), 0);
  const column = (name, kind = "end") => h("th", { scope: "col", class: kind, text: name });
  const row = (name, ...values) => h("tr", {}, h("th", { scope: "row", text: name }), values.map((value) => h("td", { class: "end num", text: count(value) })));
  const per = (shard) => (shard.commits ? (shard.records / shard.commits).toFixed(1) : "–");
  return h("div", {},
    h("section", { class: "panel node" }, h("div", { class: "panel-head" }, h("h2", { text: `Node ${node.id}` }), badge(node.ready ? "ok" : "failed"), h("span", { class: "faint grow", text: `kontor ${node.version}` })),
      facts([
        ["Journal position", h("span", { class: "num", text: count(last) })],
        ["Projection lag", h("span", { class: "num", text: several(Math.max(0, last - node.projected), "event") })],
        ["Open sockets", h("span", { class: "num", text: sample ? count(sample.sockets) : "–" })],
        ["Requests", h("span", { class: "num", text: sample ? `${count(sample.requests)} a second` : "–" })],
        ["5xx responses", h("span", { class: "num", text: sample ? `${count(sample.errors_5xx)} a second` : "–" })],
        ["Memory", h("span", { class: "num", text: sample ? bytes(sample.rss_bytes) : "–" })],
      ])),
    h("div", { class: "two" },
      panel("Shards and their lanes", h("span", { class: "faint wide-only", text: "one writer each" }), h("table", { class: "list plain" },
        h("thead", {}, h("tr", {}, column("Shard", ""), column("Position"), column("Queued"), column("Commits"), column("Events a commit"), column("Refused"))),
        h("tbody", {}, node.shards.map((shard) => h("tr", {}, h("th", { scope: "row", text: shard.shard }), [count(shard.last_pos), count(shard.queued), count(shard.commits), per(shard), count(shard.refused)].map((value) => h("td", { class: "end num", text: value }))))))),
      panel("Hosts", h("span", { class: "faint wide-only", text: "one for each noun" }), h("table", { class: "list plain" },
        h("thead", {}, h("tr", {}, column("Noun", ""), column("In memory"), column("In progress"), column("Failures"), column("Quarantined"))),
        h("tbody", {}, node.hosts.map((host) => row(title(host.noun), host.awake, host.under_way, host.failures, host.quarantined)))))));
}

function checks(found) {
  return panel("Readiness", badge(found.ready ? "ok" : "failed"), h("ul", { class: "rows" }, found.checks.map((check) =>
    h("li", {}, h("span", { text: title(check.name) }), badge(check.status), h("span", { class: "faint end", text: check.detail ?? "" })))));
}

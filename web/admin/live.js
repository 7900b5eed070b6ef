// The live socket: one connection for all subscriptions, taken up again where it broke off.
//
// A subscription is told `snapshot(rows, more)`, `changes(list)`, `stats(samples)`,
// `cluster(data)`, `resync(reason)` and `error(code, detail)`, as far as it has such a handler.
// After a break it goes on from its last token; the server resyncs it if that is too old.

const PROTOCOL = "kontor.live.v1";
const WAIT_MIN = 500;
const WAIT_MAX = 15_000;
/** A connection that says no hello for so long is given up. */
const HELLO_WITHIN = 10_000;

class Live extends EventTarget {
  /** `off`, `connecting`, `open`, or `waiting` until `retryAt`. */
  state = "off";
  retryAt = 0;
  node = null;
  #socket = null;
  #subscriptions = new Map();
  #next = 1;
  #wait = WAIT_MIN;
  #timer = 0;

  /** Connects, and stays connected until `stop`. */
  start() {
    if (this.state === "off") this.#connect();
  }

  /** Ends everything. */
  stop() {
    clearTimeout(this.#timer);
    this.#subscriptions.clear();
    this.#drop();
    this.#become("off");
  }

  /** Tries again at once. */
  retry() {
    if (this.state !== "waiting") return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  /** There is no network: the connection is lost, whether or not it knows. */
  giveUp() {
    if (this.state !== "open" && this.state !== "connecting") return;
    this.#drop();
    this.#lost();
  }

  /** Subscribes; the answer ends it by `close()`. */
  subscribe(topic, { filter, limit } = {}, handlers = {}) {
    const id = `${topic}.${this.#next++}`;
    const one = { id, topic, filter, limit, handlers, token: null };
    this.#subscriptions.set(id, one);
    this.#ask(one);
    return {
      close: () => {
        if (this.#subscriptions.delete(id)) this.#say({ type: "unsubscribe", id });
      },
    };
  }

  #connect() {
    this.#become("connecting");
    const secure = location.protocol === "https:";
    const address = `${secure ? "wss" : "ws"}://${location.host}/v1/admin/live`;
    const socket = new WebSocket(address, [PROTOCOL]);
    this.#socket = socket;
    const late = setTimeout(() => socket.close(), HELLO_WITHIN);
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      const message = JSON.parse(event.data);
      if (message.type === "hello") clearTimeout(late);
      this.#take(message);
    };
    socket.onclose = (event) => {
      clearTimeout(late);
      if (socket === this.#socket) this.#lost(event.code);
    };
  }

  #take(message) {
    if (message.type === "hello") {
      this.node = message;
      this.#wait = WAIT_MIN;
      this.#become("open");
      for (const one of this.#subscriptions.values()) this.#ask(one);
      return;
    }
    const one = this.#subscriptions.get(message.id);
    if (!one) return;
    if (message.token) one.token = message.token;
    const { handlers } = one;
    switch (message.type) {
      case "snapshot":
        handlers.snapshot?.(message.data, Boolean(message.more));
        break;
      case "changes":
        handlers.changes?.(message.data);
        break;
      case "stats":
        handlers.stats?.(message.data);
        break;
      case "cluster":
        handlers.cluster?.(message.data);
        break;
      case "resync":
        handlers.resync?.(message.reason, message.skipped);
        break;
      case "error":
        handlers.error?.(message.code, message.detail);
        break;
    }
  }

  #lost(code) {
    this.#socket = null;
    if (this.state === "off") return;
    if (code === 4401) {
      this.stop();
      this.dispatchEvent(new Event("signed-out"));
      return;
    }
    const wait = this.#wait * (0.75 + Math.random() / 2);
    this.#wait = Math.min(WAIT_MAX, this.#wait * 2);
    this.retryAt = Date.now() + wait;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#become("waiting");
  }

  #ask(one) {
    if (this.state !== "open") return;
    const message = { type: "subscribe", id: one.id, topic: one.topic };
    if (one.filter) message.filter = one.filter;
    if (one.limit) message.limit = one.limit;
    if (one.token) message.from = one.token;
    this.#say(message);
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** The connection of this page. */
export const live = new Live();

addEventListener("online", () => live.retry());
// A socket notices much later that its packets go nowhere.
addEventListener("offline", () => live.giveUp());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") live.retry();
});

/**
 * Merges a change into what is known of a thing at `version`.
 * `stale`: known already; `next`: it follows; `gap`: something between was missed.
 */
export function follows(version, change) {
  if (change.version <= version) return "stale";
  return change.after <= version ? "next" : "gap";
}

// How values read: money, counts, times, durations, bytes, names.

const LANG = navigator.language || "en";
const formats = new Map();

function made(key, make) {
  let format = formats.get(key);
  if (!format) {
    format = make();
    formats.set(key, format);
  }
  return format;
}

function moneyFormat(currency) {
  return made(`money ${currency}`, () => {
    try {
      return new Intl.NumberFormat(LANG, { style: "currency", currency });
    } catch {
      return new Intl.NumberFormat(LANG, { minimumFractionDigits: 2 });
    }
  });
}

/** How many decimals a currency has. */
export function exponent(currency) {
  return moneyFormat(currency).resolvedOptions().maximumFractionDigits;
}

/** `{amount, currency}` in whole units of the currency; a unit price that is finer is in
 * `amount_decimal`. */
export function money(value) {
  if (!value) return "–";
  const format = moneyFormat(value.currency);
  const digits = format.resolvedOptions().maximumFractionDigits;
  if (Number.isInteger(value.amount)) return signedBy(format, shift(value.amount, digits));
  const fine = made(`fine ${value.currency}`, () =>
    new Intl.NumberFormat(LANG, {
      style: "currency",
      currency: value.currency,
      maximumFractionDigits: digits + 4,
    }));
  return signedBy(fine, Number(value.amount_decimal) / 10 ** digits);
}

/** Minor units as decimal text, exactly. */
export function shift(amount, digits) {
  const sign = amount < 0 ? "-" : "";
  const all = String(Math.abs(amount)).padStart(digits + 1, "0");
  return digits ? `${sign}${all.slice(0, -digits)}.${all.slice(-digits)}` : sign + all;
}

/** Decimal text as minor units, or null if it is no amount of this currency. */
export function minor(typed, currency) {
  const digits = exponent(currency);
  const match = /^(\d{1,15})(?:[.,](\d+))?$/.exec(typed.trim());
  if (!match || (match[2] ?? "").length > digits) return null;
  return Number(match[1] + (match[2] ?? "").padEnd(digits, "0"));
}

/** The sign of what is below zero, the same everywhere and in every language. */
const MINUS = "−";
const signedBy = (format, value) => format.format(value).replace(/[-−]/g, MINUS);

/** A whole number with separators. */
export const count = (value) => signedBy(made("count", () => new Intl.NumberFormat(LANG)), value);

/** A difference: with its sign, also above zero. */
export const signed = (value) => (value > 0 ? `+${count(value)}` : count(value));

/** A whole number that was typed, with either sign for minus; NaN if it is none. */
export const whole = (typed) => (/^[-−+]?\d{1,15}$/.test(typed.trim()) ? Number(typed.trim().replace("−", "-")) : NaN);

/** A rate: one decimal below 100. */
export function rate(value) {
  if (value >= 99.95) return count(Math.round(value));
  return value.toFixed(1);
}

/** Milliseconds. */
export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ms`;
}

/** Bytes in binary units. */
export function bytes(value) {
  if (!value) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** at;
  return `${scaled >= 100 || at === 0 ? Math.round(scaled) : scaled.toFixed(1)} ${units[at]}`;
}

function unit(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago, or how soon, in one unit; `long` as in a sentence. */
export function ago(then, now = Date.now(), long = false) {
  const seconds = Math.round((now - then) / 1000);
  if (seconds < -1) return `in ${unit(-seconds)}`;
  if (seconds < 2) return long ? "just now" : "now";
  return long ? `${unit(seconds)} ago` : unit(seconds);
}

/** How long until then: minutes and seconds. */
export function left(until, now = Date.now()) {
  const seconds = Math.ceil((until - now) / 1000);
  if (seconds <= 0) return "expired";
  const pad = (value) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${pad(seconds % 60)}`;
  return `${Math.floor(seconds / 3600)} h ${pad(Math.floor((seconds % 3600) / 60))}`;
}

/** A moment, exactly. */
export const exact = (time) =>
  made("exact", () =>
    new Intl.DateTimeFormat(LANG, {
      dateStyle: "medium",
      timeStyle: "long",
    })).format(new Date(time));

/** A moment as it stands on paper, where nothing can be 3 minutes ago. */
export const onPaper = (time) =>
  made("paper", () => new Intl.DateTimeFormat(LANG, { dateStyle: "medium", timeStyle: "short" })).format(new Date(time));

/** A day. */
export const day = (time) =>
  made("day", () => new Intl.DateTimeFormat(LANG, { dateStyle: "long" })).format(new Date(time));

/** The time of day with milliseconds. */
export const clock = (time) =>
  made("clock", () =>
    new Intl.DateTimeFormat(LANG, {
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      fractionalSecondDigits: 3,
      hour12: false,
    })).format(new Date(time));

/** What the API calls a fulfillment is a shipment here. */
const SHIPPING = new Map([["unfulfilled", "not shipped"], ["partial", "partially shipped"], ["partially_fulfilled", "partially shipped"], ["fulfilled", "shipped"]]);

/** `partially_refunded` as people read it. */
export const words = (name) => SHIPPING.get(name) ?? String(name ?? "–").replaceAll("_", " ");

/** The same with a capital. */
export function title(name) {
  const plain = words(name);
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}

const PRINCIPALS = { saga: "kontor", timer: "kontor", sweep: "kontor", buyer: "the buyer" };

/** Whether nobody in particular did something. */
export const isKontor = (by) => PRINCIPALS[by] === "kontor";

/** Who did something: the name of a key or sign-in link, else what the principal is. */
export function people(by, name) {
  if (name) return name;
  const [kind, rest = ""] = String(by ?? "?").split(":");
  if (kind === "session") return "somebody signed in";
  return PRINCIPALS[kind] ?? (rest ? `${kind} ${rest}` : kind);
}

/** The part of an id that tells it from its neighbors. */
const tail = (id) => `…${id.slice(-6)}`;

/** What people call an order. */
export const orderName = (order) => (order.number ? `#${order.number}` : tail(order.id));

/** One or several of something. */
export const several = (number, one, many = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : many}`;

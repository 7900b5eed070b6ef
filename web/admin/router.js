// Which page is shown: `#/orders/ord_…?seq=3` as path and query. Deep links are addresses.

/** The page that the address names. */
export function here() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  return { parts, query: new URLSearchParams(search) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page. */
export function link(parts, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Goes to a page. */
export function go(address) {
  location.hash = address;
}

/** Writes another query into the address, without a step in the history. */
export function restate(parts, query) {
  const address = link(parts, query);
  if (location.hash !== address) history.replaceState(history.state, "", address);
  if (parts.length === 1) remember(parts[0], address);
}

/** What each list shows or was left at, by the first part of its address. */
const left = new Map();

/** Remembers what a list shows: its address with what is searched and filtered. */
export function remember(first, address) {
  left.set(first, address);
  document.querySelector(`nav a[data-name="${first}"]`)?.setAttribute("href", address);
}

/** The address of a page: a list as it was left. */
export const addressOf = (first) => left.get(first) ?? `#/${first}`;

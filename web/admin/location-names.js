// What locations are called. Levels and events have their ids; people know them by their names.

import { get, path } from "./api.js";
import { may } from "./rights.js";

const PAGE = 200;
/** The name of each location, and whether its units are for sale, by its id. */
const names = new Map();

/** What a location is called: its id, as long as its name is not known. */
export const placeName = (id) => names.get(id)?.name ?? id;

/** Whether the units of a location are not for sale. */
export const isClosed = (id) => names.get(id)?.for_sale === false;

/** The ids of all locations, as they were read last. */
export const places = () => [...names.keys()];

/** Where the units of a SKU that an order has left to ship are; nothing if there is one location. */
export function whereOf({ allocations = [] }, sku) {
  if (names.size < 2) return "";
  return allocations.filter((one) => one.sku === sku).map((one) => `${one.quantity} at ${placeName(one.location)}`).join(", ");
}

/** Reads the names of all locations, and which are for sale; whether something is otherwise than before. If they cannot be read, they stay. */
export async function readNames() {
  if (!may("stock:read")) return false;
  const before = JSON.stringify([...names]);
  const all = [];
  let after = null;
  try {
    do {
      const page = await get(path("/v1/admin/locations", { limit: PAGE, after }));
      all.push(...page.data);
      after = page.next_cursor;
    } while (after);
  } catch {
    return false;
  }
  names.clear();
  for (const { id, name, for_sale } of all) names.set(id, { name, for_sale });
  return JSON.stringify([...names]) !== before;
}

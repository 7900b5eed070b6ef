// Addresses as the post of their country reads them.

const LANG = navigator.language || "en";
const regions = new Intl.DisplayNames([LANG, "en"], { type: "region", fallback: "none" });

/** The name of a country; its code, if it has none. */
export function countryName(code) {
  try {
    return regions.of(code) ?? code;
  } catch {
    return code;
  }
}

/** The code of a country that was typed as its code or its name; what is neither stays as it is. */
export function countryCode(typed) {
  const letters = Array.from({ length: 26 }, (_, at) => String.fromCharCode(65 + at));
  const known = (code) => countryName(code).toLowerCase() === typed.toLowerCase();
  return typed.length === 2 ? typed.toUpperCase() : letters.flatMap((one) => letters.map((other) => one + other)).find(known) ?? typed;
}

const BRITISH = [["city"], ["region"], ["postal_code"]];
const AMERICAN = [["city", "region", "postal_code"]];
const PLAIN = [["city", "postal_code"], ["region"]];
/** How town, region and postal code stand below one another, where it is not `12345 Town` and the region. */
const FORMS = {
  GB: BRITISH, GG: BRITISH, IM: BRITISH, JE: BRITISH, IE: BRITISH, GI: BRITISH, ZA: BRITISH, HK: BRITISH,
  US: AMERICAN, CA: AMERICAN, AU: AMERICAN, PR: AMERICAN, NZ: PLAIN, SG: PLAIN, IN: PLAIN,
  IT: [["postal_code", "city", "region"]], BR: [["postal_code", "city", "region"]], JP: [["city"], ["region", "postal_code"]],
};

/** What follows the town before a region on the same line. */
const TOWN_ENDS = { US: ",", BR: " -" };

/** What stands where a buyer's personal data were erased. */
export const ERASED = "Personal data erased";

/** The lines of an address, with the country's name; of none, that it was erased. */
export function addressLines(to) {
  if (!to) return [ERASED];
  const form = FORMS[to.country] ?? [["postal_code", "city"], ["region"]];
  if (to.country === "HU") return [to.name, to.company, to.city, to.region, to.line1, to.line2, to.postal_code, countryName(to.country)].filter(Boolean);
  const mark = to.region ? TOWN_ENDS[to.country] ?? "" : "";
  const town = to.city && to.city + mark;
  const place = form.map((parts) => parts.map((part) => (part === "city" ? town : to[part])).filter(Boolean).join(" "));
  return [to.name, to.company, to.line1, to.line2, ...place, countryName(to.country)].filter(Boolean);
}

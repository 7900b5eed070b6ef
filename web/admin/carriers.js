// Where parcels are tracked: the carrier's page, if the parcel has no address of its own.

/** The tracking pages of carriers, by their names in small letters without spaces. */
const PAGES = {
  dhl: "https://www.dhl.com/global-en/home/tracking.html?tracking-id=",
  dpd: "https://tracking.dpd.de/status/en_US/parcel/",
  evri: "https://www.evri.com/track/parcel/",
  fedex: "https://www.fedex.com/fedextrack/?trknbr=",
  gls: "https://gls-group.eu/EU/en/parcel-tracking?match=",
  royalmail: "https://www.royalmail.com/track-your-item#/tracking-results/",
  ups: "https://www.ups.com/track?tracknum=",
  usps: "https://tools.usps.com/go/TrackConfirmAction?tLabels=",
};

/** The address at which a parcel is tracked; null if none is known. */
export function trackingAddress({ carrier, number, url }) {
  // An address, or a number, of an old order may be anything: only web addresses become links.
  for (const one of [url, number]) if (/^https?:\/\//.test(one ?? "")) return one;
  const name = (carrier ?? "").toLowerCase().replaceAll(/[^a-z]/g, "");
  return number && Object.hasOwn(PAGES, name) ? PAGES[name] + encodeURIComponent(number) : null;
}

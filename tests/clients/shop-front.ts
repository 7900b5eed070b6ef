// A shop front on another origin than the API, on the types that are generated from the API's own
// document: lists products, fills a cart, buys (the first card is declined), follows the order, and
// tells the page's server what happened. `code` narrows a problem to the members of its code.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Order = components["schemas"]["Order"];
type RequirementCode = components["schemas"]["RequirementCode"];

const api = new URLSearchParams(location.search).get("api") ?? "";
const shop = createClient<paths>({ baseUrl: api });

/** What the shop front says of each requirement: the compiler knows whether one is missing. */
const LACKS: Record<RequirementCode, string> = {
  lines_missing: "The cart is empty.",
  email_missing: "Your email address, please.",
  shipping_address_missing: "Your address, please.",
  delivery_option_missing: "How shall it be delivered?",
  line_unavailable: "Something is not sold any more.",
  total_too_large: "This is too much for one order.",
};

/** The data of an answer; a problem ends the run with its code. */
function must<T>(answer: { data?: T; error?: { code: string }; response: Response }): T {
  if (answer.data === undefined) {
    const code = answer.error?.code ?? "no problem";
    throw new Error(`${answer.response.url}: ${answer.response.status} ${code}`);
  }
  return answer.data;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** A cart that was filled, and its token, which opens its order too. */
type Filled = { id: string; etag: string; token: string };

const bearer = (token: string): { Authorization: string } => ({ Authorization: `Bearer ${token}` });

async function fillCart(): Promise<Filled> {
  const page = must(await shop.GET("/v1/store/products", { params: { query: { q: "lamp" } } }));
  const product = page.data[0];
  if (product === undefined) throw new Error("no product is found");
  const options = must(await shop.GET("/v1/store/delivery-options"));
  const option = options.data[0];
  if (option === undefined) throw new Error("there is no delivery option");
  const made = await shop.POST("/v1/store/carts", {
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { lines: [{ sku: product.sku, quantity: 1 }], delivery_option: option.id },
  });
  const cart = must(made);
  const lacks = cart.requirements.map((one) => LACKS[one.code]);
  check(lacks.includes(LACKS.email_missing), "an email is required");
  const etag = made.response.headers.get("ETag");
  check(made.response.headers.get("Location") === `/v1/store/carts/${cart.id}`, "no Location");
  if (etag === null) throw new Error("a page of another origin cannot read the ETag");
  return { id: cart.id, etag, token: cart.token };
}

async function complete(cart: Filled): Promise<number> {
  const path = { id: cart.id };
  const headers = bearer(cart.token);
  const body = {
    email: "ada@example.com",
    shipping_address: {
      name: "Ada", line1: "1 High Street", city: "London", postal_code: "N1 1AA",
      country: "GB",
    },
  } satisfies components["schemas"]["CartPatch"];
  const header = { "If-Match": cart.etag };
  const ask = { params: { path, header }, headers, body };
  const changed = must(await shop.PATCH("/v1/store/carts/{id}", ask));
  const stale = await shop.PATCH("/v1/store/carts/{id}", ask);
  if (stale.error?.code !== "version_mismatch") throw new Error("a stale version is refused");
  check(stale.error.version === changed.version, "the problem has the version");
  return changed.totals.total.amount;
}

/** A declined payment: the order, which its buyer can pay again until a deadline. */
type Declined = { id: string; deadline: Date };

async function tryToBuy(cart: Filled, header: { Prefer: string }): Promise<Declined> {
  const answer = await shop.POST("/v1/store/carts/{id}/checkout", {
    params: { path: { id: cart.id }, header: { ...header, "Idempotency-Key": crypto.randomUUID() } },
    headers: bearer(cart.token),
    body: { payment: { provider: "sandbox", token: "tok_declined" } },
  });
  const problem = answer.error;
  switch (problem?.code) {
    case "payment_declined": {
      const { order, links, decline_code, payment_deadline_at } = problem;
      check(links.pay === `/v1/store/orders/${order}/payments`, `${decline_code} is not the end`);
      return { id: order, deadline: new Date(payment_deadline_at) };
    }
    case "out_of_stock":
      throw new Error(problem.lines.map((line) => `${line.available} ${line.sku}`).join());
    case "cart_changed":
      throw new Error(`it costs ${problem.total.amount} now`);
    case "cart_incomplete":
      throw new Error(problem.requirements.map((one) => LACKS[one.code]).join(" "));
    case "order_cancelled":
    case "checkout_in_progress":
      throw new Error(`${problem.code}: ${problem.order}`);
    case "invalid_request":
      throw new Error(problem.errors.map((one) => `${one.field} ${one.message}`).join());
    default:
      throw new Error(`the card is declined: ${problem?.code}`);
  }
}

async function buy(cart: Filled, total: number): Promise<{ order: Order; token: string }> {
  const header = { Prefer: "wait=30" };
  const declined = await tryToBuy(cart, header);
  check(declined.deadline > new Date(), "there is time for another payment");
  const order = must(await shop.POST("/v1/store/orders/{id}/payments", {
    params: { path: { id: declined.id }, header: { ...header, "Idempotency-Key": crypto.randomUUID() } },
    headers: bearer(cart.token),
    body: { payment: { provider: "sandbox", token: "tok_ok" } },
  }));
  check(order.total.amount === total, "the order's total is the cart's");
  if (order.token === undefined) throw new Error("the answer to a payment has the order's token");
  return { order, token: order.token };
}

/**
 * Waits for an event of the order that fits. The stream is read with `fetch`, which sends the token in
 * a header; an EventSource could only send it in the URL, which is logged.
 */
async function follow(order: string, token: string, fits: (order: Order) => boolean): Promise<Order> {
  const response = await fetch(`${api}/v1/store/orders/${order}/live`, { headers: bearer(token) });
  if (response.body === null) throw new Error("the stream has no body");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream ended");
    const events = (text + value).split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      const state = data === undefined ? undefined : JSON.parse(data.slice(6)) as Order;
      if (state !== undefined && fits(state)) {
        await reader.cancel();
        return state;
      }
    }
  }
}

async function run(): Promise<string> {
  const cart = await fillCart();
  const total = await complete(cart);
  const { order, token } = await buy(cart, total);
  const paid = await follow(order.id, token, (now) => now.payment_status === "paid");
  const read = must(await shop.GET("/v1/store/orders/{id}", {
    params: { path: { id: order.id } },
    headers: bearer(token),
  }));
  check(read.captured.amount === total && paid.id === read.id, "the whole total is captured");
  return order.id;
}

const report = (outcome: { order: string } | { failure: string }): Promise<Response> =>
  fetch("/outcome", { method: "POST", body: JSON.stringify(outcome) });

run().then((order) => report({ order }), (failure: unknown) => report({ failure: String(failure) }));

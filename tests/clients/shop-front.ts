// A shop front on another origin than the API, on the types that are generated from the API's own
// document: lists products, fills a cart, buys, follows the order, and tells the page's server what
// happened.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Order = components["schemas"]["Order"];
type Problem = components["schemas"]["Problem"];

const api = new URLSearchParams(location.search).get("api") ?? "";
const shop = createClient<paths>({ baseUrl: api });

/** The data of an answer; a problem ends the run with its code. */
function must<T>(answer: { data?: T; error?: Problem; response: Response }): T {
  if (answer.data === undefined) {
    const code = answer.error?.code ?? "no problem";
    throw new Error(`${answer.response.url}: ${answer.response.status} ${code}`);
  }
  return answer.data;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

async function fillCart(): Promise<{ id: string; etag: string }> {
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
  check(cart.requirements.some((one) => one.code === "email_missing"), "an email is required");
  const etag = made.response.headers.get("ETag");
  check(made.response.headers.get("Location") === `/v1/store/carts/${cart.id}`, "no Location");
  if (etag === null) throw new Error("a page of another origin cannot read the ETag");
  return { id: cart.id, etag };
}

async function complete(cart: { id: string; etag: string }): Promise<number> {
  const path = { id: cart.id };
  const body = {
    email: "ada@example.com",
    shipping_address: {
      name: "Ada", line1: "1 High Street", city: "London", postal_code: "N1 1AA",
      country: "GB",
    },
  } satisfies components["schemas"]["CartPatch"];
  const header = { "If-Match": cart.etag };
  const changed = must(await shop.PATCH("/v1/store/carts/{id}", { params: { path, header }, body }));
  const stale = await shop.PATCH("/v1/store/carts/{id}", { params: { path, header }, body });
  check(stale.error?.code === "version_mismatch", "a stale version is refused");
  return changed.totals.total.amount;
}

async function buy(cart: string, total: number): Promise<{ order: Order; token: string }> {
  const order = must(await shop.POST("/v1/store/carts/{id}/checkout", {
    params: {
      path: { id: cart },
      header: { "Idempotency-Key": crypto.randomUUID(), Prefer: "wait=30" },
    },
    body: { payment: { provider: "sandbox", token: "tok_ok" } },
  }));
  check(order.total.amount === total, "the order's total is the cart's");
  if (order.token === undefined) throw new Error("the answer to a checkout has the order's token");
  return { order, token: order.token };
}

/** Waits for an event of the order that fits. */
function follow(order: string, token: string, fits: (order: Order) => boolean): Promise<Order> {
  const stream = new EventSource(`${api}/v1/store/orders/${order}/live?token=${token}`);
  return new Promise<Order>((resolve) => {
    stream.addEventListener("order", (event: MessageEvent<string>) => {
      const state = JSON.parse(event.data) as Order;
      if (fits(state)) {
        stream.close();
        resolve(state);
      }
    });
  });
}

async function run(): Promise<string> {
  const cart = await fillCart();
  const total = await complete(cart);
  const { order, token } = await buy(cart.id, total);
  const paid = await follow(order.id, token, (now) => now.payment_status === "paid");
  const read = must(await shop.GET("/v1/store/orders/{id}", {
    params: { path: { id: order.id } },
    headers: { Authorization: `Bearer ${token}` },
  }));
  check(read.captured.amount === total && paid.id === read.id, "the whole total is captured");
  return order.id;
}

const report = (outcome: { order: string } | { failure: string }): Promise<Response> =>
  fetch("/outcome", { method: "POST", body: JSON.stringify(outcome) });

run().then((order) => report({ order }), (failure: unknown) => report({ failure: String(failure) }));

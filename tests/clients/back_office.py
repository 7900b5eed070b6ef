"""A back office on the Python client that is generated from the API's own document: makes a product
and its stock, finds the order that a shop front placed, reads its events, and ships it. mypy checks it
strictly: each problem with members of its own has a class, and so has each kind of event."""

import sys
from typing import TypeVar

from kontor_api.api.live import list_changes
from kontor_api.api.orders import fulfill_order, get_order, list_order_events, list_orders
from kontor_api.api.products import create_product, update_product
from kontor_api.api.stock import set_stock
from kontor_api.client import AuthenticatedClient
from kontor_api.models import (
    AdminOrder,
    ChangedOrder,
    ChangesPage,
    Currency,
    FulfillmentInput,
    FulfillmentStatus,
    InvalidRequestProblem,
    NewProduct,
    OrderPaymentAuthorizedEvent,
    OrderPaymentDeclinedEvent,
    OrderPlacedEvent,
    PageOrderEvent,
    PageOrderListItem,
    PriceInput,
    Problem,
    ProblemCode,
    Product,
    ProductPatch,
    StockInput,
    StockItem,
    TrackingInput,
    VersionMismatchProblem,
)

T = TypeVar("T")


def must(answer: object, kind: type[T]) -> T:
    """The answer, if it is of this type; a problem ends the run with its code."""
    if not isinstance(answer, kind):
        raise SystemExit(f"not {kind.__name__}: {answer}")
    return answer


def stock(client: AuthenticatedClient) -> None:
    price = PriceInput(amount=1999, currency=Currency.GBP)
    lamp = NewProduct(sku="LAMP", name="Desk lamp", prices=[price])
    product = must(create_product.sync(client=client, body=lamp), Product)
    again = create_product.sync(client=client, body=lamp)
    if must(again, Problem).code is not ProblemCode.ALREADY_EXISTS:
        raise SystemExit(f"a SKU is made once: {again}")
    nameless = NewProduct(sku="SHADE", name="", prices=[price])
    wrong = must(create_product.sync(client=client, body=nameless), InvalidRequestProblem)
    if [one.field for one in wrong.errors] != ["name"]:
        raise SystemExit(f"the wrong field is named: {wrong}")
    patch = ProductPatch(description="Folds")
    stale = update_product.sync(product.sku, client=client, body=patch, if_match='"77"')
    if must(stale, VersionMismatchProblem).version != product.version:
        raise SystemExit(f"the problem has the current version: {stale}")
    product = must(update_product.sync(product.sku, client=client, body=patch), Product)
    level = StockInput(on_hand=20)
    item = must(set_stock.sync(product.sku, "main", client=client, body=level), StockItem)
    if item.sellable != 20:
        raise SystemExit(f"20 units are sellable: {item}")


def read_events(client: AuthenticatedClient, order: AdminOrder) -> None:
    events = must(list_order_events.sync(order.id, client=client), PageOrderEvent).data
    placed = must(events[0], OrderPlacedEvent).data
    declined = [one for one in events if isinstance(one, OrderPaymentDeclinedEvent)]
    authorized = [one for one in events if isinstance(one, OrderPaymentAuthorizedEvent)]
    amounts = [placed.totals.total.amount, *(one.data.amount.amount for one in authorized)]
    if amounts != [order.total.amount, order.total.amount]:
        raise SystemExit(f"amounts are in minor units, with their currency: {events}")
    if [one.data.attempt for one in declined] != [1]:
        raise SystemExit(f"the first card was declined: {events}")
    changes = must(list_changes.sync(client=client), ChangesPage).data
    changed = [one for one in changes if isinstance(one, ChangedOrder)]
    if [one.order for one in changed] != [order.id]:
        raise SystemExit(f"the order is in the feed of changes: {changes}")


def ship(client: AuthenticatedClient, order: str) -> None:
    found = must(get_order.sync(order, client=client), AdminOrder)
    read_events(client, found)
    if not isinstance(found.email, str):
        raise SystemExit(f"the order has its buyer's email: {found}")
    page = must(list_orders.sync(client=client, email=[found.email]), PageOrderListItem)
    if order not in [one.id for one in page.data]:
        raise SystemExit(f"the order is found by its email: {page}")
    tracking = TrackingInput(carrier="Post", number="JJD1")
    parcel = FulfillmentInput(tracking=tracking)
    shipped = must(fulfill_order.sync(order, client=client, body=parcel), AdminOrder)
    if shipped.fulfillment_status is not FulfillmentStatus.FULFILLED:
        raise SystemExit(f"all units are shipped: {shipped}")
    if [one.tracking.number for one in shipped.fulfillments if one.tracking] != ["JJD1"]:
        raise SystemExit(f"the order is shipped: {shipped}")


def main() -> None:
    step, url, key, *order = sys.argv[1:]
    with AuthenticatedClient(base_url=url, token=key) as client:
        if step == "stock":
            stock(client)
        else:
            ship(client, order[0])


if __name__ == "__main__":
    main()

"""A back office on the Python client that is generated from the API's own document: makes a product
and its stock, finds the order that a shop front placed, and ships it. mypy checks it strictly."""

import sys
from typing import TypeVar

from kontor_api.api.orders import fulfill_order, get_order, list_orders
from kontor_api.api.products import create_product, update_product
from kontor_api.api.stock import set_stock
from kontor_api.client import AuthenticatedClient
from kontor_api.models import (
    AdminOrder,
    Currency,
    FulfillmentInput,
    NewProduct,
    PriceInput,
    Problem,
    Product,
    ProductPatch,
    StockInput,
    StockItem,
    TrackingInput,
)

T = TypeVar("T")


def must(answer: T | Problem | None, kind: type[T]) -> T:
    """The answer, if it is of this type; a problem ends the run with its code."""
    if not isinstance(answer, kind):
        raise SystemExit(f"not {kind.__name__}: {answer}")
    return answer


def stock(client: AuthenticatedClient) -> None:
    price = PriceInput(amount=1999, currency=Currency.GBP)
    lamp = NewProduct(sku="LAMP", name="Desk lamp", prices=[price])
    product = must(create_product.sync(client=client, body=lamp), Product)
    again = create_product.sync(client=client, body=lamp)
    if not isinstance(again, Problem) or again.code.value != "already_exists":
        raise SystemExit(f"a SKU is made once: {again}")
    patch = ProductPatch(description="Folds")
    product = must(update_product.sync(product.sku, client=client, body=patch), Product)
    level = StockInput(on_hand=20)
    item = must(set_stock.sync(product.sku, "main", client=client, body=level), StockItem)
    if item.sellable != 20:
        raise SystemExit(f"20 units are sellable: {item}")


def ship(client: AuthenticatedClient, order: str) -> None:
    found = must(get_order.sync(order, client=client), AdminOrder)
    page = list_orders.sync(client=client, email=[found.email])
    if isinstance(page, Problem) or page is None or order not in [one.id for one in page.data]:
        raise SystemExit(f"the order is found by its email: {page}")
    tracking = TrackingInput(carrier="Post", number="JJD1")
    parcel = FulfillmentInput(tracking=tracking)
    shipped = must(fulfill_order.sync(order, client=client, body=parcel), AdminOrder)
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

"""Checks of this API beside schemathesis's own.

A request that its schema allows may still be refused, by a rule that no schema can express: the
SKU has to be in this shop, the version has to be the present one. By its status such a refusal
cannot be told from one that the schema should have foreseen, so `schemathesis.toml` lets those
statuses pass; by its code and field it can, here.
"""

import re

import schemathesis

# Codes that say something of the shop or of the thing itself, never of the request's shape.
OF_THE_SHOP = {
    "invalid_cursor",  # a cursor is what the page before answered
    "version_mismatch",
    "idempotency_key_reused",
    "unknown_sku",
    "product_inactive",
    "currency_mismatch",
    "unknown_delivery_option",
    "unknown_provider",
    "cart_incomplete",
    "cart_expired",
    "payment_declined",
    "refund_too_large",
    "capture_too_large",
    "nothing_to_fulfill",
    "unknown_line",
    "too_many_units",
}

# Rules between two fields, or between a field and what is there already.
RULES = {
    ("create_cart", "Idempotency-Key"),  # longer for a caller without an API key
    ("create_cart", "shipping_address.postal_code"),  # as its country writes them
    ("create_cart", "billing_address.postal_code"),
    ("update_cart", "shipping_address.postal_code"),
    ("update_cart", "billing_address.postal_code"),
    ("check_out", "payment"),  # needed unless the cart costs nothing
    ("create_product", "prices"),  # one a currency
    ("put_product", "prices"),
    ("update_product", "prices"),
    ("put_product", "sku"),  # the one in the path
    ("get_order", "at"),  # not together with at_seq
    ("get_order", "at_seq"),  # no more events than there are
    ("adjust_stock", "quantity"),  # the level stays within its bounds
    ("receive_stock", "quantity"),
    ("expect_stock", "quantity"),
    ("transfer_stock", "quantity"),
    ("transfer_stock", "to"),  # another one than `from`
    ("add_lines", "lines"),  # no more lines than a cart takes
    ("add_lines", "quantity"),  # nor more units than a line
    ("skip_order_step", "step"),  # one that is stuck
    ("update_fulfillment", "tracking"),  # at least one of its three parts
    ("refund_order", ""),  # it gives something back
}

# A position is what a write answered, for every list.
POSITION = "Kontor-After"
VERSION = re.compile(r'\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*')

# What a plain HTTP client cannot send: the upgrade to a WebSocket.
UPGRADES = {"open_live"}


@schemathesis.check
def refused_by_a_rule(ctx, response, case):
    """A request that the schema allows is refused only by a rule that the schema cannot express."""
    meta, name = case.meta, case.operation.definition.raw.get("operationId")
    if meta is None or response.status_code not in (400, 402, 410, 412, 422):
        return
    # In a case of the coverage phase a part beside the one that is tried may be a wrong one; of
    # headers it does not say so.
    parts = [part.mode.is_positive for part in meta.components.values()]
    version = (case.headers or {}).get("If-Match", "*")
    if not meta.generation.mode.is_positive or not all(parts) or not VERSION.fullmatch(version):
        return
    problem = response.json()
    code = problem["code"]
    if code in OF_THE_SHOP or (name in UPGRADES and code == "bad_request"):
        return
    fields = [(name, error["field"]) for error in problem.get("errors", [])]
    # For a schema 60.0 is a whole number, too; here it has to be written as one.
    written = [re.search(r"not floating point `[0-9]+\.0`$", error["message"]) for error in problem.get("errors", [])]
    known = [field in RULES or field[1] == POSITION for field in fields]
    if fields and all(rule or as_float for rule, as_float in zip(known, written)):
        return
    raise AssertionError(f"{name} refused what its schema allows: {code}, {problem['detail']}")


@schemathesis.check
def faulty_rows_are_reported(ctx, response, case):
    """An import takes its good rows; what it did not take it reports, row by row."""
    meta, name = case.meta, case.operation.definition.raw.get("operationId")
    if name != "import_products" or meta is None or response.status_code != 200:
        return
    parts = meta.components.items()
    wrong = [place for place, part in parts if place.value == "body" and part.mode.is_negative]
    if wrong and not response.json()["errors"]:
        raise AssertionError("a faulty import was taken without a word")

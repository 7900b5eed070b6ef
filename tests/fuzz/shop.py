"""A shop to try the API on: a server with its payment provider, in a folder of its own, and orders
in all states."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
READS = ["orders:read", "products:read", "stock:read"]
ADDRESS = {"name": "Ada", "line1": "1 High St", "city": "York", "postal_code": "YO1 1AA", "country": "GB"}
# A step of the saga takes milliseconds; this is how long a machine may take that does other things.
PATIENCE_SECS = 60
# A checkout spends its cart, so there are many that can be checked out.
CARTS_EACH = 40


class Shop:
    """A server with its provider, and what is in it."""

    def __init__(self, kontor, folder):
        self.kontor, self.data = kontor, folder / "data"
        self.processes = []
        psp = self.start(folder, "sandbox-psp", "--data", folder / "psp", "--listen", "127.0.0.1:0")
        text = self.start(folder, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--sandbox-psp", psp)
        self.url = text
        self.admin = self.key("admin")

    def start(self, folder, command, *arguments):
        """Starts a command; answers its address, which its first lines tell."""
        log = open(folder / f"{command}.log", "w")
        started = subprocess.Popen([self.kontor, command, *arguments], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes.append(started)
        for line in started.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                return found.group()
        raise SystemExit(f"kontor {command} did not start; see {log.name}")

    def stop(self):
        for started in reversed(self.processes):
            started.send_signal(signal.SIGTERM)
            started.wait()

    def tell(self, *arguments):
        return subprocess.run([self.kontor, *arguments], check=True, capture_output=True, text=True).stdout

    def key(self, *scopes):
        named = [part for scope in scopes for part in ("--scope", scope)]
        return json.loads(self.tell("key", "create", "--data", self.data, *named, "--json"))["key"]

    def call(self, method, path, body=None, key=None, **headers):
        """Calls the API; answers status, headers and body."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.loads(error.read() or "null")

    def must(self, *arguments, **headers):
        status, _, body = self.call(*arguments, **headers)
        if status >= 300:
            raise SystemExit(f"{arguments}: {status} {body}")
        return body

    def change(self, method, path, body):
        return self.must(method, path, body, self.admin)

    def order(self, token, sku="LAMP", quantity=2):
        """An order as checkout answers it, or the problem that names it."""
        cart = self.cart(sku, quantity)
        pay = {"payment": {"provider": "sandbox", "token": token}}
        path = f"/v1/store/carts/{cart['id']}/checkout"
        wait = "wait=0" if token == "tok_slow" else "wait=30"
        _, _, body = self.call("POST", path, pay, cart["token"], Idempotency_Key=str(uuid.uuid4()), Prefer=wait)
        return {"id": body.get("order") or body["id"], "token": cart["token"]}

    def cart(self, sku, quantity):
        new = {"email": "ada@example.com", "shipping_address": ADDRESS, "delivery_option": "standard",
               "lines": [{"sku": sku, "quantity": quantity}]}
        return self.must("POST", "/v1/store/carts", new)

    def fill(self):
        """Products, stock, carts, and orders in several states."""
        prices = [{"amount": 1250, "currency": "GBP"}, {"amount": 1499.5, "currency": "EUR"}]
        for sku in ["LAMP", "MUG", "OLD-ONE"]:
            product = {"name": sku.title(), "category": "home", "prices": prices, "tax_rate": "0.2"}
            self.change("PUT", f"/v1/admin/products/{sku}", product)
            self.change("PUT", f"/v1/admin/stock/{sku}/main", {"on_hand": 100_000})
        self.change("PATCH", "/v1/admin/products/OLD-ONE", {"active": False})
        self.carts = [self.cart(sku, 2)["id"] for sku in ["LAMP", "MUG"] * CARTS_EACH]
        paid = self.order("tok_ok")
        self.bought = paid
        shipped, refunded, cancelled = (self.order("tok_ok") for _ in range(3))
        declined, slow = self.order("tok_declined"), self.order("tok_slow")
        stands = "/v1/admin/orders/{}/{}"
        self.settle(shipped, refunded, cancelled)
        self.change("POST", stands.format(shipped["id"], "fulfillments"),
                    {"tracking": {"carrier": "Post", "number": "1", "url": "https://post.example/1"}})
        self.change("POST", stands.format(refunded["id"], "refunds"),
                    {"lines": [{"line": "1", "quantity": 1}], "restock": True, "reason": "broken"})
        self.change("POST", stands.format(cancelled["id"], "cancel"), {"reason": "a mistake"})
        orders = [paid, shipped, refunded, cancelled, declined, slow]
        self.orders = [order["id"] for order in orders]

    def settle(self, *orders):
        """Waits until the money of orders was taken."""
        for order in orders:
            end = time.monotonic() + PATIENCE_SECS
            while self.change("GET", f"/v1/admin/orders/{order['id']}", None)["payment_status"] != "captured":
                if time.monotonic() > end:
                    raise SystemExit(f"{order['id']} was not captured")

    def sign_in(self):
        """The secret of a session, as its cookie has it."""
        status, headers, body = self.call("POST", "/v1/session", {"key": self.admin})
        if status != 201:
            raise SystemExit(f"signing in: {status} {body}")
        return headers["Set-Cookie"].split(";")[0].split("=", 1)[1]

    def words(self):
        """Values that mean something here, by the names that `schemathesis.toml` gives them."""
        return {
            "carts": self.carts,
            "orders": self.orders,
            "skus": ["LAMP", "MUG", "OLD-ONE"],
            "lines": ["1", "2"],
            "locations": ["main", "attic"],
            "providers": ["sandbox"],
            "cards": ["tok_ok", "tok_declined", "tok_500", "tok_webhook_only"],
            "deliveries": ["standard", "express"],
        }

    def configuration(self, caller):
        """What the checks must know of this shop, and how the caller proves who it is."""
        texts = [(HERE / "schemathesis.toml").read_text()]
        for name, values in self.words().items():
            texts.append(f"[dictionaries.{name}]\nvalues = {json.dumps(values)}\n")
        proof = {
            "nobody": None,
            "buyer": ("order_token", "bearer", lambda: self.bought["token"]),
            "reader": ("api_key", "bearer", lambda: self.key(*READS)),
            "admin": ("api_key", "bearer", lambda: self.admin),
            "session": ("session", "api_key", self.sign_in),
        }[caller]
        if proof:
            scheme, kind, secret = proof
            texts.append(f"[auth.openapi.{scheme}]\n{kind} = {json.dumps(secret())}\n")
        if caller == "session":
            texts.append(f"[headers]\nOrigin = {json.dumps(self.url)}\n")
        return "\n".join(texts)

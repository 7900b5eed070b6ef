"""Runs a shop front and a back office on the clients that are generated from the API's document.

The back office (Python) makes a product and its stock. The shop front (TypeScript) buys it from a
page of another origin, in Chromium. The back office ships the order. Last, the store is verified.
`scripts/check-api` generates the clients and calls this.
"""

import http.server
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fuzz"))

from shop import Shop  # noqa: E402

# A purchase takes a second; this is how long it may take on a machine that does other things.
PATIENCE_SECS = 120


class Pages(http.server.SimpleHTTPRequestHandler):
    """The shop front's own server: its page, its script, and the place for its outcome."""

    outcomes: queue.Queue = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.outcomes.put(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def browse(folder, pages, api):
    """Opens the shop front in Chromium until it reports its outcome."""
    page = f"http://localhost:{pages.server_port}/shop-front.html?api={api}"
    chromium = os.environ.get("CHROMIUM", "chromium")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser"]
    with open(folder / "chromium.log", "w") as log:
        browser = subprocess.Popen([chromium, *flags, page], stdout=log, stderr=log)
    try:
        return Pages.outcomes.get(timeout=PATIENCE_SECS)
    finally:
        browser.terminate()
        browser.wait()


def main():
    kontor, made = sys.argv[1], Path(sys.argv[2])
    python = made / "venv/bin/python"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pages = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *given: Pages(*given, directory=made / "pages"))
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        os.environ["KONTOR__HTTP__CORS_ORIGINS"] = f'["http://localhost:{pages.server_port}"]'
        shop = Shop(kontor, folder)
        try:
            office = [python, HERE / "back_office.py"]
            subprocess.run([*office, "stock", shop.url, shop.admin], check=True)
            outcome = browse(folder, pages, shop.url)
            if "order" not in outcome:
                raise SystemExit(f"the shop front failed: {outcome}")
            subprocess.run([*office, "ship", shop.url, shop.admin, outcome["order"]], check=True)
        finally:
            shop.stop()
        print(shop.tell("verify", "--data", shop.data), end="")


main()

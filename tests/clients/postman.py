"""Runs the Postman collection twice, as it is imported, with newman against a server of its own.

The first time the shop is empty: every answer has the status and the fields of the saved one. The
second time nothing fails either. `scripts/check-api` calls this.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fuzz"))

from shop import Shop  # noqa: E402


def requests(folder):
    """All requests of a folder, in their order."""
    for item in folder["item"]:
        yield from requests(item) if "item" in item else [item]


def fields(body):
    """The names of the fields of an answer, but not those of the values in them; None if it is no JSON."""
    try:
        return sorted(json.loads(body))
    except ValueError:
        return None


def differences(collection, report):
    """What differs between the saved answers and the first ones; a request may have been repeated."""
    answers = {}
    for execution in report["run"]["executions"]:
        if execution["cursor"]["iteration"] == 0:
            answers[execution["cursor"]["position"]] = execution
    for position, item in enumerate(requests(collection)):
        if position not in answers:
            yield f"{item['name']}: not sent"
            continue
        saved, response = item["response"][0], answers[position]["response"]
        body = bytes(response.get("stream", {}).get("data", [])).decode()
        if (response["code"], fields(body)) != (saved["code"], fields(saved["body"])):
            yield f"{item['name']}: {response['code']} {body}, saved as {saved['code']}"


def main():
    kontor, newman = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "collection.json").write_text(
            subprocess.run([kontor, "postman"], check=True, capture_output=True, text=True).stdout)
        shop = Shop(kontor, folder)
        try:
            subprocess.run([
                newman, "run", folder / "collection.json", "--iteration-count", "2",
                "--env-var", f"baseUrl={shop.url}", "--env-var", f"adminKey={shop.admin}",
                "--reporters", "cli,json", "--reporter-cli-no-success-assertions",
                "--reporter-cli-no-banner", "--reporter-json-export", folder / "report.json",
            ], check=True, cwd=folder)
        finally:
            shop.stop()
        collection = json.loads((folder / "collection.json").read_text())
        report = json.loads((folder / "report.json").read_text())
        if found := list(differences(collection, report)):
            raise SystemExit("\n".join(found))
        print(shop.tell("verify", "--data", shop.data), end="")


main()

"""Runs schemathesis over every operation of the API, as each kind of caller.

It starts the sandbox payment provider and a shop with orders in all states, each caller's on a
folder of its own, and ends what it started. `scripts/fuzz-api` installs what it needs; what is
checked, and what is not and why, stands in `schemathesis.toml`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shop import Shop

HERE = Path(__file__).resolve().parent
CALLERS = ["nobody", "buyer", "reader", "admin", "session"]


def run(shop, folder, caller, options):
    """The runs of schemathesis as one caller; answers whether it found nothing."""
    configured = folder / f"{caller}.toml"
    configured.write_text(shop.configuration(caller))
    shutil.copy(HERE / "hooks.py", folder)
    if caller == "session":
        # Who signs out is nobody from then on: that comes last.
        rest = one(shop, folder, configured, options, "--exclude-operation-id", "delete_session")
        return one(shop, folder, configured, options, "--include-operation-id", "delete_session",
                   "--phases", "examples,coverage,fuzzing") and rest
    return one(shop, folder, configured, options)


def one(shop, folder, configured, options, *selected):
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", configured, "run", f"{shop.url}/openapi.json",
               "--seed", str(options.seed), "--max-examples", str(options.examples), "--continue-on-failure",
               "--no-color", "--generation-database", "none", *selected, *options.more]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=folder, env=environment).returncode == 0


def main():
    parse = argparse.ArgumentParser(prog="scripts/fuzz-api", description=__doc__)
    parse.add_argument("--as", dest="callers", action="append", choices=CALLERS, help="only as this caller")
    parse.add_argument("--examples", type=int, default=30, help="random requests for each operation and phase")
    parse.add_argument("--seed", type=int, default=1, help="the same seed makes the same requests")
    parse.add_argument("more", nargs="*", help="after --: further options of `schemathesis run`")
    options = parse.parse_args()
    kontor = Path(os.environ["KONTOR"]).resolve()
    began, failed = time.monotonic(), []
    for caller in options.callers or CALLERS:
        print(f"\n##### as {caller}", flush=True)
        with tempfile.TemporaryDirectory(prefix="kontor-fuzz-") as folder:
            shop = None
            try:
                shop = Shop(kontor, Path(folder))
                shop.fill()
                if not run(shop, Path(folder), caller, options):
                    failed.append(caller)
            finally:
                if shop:
                    shop.stop()
    print(f"\nseed {options.seed}, {options.examples} examples: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"there are faults as {', '.join(failed)}")


main()

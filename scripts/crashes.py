"""Fault loops over codebooks; called by scripts/crashes. Prints what each tried and what went wrong."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch
import transformers
from helpers import crashes, disks, faults, flips, recorder

HARNESSES = {
    "kills": (crashes.kills, faults.missing),
    "errors": (crashes.disk_errors, faults.missing),
    "cuts": (crashes.power_cuts, recorder.missing),
    "full": (disks.full_disks, disks.missing),
    "locks": (disks.hollow_locks, faults.missing),
    "flips": (flips.flips, lambda: ""),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/crashes", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(HARNESSES)} (default: all)")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in HARNESSES]:
        parser.error(f"there is no '{unknown[0]}': {', '.join(HARNESSES)}")
    logging.getLogger("reasonedit").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    wrong = False
    for name in given.names or HARNESSES:
        run, missing = HARNESSES[name]
        if reason := missing():
            print(f"{name}: left out, {reason}", flush=True)
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            tally = run(Path(scratch))
        print(f"{tally}, {time.monotonic() - started:.0f} s", flush=True)
        for kind, example in tally.examples.items():
            print(f"  {kind}, such as: {example}", flush=True)
        wrong |= bool(tally.failures)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""python -m bench.reliability: runs the rows, prints the table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime

from bench import processes
from bench.reliability import changes, deaths, failing, lifecycle, outages, silence, starts
from bench.reliability.row import FULL, ROWS, SHORT, Outcome, Result, Row, Size

__all__ = ["changes", "deaths", "failing", "lifecycle", "outages", "silence", "starts"]  # they add their rows

_FILES = 8192
#: No row may take longer than this.
_ROW_S = 180.0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.reliability", description=__doc__)
    parser.add_argument("--rows", help=f"of {','.join(map(str, sorted(ROWS)))}; default all")
    parser.add_argument("--short", action="store_true", help="fewer streams, seconds instead of minutes")
    parser.add_argument("--json", action="store_true", help="one line for each row")
    options = parser.parse_args(arguments)
    try:
        options.rows = [int(text) for text in options.rows.split(",")] if options.rows else sorted(ROWS)
    except ValueError:
        parser.error("--rows takes numbers: 1,2,6")
    if unknown := [number for number in options.rows if number not in ROWS]:
        parser.error(f"row {unknown[0]} is unknown, the rows are {','.join(map(str, sorted(ROWS)))}")
    return options


async def measure(row: Row, size: Size) -> Result:
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(_ROW_S):
            outcome = await row.run(size)
    except Exception as exc:
        outcome = Outcome(failures=[f"could not be measured: {exc!r}"])
    figure = ", ".join(f"{name} {value}" for name, value in outcome.figures.items())
    failures = (*outcome.failures, *outcome.late)
    return Result(row.number, row.test, figure, row.bar, not failures, failures, time.monotonic() - began_s)


def line_of(result: Result) -> str:
    verdict = "pass" if result.passed else "**fail**: " + "; ".join(result.failures)
    return f"| {result.row} | {result.test} | {result.figure} | {result.bar} | {verdict} |"


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    processes.leave_on_sigterm()
    processes.raise_file_limit(_FILES)
    if not options.json:
        print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n")
        print("| row | test | figure | bar | |\n|---|---|---|---|---|")
    passed = True
    for number in options.rows:
        result = asyncio.run(measure(ROWS[number], SHORT if options.short else FULL))
        passed &= result.passed
        print(json.dumps(result.document()) if options.json else line_of(result), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

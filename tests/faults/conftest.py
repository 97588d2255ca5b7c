"""The table of the fault matrix: printed after every run, kept in docs/faults.md after a full one."""

import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults import matrix  # noqa: E402
from tests.harness.stack import ROOT  # noqa: E402

BEGAN = time.monotonic()
COLUMNS = ("lost", "stuck", "double", "phantom", "backwards", "extra")


def number(value, form):
    return "–" if value is None else format(value, form)


def table():
    lines = ["| Row | Fault | Accepted | Unknown | " + " | ".join(name.capitalize() for name in COLUMNS) +
             " | Recovery s | Descriptors | Memory MiB | Verdict |",
             "|---|---|--:|--:|" + "--:|" * (len(COLUMNS) + 3) + "---|"]
    for entry, result, verdict in sorted(matrix.RESULTS, key=lambda line: line[0].number):
        cells = [entry.number, entry.what, result.get("accepted", "–"), result.get("unknown", "–"),
                 *(result.get(name, "–") for name in COLUMNS), number(result.get("recovery_s"), ".1f"),
                 number(result.get("fd"), "+d"), number(result.get("rss"), "+.1f"), verdict]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def page():
    cpus = os.cpu_count()
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    head = (ROOT / "tests/faults/page.md").read_text().rstrip()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    run = f"`make faults` on {time.strftime('%Y-%m-%d')}: {platform.system()} {platform.machine()}, {cpus} processors, " \
          f"{memory_gib:.0f} GiB of memory, Redis {redis.removeprefix('v=')}; {time.monotonic() - BEGAN:.0f} s for all of it."
    left = ["| Row | Fault | Why it is not here |", "|---|---|---|"]
    left += [f"| {name} | {what} | {why} |" for name, (what, why) in sorted(matrix.NOT_HERE.items())]
    return "\n".join([head, "", "## The table", "", run, "", *table(), "", "## Rows that did not run", "", *left, ""])


def pytest_terminal_summary(terminalreporter):
    if not matrix.RESULTS:
        return
    for line in table():
        terminalreporter.write_line(line)
    for name, (what, why) in sorted(matrix.NOT_HERE.items()):
        terminalreporter.write_line(f"{name} not run here ({what}): {why}")


def pytest_sessionfinish():
    if matrix.MODE == "full" and len(matrix.RESULTS) == len(matrix.ROWS):
        (ROOT / "docs/faults.md").write_text(page())

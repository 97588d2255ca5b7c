"""`make bench`: what Penstock does on this machine, beside what others do, into docs/benchmarks.md with plots.

Everything (load generator, broker, Redis, worker, upstream) shares the machine; compare figures of one run only.
  run.py [--quick] [--only submit,poll] [--runs 5] [--seconds 4] [--results FOLDER] [--no-write]
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.bench import calls, figures, peers, queues  # noqa: E402
from tests.harness.stack import ROOT  # noqa: E402

# Quiet things first, then busy ones; the slowest last.
ORDER = ("idle", "latency", "queued", "submit", "poll", "throughput", "fanout", "script", "million")
BENCHES = {**queues.BENCHES, **calls.BENCHES}


class Bench:
    """What a benchmark is told, and where it puts what it found."""

    def __init__(self, runs, seconds, quick):
        self.runs, self.seconds, self.quick = runs, seconds, quick
        self.figures, self.tables, self.failures = [], [], []

    @staticmethod
    def middle(values):
        return statistics.median(values)

    def attempt(self, row, measure):
        """One run of a peer. The first failure ends its part; nothing ends the benchmark."""
        if row.skipped or any(name == row.name for name, _ in self.failures):
            return
        try:
            row.runs.append(measure())
        except Exception as error:  # a peer may fail in any way it likes
            why = (str(error) or repr(error)).splitlines()[0][:200]
            self.failures.append((row.name, why))
            if not row.runs:
                row.skipped = why
            say(f"{row.name}: {why}")


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


def cpu_of_machine():
    """(busy, all) CPU seconds since the start of the machine."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def cpu_of_ours():
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF,
                                                                                     resource.RUSAGE_CHILDREN)))


def run_all(bench, names):
    """Runs the benchmarks; the names of those of ours that broke."""
    broken = []
    for name in names:
        say(f"{name} …")
        had_figures, had_tables, begin = len(bench.figures), len(bench.tables), time.monotonic()
        try:
            BENCHES[name](bench)
        except Exception as error:  # named on the page; the others still run
            traceback.print_exc()
            broken.append(name)
            bench.failures.append((f"`{name}`", (str(error) or repr(error)).splitlines()[0][:200]))
        for figure in bench.figures[had_figures:]:
            met = {True: "met", False: "NOT MET", None: ""}[figure.is_met]
            print(f"  {figure.name:62} {figure.text():>12} {figure.unit:6} {met:8} {figure.note}", flush=True)
        for table in bench.tables[had_tables:]:
            print(f"  {table.title} ({table.unit})")
            for row in table.rows:
                said = f"{row.median:12,.{table.digits}f}  {table.ratio(row):>6}" if row.runs else f"skipped: {row.skipped}"
                print(f"    {row.name:44} {said}  {row.details or ''}", flush=True)
        say(f"{name}: {time.monotonic() - begin:.0f} s")
    return broken


def write(bench, facts, places):
    text = figures.page((ROOT / "tests/bench/page.md").read_text(), facts, bench.figures, bench.tables, bench.failures)
    for place in places:
        (place / "plots").mkdir(parents=True, exist_ok=True)
        (place / "benchmarks.md").write_text(text)
        for table in bench.tables:
            if table.plot and any(row.runs for row in table.rows):
                (place / "plots" / f"{table.plot}.svg").write_text(table.drawing())


def raw(bench, facts):
    return {"facts": facts, "failures": bench.failures,
            "figures": [{"name": one.name, "unit": one.unit, "runs": one.runs, "target": one.target, "met": one.is_met, "note": one.note}
                        for one in bench.figures],
            "tables": [{"title": table.title, "unit": table.unit, "rows": [
                {"name": row.name, "runs": row.runs, "details": row.details, "skipped": row.skipped} for row in table.rows]}
                       for table in bench.tables]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(ORDER))
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build" / "results")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(ORDER)}")
    bench = Bench(options.runs or (2 if options.quick else 5), options.seconds or (1.5 if options.quick else 4.0), options.quick)
    # 10,000 connections and as many local files want descriptors.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    say("fetching the peers …")
    peers.install()
    load_before, machine_before, ours_before, begin = os.getloadavg()[0], cpu_of_machine(), cpu_of_ours(), time.monotonic()
    broken = run_all(bench, names)
    busy, total = (new - old for new, old in zip(cpu_of_machine(), machine_before))
    foreign = max(0.0, busy - (cpu_of_ours() - ours_before)) / max(total, 1e-9)
    command = "make bench" + (" QUICK=1" if options.quick else "")
    facts = figures.facts(command, time.monotonic() - begin, load_before, foreign)
    places = [options.results / "bench"]
    # docs/ holds whole runs only.
    if not (options.quick or options.no_write or broken) and set(names) == set(ORDER):
        places.append(ROOT / "docs")
    write(bench, facts, places)
    (options.results / "bench.json").write_text(json.dumps(raw(bench, facts), indent=1))
    print("\n".join([*facts, "written: " + ", ".join(map(str, [*places, options.results / "bench.json"]))]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

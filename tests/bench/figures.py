"""What a benchmark says: figures with targets, tables side by side, and the page made of them."""

import dataclasses
import datetime
import html
import os
import pathlib
import platform
import statistics
import subprocess

from tests.harness import svg


@dataclasses.dataclass
class Figure:
    """One measured number. target: ("<=" or ">=", value, where that comes from) or None."""

    name: str
    unit: str
    runs: list
    target: tuple = None
    digits: int = 2
    note: str = ""

    @property
    def median(self):
        return statistics.median(self.runs)

    @property
    def is_met(self):
        if self.target is None:
            return None
        sign, limit = self.target[:2]
        return self.median <= limit if sign == "<=" else self.median >= limit

    def text(self, value=None):
        return f"{self.median if value is None else value:,.{self.digits}f}"

    def spread(self):
        return f"{self.text(min(self.runs))} – {self.text(max(self.runs))}" if len(self.runs) > 1 else "one run"


@dataclasses.dataclass
class Row:
    """One contestant of a side-by-side table. details: {column: text}; skipped: why there are no runs; there: what it reached on
    the machine that the targets were set on."""

    name: str
    runs: list = dataclasses.field(default_factory=list)
    details: dict = dataclasses.field(default_factory=dict)
    is_ours: bool = False
    skipped: str = ""
    there: float = 0.0

    @property
    def median(self):
        return statistics.median(self.runs)


@dataclasses.dataclass
class Table:
    """Contestants of one discipline. better: "more" or "less"; plot: file name of its bars, without .svg."""

    title: str
    unit: str
    better: str
    rows: list
    digits: int = 0
    text: str = ""
    plot: str = ""

    def ours(self):
        return next((row for row in self.rows if row.is_ours and row.runs), None)

    def ratio(self, row):
        """How many times ours is ahead of (or behind) a peer."""
        ours = self.ours()
        if ours is None or row.is_ours or not row.runs or not min(ours.median, row.median):
            return ""
        return f"{ours.median / row.median if self.better == 'more' else row.median / ours.median:.2f}"

    def lines(self):
        columns = list(dict.fromkeys(name for row in self.rows for name in row.details))
        lines = [f"### {self.title}", ""] + ([self.text, ""] if self.text else [])
        lines += [f"| | {self.unit}, median | least – most | runs | ours is ahead by | " + "".join(f"{name} | " for name in columns),
                  "|---|--:|---|--:|--:|" + "---|" * len(columns)]
        for row in self.rows:
            if row.skipped:
                lines.append(f"| {row.name} | skipped: {row.skipped} | | | |" + " |" * len(columns))
                continue
            form = f",.{self.digits}f"
            spread = f"{min(row.runs):{form}} – {max(row.runs):{form}}" if len(row.runs) > 1 else ""
            ratio = self.ratio(row)
            name = f"**{row.name}**" if row.is_ours else row.name
            lines.append(f"| {name} | {row.median:{form}} | {spread} | {len(row.runs)} | {f'{ratio} ×' if ratio else ''} | " +
                         "".join(f"{row.details.get(column, '')} | " for column in columns))
        if self.plot:
            lines += ["", f"![{html.escape(self.title)}](plots/{self.plot}.svg)"]
        return [line.rstrip() for line in lines] + [""]

    def drawing(self):
        bars = [(row.name, row.median, min(row.runs), max(row.runs), row.is_ours) for row in self.rows if row.runs]
        return svg.bars(self.title, bars, self.unit, "median, least and most; " +
                        ("longer is better" if self.better == "more" else "shorter is better"))


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return (f"{os.cpu_count()} × {model}, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GiB, "
            f"{platform.system()} {platform.release().split('-')[0]}, Redis {redis[2].removeprefix('v=') if len(redis) > 2 else '?'}")


class Pace:
    """How fast this machine was in this run: what peers reached of what they reach where the targets come from. Under load and at
    rest apart, because machines differ in either."""

    def __init__(self, tables):
        self.rows = [(table, row, row.median / row.there if table.better == "more" else row.there / row.median)
                     for table in tables for row in table.rows if row.there and row.runs]

    def median(self, better):
        paces = [pace for table, _, pace in self.rows if table.better == better]
        return statistics.median(paces) if paces else None

    def elsewhere(self, figure):
        """What a figure that misses its target would be at the targets' pace; None where that says nothing."""
        if figure.is_met is not False or figure.unit not in ("/s", "µs", "ms"):
            return None
        pace = self.median("less" if figure.unit == "ms" else "more")
        return pace and (figure.median / pace if figure.unit == "/s" else figure.median * pace)

    def lines(self):
        if not self.rows:
            return []
        paces = [(word, self.median(better)) for word, better in (("under load", "more"), ("at rest", "less"))]
        lines = ["## The pace of this machine", "",
                 "The targets were set on another machine of this kind, where the same peers were measured. In this run they reached "
                 + " and ".join(f"{pace:.2f} of that {word}" for word, pace in paces if pace) + " (medians). Targets are not scaled "
                 "by it; where one is not met, what the figure would be at the other pace stands beside it, as an estimate.", "",
                 "| Peer | here | there | here / there |", "|---|--:|--:|--:|"]
        for table, row, pace in self.rows:
            form = f",.{table.digits}f"
            lines.append(f"| {row.name} | {row.median:{form}} {table.unit} | {row.there:{form}} | {pace:.2f} |")
        return [*lines, ""]


def target_lines(figures, pace):
    lines = ["| What | Measured, median | least – most | Wanted | |", "|---|--:|---|---|---|"]
    for figure in figures:
        wanted, verdict = "", ""
        if figure.target:
            sign, limit, *source = figure.target
            wanted = f"{'≤' if sign == '<=' else '≥'} {limit:,.{figure.digits}f}{' (' + source[0] + ')' if source else ''}"
            elsewhere = pace.elsewhere(figure)
            verdict = "met" if figure.is_met else "**not met**" + (f" (at pace {figure.text(elsewhere)})" if elsewhere else "")
        name = figure.name + (f"<br><small>{figure.note}</small>" if figure.note else "")
        lines.append(f"| {name} | {figure.text()} {figure.unit} | {figure.spread()} | {wanted} | {verdict} |")
    return lines


def page(head, facts, figures, tables, failures):
    pace = Pace(tables)
    met, wanted = sum(figure.is_met is True for figure in figures), sum(figure.target is not None for figure in figures)
    lines = [head.rstrip(), "", "## The last run", "", *(f"{fact}  " for fact in facts), "", f"## Targets: {met} of {wanted} met", "",
             *target_lines(figures, pace), "", *pace.lines(), "## Side by side", ""]
    for table in tables:
        lines += table.lines()
    if failures:
        lines += ["## What did not run", "", *(f"* {name}: {why}" for name, why in failures), ""]
    return "\n".join(lines)


def facts(command, seconds, load_before, foreign):
    """foreign: the share of all processor time that went to work that was not ours."""
    busy = " **The machine was not quiet**: ratios hold better than figures." if foreign > 0.05 else ""
    return [f"`{command}`, {datetime.date.today().isoformat()}, {seconds / 60:.0f} minutes.", f"Machine: {machine()}.",
            f"Load average at the begin {load_before:.1f}; other work took {foreign:.0%} of the processors' time.{busy}"]

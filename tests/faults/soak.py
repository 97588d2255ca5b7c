"""`make soak`: a long run at half load with a random fault each minute. What it proves and how: docs/soak.md.

  soak.py --minutes 60 [--rate JOBS_PER_SECOND] [--seed N] [--results FOLDER] [--page docs/soak.md]
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults import soak_report as report  # noqa: E402
from tests.faults.soak_faults import FAULTS, Plan, Scene  # noqa: E402
from tests.faults.soak_load import KINDS, Load, Store, record_key  # noqa: E402
from tests.harness.stack import ROOT, Stack, eventually  # noqa: E402

CALIBRATE_S = 15
LONG_RUN_MINUTES = 30  # shorter ones show no slopes, and leave docs/soak.md as it is
STANDSTILL_MAX_S = 60  # a machine that was halted for longer than this: clients gave up, results have expired
UPSTREAM = {"concurrency": 2000, "first_byte_timeout_ms": 1500, "idle_timeout_ms": 1500, "health": ""}


class Interrupted(BaseException):
    """SIGINT or SIGTERM: the run ends here and is judged as far as it came."""


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


def make_stack():
    return Stack(durability="fsync", brokers=2, children=2, upstream=UPSTREAM,
                 config={"worker": {"lease_ms": 3000, "drain_timeout_ms": 5000}, "log": {"level": "warn", "format": "text"},
                         "retention": {"result_ttl_s": 600}},
                 redis_flags=("--auto-aof-rewrite-percentage", "100", "--auto-aof-rewrite-min-size", "64mb"))


def calibrate(stack, seed):
    """Jobs a second that this machine carries now, generator and checker included."""
    load = Load(stack.origin, stack.redis.socket_path, seed, live_max=4000, second_look_s=(0.2, 0.4)).start()
    time.sleep(CALIBRATE_S / 3)
    begin, before = time.monotonic(), load.counts["forgotten"]
    time.sleep(CALIBRATE_S * 2 / 3)
    rate = (load.counts["forgotten"] - before) / (time.monotonic() - begin)
    load.stop_submits()
    load.drain(60)
    problems = {kind: load.counts[kind] for kind in KINDS if load.counts[kind]}
    if problems:
        raise SystemExit(f"the calibration already went wrong: {problems}\n" + "\n".join(load.problems[:10]))
    return rate


def sabotage_of(kind, leak):
    """Breaks a promise on purpose, once: the verdict has to see it."""
    done = []

    def lost(batch, store):
        if not done:
            done.append(store.command("UNLINK", record_key(next(iter(batch.ids.values())))))

    def double(batch, _store):
        if not done:
            done.append(1)
            index = next(iter(batch.digests))
            batch.digests[index] ^= 1

    def fill(_batch, store):
        leak[0] += 1
        store.command("SET", f"soak-leak-{leak[0]}", "x" * 20000)

    return {"": None, "lost": lost, "double": double, "leak": fill}[kind]


def one_minute(scene, plan, load, sampler, minute, chooser, minute_s):
    """One fault somewhere in the minute; returns its line of the table."""
    begin = time.monotonic()
    time.sleep(chooser.uniform(0.05, 0.25) * minute_s)
    name = plan.next()
    at, started = (time.monotonic() - sampler.began) / 60, time.monotonic()
    failure = None
    try:
        FAULTS[name](scene)
        healed = time.monotonic()
        scene.all_children_back()
    except Exception as error:  # whatever went wrong, the run goes on and fails at its end
        failure, healed = (str(error) or repr(error))[:500], time.monotonic()
        load.note("wrong", f"minute {minute}: {name}: {failure}")
        with contextlib.suppress(Exception):
            scene.heal_redis() if not scene.stack.redis.is_alive() else scene.stack.sim.control(reset=True)
    time.sleep(max(0.0, begin + minute_s - time.monotonic()))
    recovery = sampler.recovery_s(healed, load.rate)
    bad = {kind: load.counts[kind] for kind in KINDS if load.counts[kind]}
    say(f"minute {minute:3}: {name}{' FAILED: ' + failure if failure else ''}; recovery "
        f"{'not seen' if recovery is None else f'{recovery:.1f} s'}; accepted {load.counts['accepted']:,}, ended "
        f"{load.counts['ended']:,}, live {len(load.live):,}{'; ' + str(bad) if bad else ''}")
    return at, name + (" (FAILED)" if failure else ""), healed - started, recovery


def run(args):
    seed = args.seed or random.SystemRandom().randrange(1, 1_000_000)
    say(f"seed {seed}")
    minutes, interrupted = [], False
    with make_stack() as stack:
        stack.add_worker({"worker": {"processes": 1}})
        eventually(lambda: len(stack.broker.children()) == 2 and len(stack.worker.children()) == 2, 20, "all children")
        say("finding out what this machine carries …" if not args.rate else f"{args.rate} jobs/s, as told")
        carried = None if args.rate else calibrate(stack, seed)
        rate = args.rate or max(1, round(carried / 2))
        if carried:
            say(f"it carries {carried:,.0f} jobs/s from end to end with every check; half is {rate:,}")
        scene, plan, chooser = Scene(stack, seed), Plan(seed), random.Random(seed + 1)
        load = Load(stack.origin, stack.redis.socket_path, seed + 1, rate=rate, live_max=rate * 120)
        load.sabotage = sabotage_of(args.sabotage, [0])
        store = Store(stack.redis.socket_path)
        sampler = report.Sampler(scene, store, load, args.sample_s)
        held_before, executions = sampler.redis_mib(), stack.sim.stats()["executions"]
        kept = [scene.spared_broker, stack.broker.pid, scene.spared_pool.pid, *scene.spared_pool.children()]
        load.start()
        sampler.start()
        try:
            for minute in range(1, args.minutes + 1):
                minutes.append(one_minute(scene, plan, load, sampler, minute, chooser, args.minute_s))
                if sampler.standstill_s() > STANDSTILL_MAX_S:
                    interrupted = True
                    say(f"void: the machine stood still for {sampler.standstill_s():.0f} s")
                    break
        except (Interrupted, KeyboardInterrupt):
            interrupted = True
            say("interrupted: judging what there is")
            stack.sim.control(reset=True)
            stack.redis.signal(signal.SIGCONT)
        load.stop_submits()
        say("draining")
        load.drain(180)
        sampler.stop()
        held_after = None
        with contextlib.suppress(OSError, TypeError, ValueError):
            held_after = sampler.redis_mib()
        died = [pid for pid in kept if not pathlib.Path(f"/proc/{pid}").exists()]
        doctor = stack.cli("doctor", check=False)
        executions = stack.sim.stats()["executions"] - executions
        store.close()
    return {"seed": seed, "rate": rate, "carried": carried, "minutes": minutes, "load": load, "sampler": sampler, "died": died,
            "held": (held_before, held_after), "doctor": doctor, "interrupted": interrupted, "executions": executions}


def judge(found, args):
    """(slopes, their lines, lines of the verdict, passed)"""
    load, sampler = found["load"], found["sampler"]
    skip_s = min(300.0, (sampler.rows[-1][0] if sampler.rows else 0) / 6)
    table = report.slopes(sampler, skip_s)
    is_judged = len(found["minutes"]) >= LONG_RUN_MINUTES or args.sabotage == "leak"
    growing = [row[0] for row in table if is_judged and row[-1] and row[-2] == "GROWS"]
    counts = {kind: load.counts[kind] for kind in KINDS}
    still_s = sampler.standstill_s()
    is_good = still_s <= STANDSTILL_MAX_S and not any(counts.values()) and not growing and not found["died"] and found["doctor"].returncode == 0
    cpu, busy = report.cpu_lines(sampler)
    done = load.counts
    held_before, held_after = found["held"]
    left = "–" if held_after is None else f"{(held_after - held_before) * 1024:+,.0f} KiB"
    lines = [
        f"**{'Passed' if is_good else 'FAILED'}**: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()) +
        f"; kept processes that died {len(found['died'])}; slopes that grow: {', '.join(growing) or 'none'}; `penstock doctor` "
        f"exits {found['doctor'].returncode}.", "",
        *([f"Void: the machine stood still for {still_s:.0f} s.", ""] if still_s > STANDSTILL_MAX_S else []),
        f"* accepted {done['accepted']:,}, of which {done['forgotten']:,} were read twice and judged; refused {done['rejected']:,}; "
        f"answer lost on the way {done['unknown']:,}, of which {done['late_known']:,} turned out to exist",
        f"* oldest unfinished job ever seen: {load.slowest_s:.1f} s; upstream calls beyond one a job, made again after a fault: "
        f"{max(0, found['executions'] - done['ended'] - done['late_known']):,}",
        f"* the machine was {busy:.0%} busy, of one processor: {cpu}",
        f"* what Redis holds once every job is forgotten, against before the load: {left}; largest log file "
        f"{sampler.log_bytes_max / 1048576:.1f} MiB",
    ]
    if load.problems:
        lines += ["", "Problems:", "", *(f"* {problem}" for problem in load.problems[:20])]
    return table, report.slope_lines(table, is_judged), lines, is_good


def facts_of(found, args):
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    load = "as told" if found["carried"] is None else f"half of the {found['carried']:,.0f} that this machine carried before"
    short = "" if args.minute_s == 60 else f" with minutes of {args.minute_s:g} s"
    return [f"`make soak MINUTES={args.minutes}`{short}, {datetime.date.today().isoformat()}, seed {found['seed']}, {os.cpu_count()} "
            f"processors, Redis {redis.removeprefix('v=')}: {found['rate']:,} jobs/s ({load}), {len(found['minutes'])} faults"
            f"{'; interrupted' if found['interrupted'] else ''}."]


def write(found, args, table, slope_lines, lines):
    """The figures, the plots and the page: beside the results always, into docs after a long run."""
    sampler = found["sampler"]
    text = report.page(facts_of(found, args), slope_lines, found["minutes"], lines)
    drawings = report.plots(sampler, found["minutes"])
    places = [args.results / "soak"]
    if len(found["minutes"]) >= LONG_RUN_MINUTES and not args.sabotage and sampler.standstill_s() <= STANDSTILL_MAX_S:
        places.append(args.docs)
    for place in places:
        (place / "plots").mkdir(parents=True, exist_ok=True)
        (place / "soak.md").write_text(text)
        for name, drawing in drawings.items():
            (place / "plots" / name).write_text(drawing)
    raw = {"seed": found["seed"], "rate": found["rate"], "carried": found["carried"], "minutes": found["minutes"],
           "counts": dict(found["load"].counts), "problems": found["load"].problems, "samples": sampler.rows,
           "redis": sampler.redis, "slopes": table}
    (args.results / "soak" / "soak.json").write_text(json.dumps(raw))
    return places


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=int, default=0, help="jobs a second; 0: half of what the machine carries")
    parser.add_argument("--seed", type=lambda text: int(text or 0), default=0, help="0: any")
    parser.add_argument("--sample-s", type=float, default=10.0)
    parser.add_argument("--minute-s", type=float, default=60.0, help="seconds of a minute: less, to try all faults")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build" / "results")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs")
    parser.add_argument("--sabotage", default="", choices=("", "lost", "double", "leak"))
    args = parser.parse_args()

    def interrupt(_number, _frame):
        raise Interrupted

    signal.signal(signal.SIGTERM, interrupt)
    found = run(args)
    table, slope_lines, lines, is_good = judge(found, args)
    places = write(found, args, table, slope_lines, lines)
    print("\n".join([*facts_of(found, args), "", *slope_lines, "", *lines, "",
                     "written: " + ", ".join(str(place) for place in places)]))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: what Penstock does on this machine, each figure the median of several runs, into docs/benchmarks.md.

Everything (load generator, broker, Redis, worker, upstream) shares the machine; compare figures of one run only.
  BENCH_ARGS="--only submit,poll --runs 5 --quick"
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402
import httpx  # noqa: E402

from tests.bench import peers  # noqa: E402
from tests.harness.stack import Redis, Sim, Stack, chat, embedding, eventually, free_port, http_call  # noqa: E402

TOOLS = pathlib.Path(os.environ.get("PENSTOCK_BENCH_DIR", ROOT / "build" / "tests" / "bench"))


def tool(name, *args):
    done = subprocess.run([str(TOOLS / name), *map(str, args)], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def kilobyte_job(model="sim-model", **more):
    job = {"endpoint": "/v1/chat/completions", "body": chat("x" * 800, model=model), **more}
    return json.dumps(job)


def cpu_seconds(pid):
    """User and system time of a process and its children of now."""
    total = 0
    for number in [pid, *children(pid)]:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(number) for number in task.read_text().split()]
    return found


def rss_anon_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def big_stack(durability="memory", **more):
    """One broker process, one worker child, limits out of the way."""
    config = {"redis": {"shards": 16}, "log": {"level": "warn", "format": "text"}, **more.pop("config", {})}
    return Stack(durability=durability, brokers=1, children=1, config=config,
                 upstream={"concurrency": more.pop("concurrency", 256)}, **more)


SKIPPED = {}


def beside(name, runs, measure, form):
    """The median of a peer's figure as text, or why it is not there."""
    if name in SKIPPED:
        return f"{name}: skipped"
    try:
        return f"{name} {form(statistics.median(measure() for _ in range(runs)))}"
    except peers.Skipped as reason:
        SKIPPED[name] = str(reason)
        return f"{name}: skipped"


# --- the figures ------------------------------------------------------------------------------------


def bench_submit(options):
    """POST /v1/jobs of 1 KB on 64 kept-alive connections; nothing is claimed meanwhile."""
    rows = []
    for durability in ("memory", "fsync"):
        runs = []
        for _ in range(options.runs):
            with big_stack(durability, start_worker=False) as stack:
                body = stack.folder / "job.json"
                body.write_text(kilobyte_job())
                address = stack.origin.removeprefix("http://")
                before = cpu_seconds(stack.broker.pid), cpu_seconds(stack.redis.pid)
                run = tool("load", "--address", address, "--connections", 64, "--seconds", options.seconds, "--method",
                           "POST", "--path", "/v1/jobs", "--body", body, "--expect", 202)
                after = cpu_seconds(stack.broker.pid), cpu_seconds(stack.redis.pid)
                run["broker_us"] = (after[0] - before[0]) * 1e6 / run["requests"]
                run["redis_us"] = (after[1] - before[1]) * 1e6 / run["requests"]
                runs.append(run)
        rows.append((f"submit/s, 64 connections, `{durability}`", f"{median(runs, 'per_second'):,.0f}",
                     f"p50 {median(runs, 'p50_ms'):.2f} ms, p99 {median(runs, 'p99_ms'):.2f} ms; CPU a job: broker "
                     f"{median(runs, 'broker_us'):.1f} µs, Redis {median(runs, 'redis_us'):.1f} µs"))
    if not options.quick:
        front = beside("Fastify + ioredis, one LPUSH", options.runs, lambda: fastify_rate(options), lambda rate: f"{rate:,.0f}")
        rows.append(("the same load on another front", front.rsplit(" ", 1)[-1], front))
    return rows


def fastify_rate(options):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        redis = Redis(folder).start()
        try:
            front, port = peers.fastify_front(redis.socket_path)
            body = folder / "job.json"
            body.write_text(kilobyte_job())
            try:
                return tool("load", "--address", f"127.0.0.1:{port}", "--connections", 64, "--seconds", options.seconds,
                            "--method", "POST", "--path", "/v1/jobs", "--body", body, "--expect", 202)["per_second"]
            finally:
                front.kill()
                front.wait()
        finally:
            redis.kill()


def queue_peer_rate(measure, durability, count):
    """jobs/s of another queue on a Redis and a simulator of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sim, redis = Sim(folder, flags=("--reply-bytes", "900")).start(), Redis(folder, durability).start()
        try:
            return measure(redis.socket_path, sim.origin, count)
        finally:
            sim.kill()
            redis.kill()


def bench_poll(options):
    """GET /v1/jobs/{id} on 64 connections, of finished and of waiting jobs."""
    rows = []
    with big_stack() as stack:
        address = stack.origin.removeprefix("http://")
        body, ids = stack.folder / "job.json", stack.folder / "ids"
        for name, model in (("finished", "sim-model"), ("live", "sim-waiting")):
            if name == "live":
                stack.api().json("POST", "/v1/queues/sim-waiting/pause", expect=200)
            body.write_text(kilobyte_job(model=model))
            tool("load", "--address", address, "--connections", 16, "--requests", 2000, "--method", "POST", "--path",
                 "/v1/jobs", "--body", body, "--expect", 202, "--ids", ids)
            names = ids.read_text().split()
            if name == "finished":
                api = stack.api()
                for job in names:
                    api.finish(job)
            paths = stack.folder / "paths"
            paths.write_text("".join(f"/v1/jobs/{job}\n" for job in names))
            runs = [tool("load", "--address", address, "--connections", 64, "--seconds", options.seconds, "--paths", paths,
                         "--expect", 200) for _ in range(options.runs)]
            rows.append((f"polls/s of {name} jobs, 64 connections", f"{median(runs, 'per_second'):,.0f}",
                         f"p50 {median(runs, 'p50_ms'):.2f} ms, p99 {median(runs, 'p99_ms'):.2f} ms"))
    return rows


class Totals:
    """How many jobs of a route have succeeded: straight from Redis (docs/redis-keys.md), cheap enough to ask every 10 ms."""

    def __init__(self, stack, route):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(stack.redis.socket_path))
        self._shards = stack.config["redis"]["shards"]
        self._command = "".join(f"HGET {{{shard}}}:c:{route} succeeded\r\n" for shard in range(self._shards)).encode()

    def succeeded(self):
        self._socket.sendall(self._command)
        lines = []
        text = b""
        while len(lines) < self._shards:
            text += self._socket.recv(65536)
            lines = [line for line in text.split(b"\r\n")[:-1] if line.isdigit() or line == b"$-1"]
        return sum(int(line) for line in lines if line.isdigit())


def bench_throughput(options):
    """Jobs submitted in bulk, run with an upstream that answers at once, results read back."""
    rows = []
    count = 5000 if options.quick else 20000
    for durability in ("memory", "fsync"):
        runs = []
        for _ in range(options.runs):
            with big_stack(durability, sim_flags=("--reply-bytes", "900")) as stack:
                address = stack.origin.removeprefix("http://")
                lines = (kilobyte_job() + "\n") * count
                totals = Totals(stack, "sim-model")
                before = cpu_seconds(stack.worker.pid), cpu_seconds(stack.redis.pid)
                begin = time.monotonic()
                status, _, data = http_call(stack.origin, "POST", "/v1/jobs/bulk", lines.encode(),
                                            {"Content-Type": "application/x-ndjson"}, timeout=300)
                submitted = time.monotonic()
                assert status == 200
                ids = [line.split(b'"id":"')[1][:38].decode() if b'"id":"' in line else json.loads(line)["id"]
                       for line in data.splitlines()]
                assert len(ids) == count
                eventually(lambda: totals.succeeded() >= count, 300, "all jobs end")
                ended = time.monotonic()
                after = cpu_seconds(stack.worker.pid), cpu_seconds(stack.redis.pid)
                paths = stack.folder / "paths"
                paths.write_text("".join(f"/v1/jobs/{job}/result\n" for job in ids))
                tool("load", "--address", address, "--connections", 64, "--requests", count, "--paths", paths, "--expect",
                     200)
                end = time.monotonic()
                runs.append({"rate": count / (end - begin), "drain": count / (ended - begin),
                             "submit": count / (submitted - begin), "worker": (after[0] - before[0]) * 1e6 / count,
                             "redis": (after[1] - before[1]) * 1e6 / count})
        rows.append((f"jobs/s end to end, `{durability}`", f"{median(runs, 'rate'):,.0f}",
                     f"until the last has ended {median(runs, 'drain'):,.0f}, bulk submit {median(runs, 'submit'):,.0f}; CPU "
                     f"a job: worker {median(runs, 'worker'):.1f} µs, Redis {median(runs, 'redis'):.1f} µs"))
        if not options.quick:
            bull = beside(f"BullMQ ({durability})", options.runs,
                          lambda durability=durability: queue_peer_rate(peers.bullmq, durability, 10000),
                          lambda rate: f"{rate:,.0f}")
            rows.append((f"the same through BullMQ, `{durability}`", bull.rsplit(" ", 1)[-1], "bulk add, HTTP call, result kept"))
    if not options.quick:
        celery = beside("Celery", 1, lambda: queue_peer_rate(peers.celery, "memory", 1000), lambda rate: f"{rate:,.0f}")
        rows.append(("the same through Celery prefork 4, 1,000 jobs, `memory`", celery.rsplit(" ", 1)[-1], ""))
    return rows


def idle_path(options, mode):
    port, count = free_port(), 200 if options.quick else 1000
    with big_stack() as stack:
        config = json.loads(stack.config_path().read_text())
        config["upstreams"] = [{"name": "bench", "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1",
                                "models": ["bench"], "concurrency": 64, "health": "/health"}]
        stack.config_path().write_text(json.dumps(config))
        stack.worker.stop()
        stack.workers.clear()
        runs = []
        stack.add_worker()
        for _ in range(options.runs):
            runs.append(tool("pickup", "--mode", mode, "--broker", stack.origin.removeprefix("http://"), "--listen",
                             f"127.0.0.1:{port}", "--count", count))
        return runs


def bench_pickup(options):
    """Idle queue: submit written to the upstream's first byte received; held-open call against the direct one."""
    pickup, held, direct = (idle_path(options, mode) for mode in ("pickup", "held", "direct"))
    return [("pickup, idle queue, p50 / p99", f"{median(pickup, 'p50_ms'):.2f} / {median(pickup, 'p99_ms'):.2f} ms", ""),
            ("held-open call, added p50 / p99",
             f"{median(held, 'p50_ms') - median(direct, 'p50_ms'):.2f} / "
             f"{median(held, 'p99_ms') - median(direct, 'p99_ms'):.2f} ms",
             f"direct {median(direct, 'p50_ms'):.2f} / {median(direct, 'p99_ms'):.2f} ms")]


async def fan_out(origin, bodies, path):
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        async def call(body):
            async with session.post(f"{origin}{path}", json=body) as answer:
                await answer.read()
                assert answer.status == 200

        begin = time.monotonic()
        await asyncio.gather(*(call(body) for body in bodies))
        return time.monotonic() - begin


def bench_script(options):
    """The asyncio script this replaces: N calls of 3 s each."""
    rows = []
    sizes = [("15 prompts", "/v1/chat/completions", [chat(f"prompt {i}") for i in range(15)]),
             ("100 documents", "/v1/embeddings", [embedding(f"document {i}") for i in range(100)])]
    if not options.quick:
        for count in (1000, 10000):
            sizes.append((f"{count:,} prompts", "/v1/chat/completions", [chat(f"prompt {i}") for i in range(count)]))
    with big_stack(sim_flags=("--delay-ms", "3000"), concurrency=10000) as stack:
        for name, path, bodies in sizes:
            penstock, aio = [], []
            lines = stack.folder / "lines.jsonl"
            lines.write_text("".join(json.dumps({"endpoint": path, "body": body}) + "\n" for body in bodies))
            for _ in range(options.runs):
                begin = time.monotonic()
                stack.cli("bulk", lines, "-o", stack.folder / "out.jsonl", "--quiet")
                penstock.append({"wall": time.monotonic() - begin})
                aio.append({"wall": asyncio.run(fan_out(stack.sim.origin, bodies, path))})
            one = {"wall": asyncio.run(fan_out(stack.sim.origin, bodies[:1], path))}
            others = [f"asyncio + aiohttp {median(aio, 'wall'):.2f} s"]
            if path.endswith("completions") and not options.quick:
                others += script_peers(options, stack, len(bodies))
            others.append(f"one after the other {one['wall'] * len(bodies):,.0f} s (one measured, times {len(bodies)})")
            rows.append((f"{name} of 3 s", f"{median(penstock, 'wall'):.2f} s", "; ".join(others)))
    return rows


def script_peers(options, stack, count):
    """The same calls by what else people write; slow ones run once."""
    origin, runs = stack.sim.origin, options.runs if count <= 1000 else 1
    seconds = lambda value: f"{value:.2f} s"  # noqa: E731
    rows = [beside("undici", runs, lambda: peers.node_fanout("undici", origin, count)["wall_s"], seconds),
            beside("Node SDK", runs, lambda: peers.node_fanout("openai", origin, count)["wall_s"], seconds)]
    if count <= 1000:
        rows.append(beside("httpx", 1, lambda: asyncio.run(fan_out_httpx(origin, count)), seconds))
        rows.append(beside("curl --parallel", 1, lambda: peers.curl_parallel(origin, count, stack.folder), seconds))
    return rows


async def fan_out_httpx(origin, count):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        begin = time.monotonic()
        answers = await asyncio.gather(*(client.post(f"{origin}/v1/chat/completions", json=chat(f"prompt {i}"))
                                         for i in range(count)))
        assert all(answer.status_code == 200 for answer in answers)
        return time.monotonic() - begin


def worker_rss_mib(stack):
    """Resident memory of the one worker child."""
    for line in pathlib.Path(f"/proc/{stack.worker.children()[0]}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def fan_out_run(number, count):
    """count calls of 3 s at once: first claim to last commit, and what the worker needs for it."""
    address = f"127.0.0.{10 + number}:0"  # local ports of an earlier run are still in TIME_WAIT
    with big_stack(sim_flags=("--delay-ms", "3000"), concurrency=count, listen=(address,),
                   config={"worker": {"inflight_max": count}}) as stack:
        floor = tool("floor", "--url", f"{stack.sim.origin}/v1/chat/completions", "--calls", count, "--concurrency", count,
                     "--multis", 32, "--body-bytes", 1000)
        api = stack.api()
        api.finish(api.submit(timeout_ms=600000)["id"])
        idle, busy = worker_rss_mib(stack), 0.0
        before = cpu_seconds(stack.worker.pid)
        lines = (kilobyte_job() + "\n") * count
        status, _, data = http_call(stack.origin, "POST", "/v1/jobs/bulk", lines.encode(),
                                    {"Content-Type": "application/x-ndjson"}, timeout=300)
        assert status == 200
        ids = [json.loads(line)["id"] for line in data.splitlines()]
        totals = Totals(stack, "sim-model")
        while totals.succeeded() < count + 1:
            busy = max(busy, worker_rss_mib(stack))
            time.sleep(0.05)
        cpu = cpu_seconds(stack.worker.pid) - before
        jobs = []
        for at in range(0, count, 1000):
            jobs += api.json("POST", "/v1/jobs/query", {"ids": ids[at:at + 1000]}, expect=200)["data"]
        assert len(jobs) == count and all(job["status"] == "succeeded" and job["attempt"] == 0 for job in jobs)
        wall = max(job["finished_at"] for job in jobs) - min(job["started_at"] for job in jobs)
        return {"wall": wall, "floor": floor["wall_s"], "cpu": cpu, "kib": (busy - idle) * 1024 / count,
                "in_flight": stack.sim.stats()["in_flight_max"]}


def bench_fanout(options):
    """10,000 calls of 3 s each to one upstream, one worker child, beside the bare libcurl loop."""
    count = 1000 if options.quick else 10000
    runs = [fan_out_run(number, count) for number in range(options.runs)]
    return [(f"{count:,} calls of 3 s, first claim to last commit", f"{median(runs, 'wall'):.2f} s",
             f"bare libcurl loop {median(runs, 'floor'):.2f} s; {median(runs, 'kib'):.1f} KiB a call in flight, worker CPU "
             f"{median(runs, 'cpu'):.2f} s, most in flight {median(runs, 'in_flight'):,.0f}")]


def bench_memory(_options):
    """Memory of the processes once the stack is idle."""
    with big_stack() as stack:
        api = stack.api()
        for _ in range(50):
            api.finish(api.submit()["id"])
        broker, worker = stack.broker.children(), stack.worker.children()
        return [("idle memory (RssAnon), broker child / worker child / supervisor",
                 f"{rss_anon_mib(broker[0]):.1f} / {rss_anon_mib(worker[0]):.1f} / {rss_anon_mib(stack.worker.pid):.1f} MiB",
                 "")]


BENCHES = {"submit": bench_submit, "poll": bench_poll, "throughput": bench_throughput, "pickup": bench_pickup,
           "fanout": bench_fanout, "script": bench_script, "memory": bench_memory}


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return (f"{os.cpu_count()} × {model}, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GiB, "
            f"{platform.system()} {platform.release()}, Redis {redis[2].removeprefix('v=') if len(redis) > 2 else '?'}")


def write_page(rows, options):
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
    command = "make bench" + (f' BENCH_ARGS="{" ".join(sys.argv[1:])}"' if len(sys.argv) > 1 else "")
    lines = [begin, f"Command: `{command}`, {datetime.date.today().isoformat()}, medians of {options.runs} runs.  ",
             f"Machine: {machine()}.", "", "| What | Figure | Beside it |", "|---|---|---|"]
    lines += [f"| {what} | **{figure}** | {others} |" for what, figure, others in rows]
    lines += ["", *(f"Skipped: {name}: {why}  " for name, why in SKIPPED.items()), end]
    if begin in text:
        head, rest = text.split(begin, 1)
        text = head + "\n".join(lines) + rest.split(end, 1)[1]
    else:
        text = text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"
    page.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(BENCHES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.only.split(","):
        for row in BENCHES[name](options):
            rows.append(row)
            print(f"{row[0]:60} {row[1]:>24}   {row[2]}", flush=True)
    if not options.no_write:
        write_page(rows, options)


if __name__ == "__main__":
    main()

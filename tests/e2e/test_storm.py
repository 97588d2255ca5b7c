"""Everything at once: 64 connections submit, poll, hold calls open, cancel, list, follow, talk nonsense and vanish, all at the
same brokers and workers. Every answer is one of docs/openapi.yaml, nothing restarts, every accepted job ends, the store
is consistent, and memory and descriptors come back to where they were.

PENSTOCK_STORM_SECONDS makes it longer than the default.
"""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import socket
import struct
import time
import urllib.parse

import aiohttp

from tests.harness.openapi import Document
from tests.harness.stack import IS_SANITIZED, SLOW, Stack, chat, embedding, eventually

SECONDS = float(os.environ.get("PENSTOCK_STORM_SECONDS", "8"))
ACTORS = {"submit": 12, "bulk": 2, "poll": 12, "hold": 10, "cancel": 6, "list": 4, "follow": 8, "vanish": 8, "nonsense": 2}
KNOWN_MAX = 2000
LINES = 20
CHECK_WHOLE = 8  # every so many answers the body is held against its schema too
# Results of ended jobs are kept to be told again (64 MiB at most); beyond that nothing may stay.
GROWTH_BYTES_MAX = (64 + 48) << 20


class Storm:
    def __init__(self, stack, seed):
        self.stack = stack
        self.document = Document()
        self.random = random.Random(seed)
        self.end = time.monotonic() + SECONDS
        self.accepted = set()
        self.known = collections.deque(maxlen=KNOWN_MAX)
        self.answers = collections.Counter()
        self.problems = []
        self.number = 0

    def is_on(self):
        return time.monotonic() < self.end and not self.problems

    def next_number(self):
        self.number += 1
        return self.number

    def body(self):
        """A call's body: mostly quick, now and then slow, refused, failing once or large."""
        how = self.random.choices(["delay_ms=0", f"delay_ms={self.random.randrange(120)}", "status=400", "body_bytes=200000",
                                   f"status=500,fail_times=1,fail_key=f{self.next_number()}", "drop=mid_body"],
                                  [40, 40, 5, 3, 8, 2])[0]
        text = "x" * self.random.choice([10, 10, 10, 1000, 100_000])
        return chat(text, user=f"sim:{how},nonce=s{self.next_number()}")

    def job(self):
        fields = {"endpoint": "/v1/chat/completions", "body": self.body(), "max_attempts": 2,
                  "priority": self.random.choice(["high", "normal", "low"]), "metadata": {"k": "v"}}
        if self.random.random() < 0.2:
            fields["delay_ms"] = self.random.randrange(800)
        if self.random.random() < 0.2:
            fields["idempotency_key"] = f"k{self.random.randrange(200)}"
        if self.random.random() < 0.1:
            fields["expires_in_ms"] = 1000 + self.random.randrange(1000)
        return fields

    def accept(self, job):
        self.accepted.add(job)
        self.known.append(job)

    def some_job(self):
        return self.random.choice(self.known) if self.known else "job_" + "0" * 34

    def judge(self, method, target, status, headers, data):
        self.answers[method, self.document.template(target), status] += 1
        found = self.answers.total() % CHECK_WHOLE == 0
        try:
            if found:
                self.document.check(method, target, status, headers, data)
            else:
                known = self.document.statuses(method, self.document.template(target))
                assert str(status) in known or "default" in known, f"{method} {target}: {status} {data[:500]!r}"
        except Exception as error:  # whatever is wrong is told once, at the end
            self.problems.append(f"{type(error).__name__}: {error}"[:2000])

    async def call(self, session, method, target, body=None, headers=None):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        async with session.request(method, self.stack.origin + target, data=body, headers=headers) as answer:
            data = await answer.read()
            told = {name.lower(): value for name, value in answer.headers.items()}
        self.judge(method, target, answer.status, told, data)
        return answer.status, told, data

    # ---- the actors: one step each -----------------------------------------------------------------------------------

    async def submit(self, session):
        status, _, data = await self.call(session, "POST", "/v1/jobs", self.job())
        if status == 202:
            self.accept(json.loads(data)["id"])

    async def bulk(self, session):
        lines = [json.dumps(self.job()) if self.random.random() < 0.9 else '{"endpoint": 1}' for _ in range(LINES)]
        status, _, data = await self.call(session, "POST", "/v1/jobs/bulk", "\n".join(lines),
                                          {"Content-Type": "application/x-ndjson"})
        if status == 200:
            answers = [json.loads(line) for line in data.splitlines()]
            assert [answer["line"] for answer in answers] == list(range(1, LINES + 1))
            for answer in answers:
                if "id" in answer:
                    self.accept(answer["id"])
        await asyncio.sleep(0.1)

    async def poll(self, session):
        job = self.some_job()
        choice = self.random.randrange(4)
        if choice == 0:
            await self.call(session, "POST", "/v1/jobs/query", {"ids": [self.some_job() for _ in range(20)]})
        elif choice == 1:
            await self.call(session, "GET", f"/v1/jobs/{job}/result")
        elif choice == 2:
            await self.call(session, "GET", f"/v1/jobs/{job}?wait=300ms")
        else:
            status, headers, _ = await self.call(session, "GET", f"/v1/jobs/{job}")
            if status == 200:
                await self.call(session, "GET", f"/v1/jobs/{job}", headers={"If-None-Match": headers["etag"]})

    async def hold(self, session):
        headers = self.random.choice([{}, {}, {"Prefer": "respond-async, wait=1"}, {"Prefer": "respond-async"},
                                      {"Idempotency-Key": f"h{self.random.randrange(100)}"}])
        if self.random.random() < 0.3:
            body = embedding(["a", "b"], encoding_format="base64")
            status, told, data = await self.call(session, "POST", "/v1/embeddings", body, headers)
        else:
            body = self.body() if "Idempotency-Key" not in headers else chat(headers["Idempotency-Key"])
            status, told, data = await self.call(session, "POST", "/v1/chat/completions", body, headers)
        if status == 202:
            self.accept(json.loads(data)["id"])
        elif "penstock-job-id" in told:
            self.accept(told["penstock-job-id"])

    async def cancel(self, session):
        body = chat(user=f"sim:delay_ms={self.random.choice([0, 200, 60000])},nonce=c{self.next_number()}")
        status, _, data = await self.call(session, "POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "body": body})
        if status != 202:
            return
        job = json.loads(data)["id"]
        self.accept(job)
        await asyncio.sleep(self.random.random() * 0.1)
        await self.call(session, "POST", f"/v1/jobs/{job}/cancel")
        status, _, data = await self.call(session, "GET", f"/v1/jobs/{job}?wait=10s")
        assert status != 200 or json.loads(data)["finished_at"] is not None, data
        if self.random.random() < 0.2:
            await self.call(session, "DELETE", f"/v1/jobs/{job}")
        if self.random.random() < 0.1 and b'"delay_ms=60000' not in data:
            status, _, data = await self.call(session, "POST", f"/v1/jobs/{job}/retry")
            if status == 202:
                again = json.loads(data)["id"]
                self.accept(again)
                await self.call(session, "POST", f"/v1/jobs/{again}/cancel")

    async def list(self, session):
        status, _, data = await self.call(session, "GET", self.random.choice([
            "/v1/jobs", "/v1/jobs?limit=100", "/v1/jobs?status=failed&limit=50", "/v1/jobs?model=nobody", "/v1/queues",
            "/v1/upstreams", "/v1/workers", "/v1/stats", "/v1/models", "/v1/queues/sim-model", "/healthz", "/readyz"]))
        page = json.loads(data)
        if status == 200 and page.get("has_more"):
            await self.call(session, "GET", f"/v1/jobs?after={page['next_after']}")
        await asyncio.sleep(0.02)

    async def follow(self, session):
        status, _, data = await self.call(session, "POST", "/v1/jobs", self.job())
        if status != 202:
            return
        job = json.loads(data)["id"]
        self.accept(job)
        async with session.get(f"{self.stack.origin}/v1/jobs/{job}/events") as answer:
            self.answers["GET", "/v1/jobs/{id}/events", answer.status] += 1
            text = (await answer.read()).decode()
        if answer.status != 200:
            return
        numbers = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
        assert numbers == sorted(set(numbers)), text
        assert text.count("event: done") == 1, text

    async def vanish(self, session):
        """A client that goes in the middle of something, politely or with a reset."""
        parts = urllib.parse.urlsplit(self.stack.origin)
        body = json.dumps(chat(user="sim:delay_ms=60000")).encode()
        job = json.dumps(self.job()).encode()
        start = b"%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(self.random.choice([
            b"", b"GET /v1/jo", b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n", b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
            start % b"POST /v1/jobs" + b"Content-Length: %d\r\n\r\n" % len(job) + job[:len(job) // 2],
            start % b"POST /v1/jobs" + b"Content-Length: %d\r\n\r\n" % len(job) + job,
            start % b"POST /v1/chat/completions" + b"Content-Length: %d\r\n\r\n" % len(body) + body,
            start % b"POST /v1/jobs/bulk" + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\n\r\n5\r\n{" % (len(job) + 1, job),
            b"GET /v1/jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % self.some_job().encode(),
            b"GET /v1/jobs/%s?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n" % self.some_job().encode()]))
        await asyncio.sleep(self.random.random() * 0.15)
        if self.random.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def nonsense(self, session):
        target, body = self.random.choice([("/v1/jobs", b"{"), ("/v1/jobs", b"\xff"), ("/v1/jobs/query", {"ids": 1}),
                                           ("/v1/chat/completions", {}), ("/v1/jobs", {"endpoint": "x", "body": {}}),
                                           ("/v1/jobs", b"[" * 70_000)])
        status, _, _ = await self.call(session, "POST", target, body, {"Content-Type": "application/json"})
        assert status in (400, 503)

    # ---- all of them -------------------------------------------------------------------------------------------------

    async def act(self, name):
        step = getattr(self, name)
        connector = aiohttp.TCPConnector(limit=1)
        timeout = aiohttp.ClientTimeout(total=60 * SLOW)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while self.is_on():
                try:
                    await step(session)
                except Exception as error:
                    self.problems.append(f"{name}: {type(error).__name__}: {error}"[:2000])

    async def run(self):
        await asyncio.gather(*(self.act(name) for name, count in ACTORS.items() for _ in range(count)))


# ---- what processes hold --------------------------------------------------------------------------------------------------

def connections_to(port):
    """Inodes of this machine's TCP sockets whose other end is this port."""
    rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {row[9] for row in rows if int(row[2].split(":")[1], 16) == port}


def descriptors(pid, kept_port):
    """How many are open; connections to the upstream do not count, those are kept for the next call."""
    kept = {f"socket:[{inode}]" for inode in connections_to(kept_port)}
    count = 0
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(entry) not in kept
        except OSError:
            continue  # closed meanwhile
    return count


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_storm():
    # Memory that a sanitizer keeps back would look like a leak.
    env = {"ASAN_OPTIONS": "quarantine_size_mb=1:" + os.environ.get("ASAN_OPTIONS", "")} if IS_SANITIZED else None
    with Stack(brokers=2, children=2, env=env) as stack:
        api = stack.api()
        children = stack.broker.children() + stack.worker.children()
        assert len(children) == 4
        api.finish(api.submit()["id"])
        api.close()
        port = urllib.parse.urlsplit(stack.sim.origin).port
        held = {pid: descriptors(pid, port) for pid in children}
        memory = {pid: resident_bytes(pid) for pid in children}

        storm = Storm(stack, seed=1)
        asyncio.run(storm.run())
        print(f"{storm.answers.total()} answers, {len(storm.accepted)} jobs")
        for key, count in sorted(storm.answers.items(), key=str):
            print(f"{count:8} {key}")
        assert not storm.problems, "\n".join(storm.problems[:10])
        assert stack.broker.children() + stack.worker.children() == children, "a child died"

        ids = sorted(storm.accepted)
        finals = {"succeeded", "failed", "cancelled", "expired"}

        def unfinished():
            left = []
            for at in range(0, len(ids), 1000):
                jobs = api.json("POST", "/v1/jobs/query", {"ids": ids[at:at + 1000]}, expect=200)["data"]
                left += [job["id"] for job in jobs if job["status"] not in finals]
                assert len(jobs) == len(ids[at:at + 1000]), "an accepted job is gone"
            return left

        eventually(lambda: not unfinished(), 30, "every accepted job has ended", 0.2)
        eventually(lambda: api.json("GET", "/v1/stats", expect=200)["jobs"]["live"] == 0, 30, "nothing is left over", 0.2)
        api.close()
        stack.cli("doctor")
        for pid in children:
            eventually(lambda pid=pid: descriptors(pid, port) <= held[pid], 15,
                       f"descriptors of {pid} are back at {held[pid]}", 0.2)
        growth = {pid: resident_bytes(pid) - memory[pid] for pid in children}
        print(f"growth in KiB: {[bytes_ >> 10 for bytes_ in growth.values()]}")
        assert max(growth.values()) < GROWTH_BYTES_MAX, growth

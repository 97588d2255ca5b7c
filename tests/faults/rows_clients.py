"""Rows F: clients that leave, crawl, lie, or come in crowds."""

import concurrent.futures
import contextlib
import http.client
import json
import random
import resource
import socket
import time

from tests.faults.matrix import descriptors, memory_mib, not_here, row
from tests.harness.proxy import reset
from tests.harness.stack import Api, chat, eventually, http_call


def where(run):
    host, port = run.stack.origin.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


def post(body, path="/v1/jobs", headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def job(nonce, model="sim-other"):
    return {"endpoint": "/v1/chat/completions", "metadata": {"nonce": nonce}, "body": chat(f"prompt {nonce}", model=model)}


def answer_of(sock, seconds=15.0):
    """Everything until the other side closes: bytes; b"" when it only closed or reset."""
    sock.settimeout(seconds)
    data = b""
    with contextlib.suppress(ConnectionError):
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    return data


def percentile(seconds, share):
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * share // 100)]


def status_of(data):
    return int(data.split()[1]) if data.startswith(b"HTTP/1.1 ") else 0


@row("F67", "clients leave before, in the middle of, and after their request; by closing and by reset")
def clients_leave(run):
    api = run.stack.api()
    whole = []
    for index in range(300):
        text = post(job(f"left-{index}"))
        cut = (len(text) - 1, len(text) // 2, 10, len(text))[index % 4]
        sock = socket.create_connection(where(run))
        sock.sendall(text[:cut])
        if cut == len(text):
            whole.append(f"left-{index}")
            answer_begins = sock.recv(1)
            assert answer_begins == b"H"
        (reset if index % 8 >= 4 else socket.socket.close)(sock)
    run.healed()

    def stored():
        page, after, found = None, None, []
        while page is None or page["has_more"]:
            page = api.json("GET", "/v1/jobs?model=sim-other&limit=100" + (f"&after={after}" if after else ""), expect=200)
            found += [one["metadata"]["nonce"] for one in page["data"]]
            after = page["next_after"]
        return sorted(found)
    eventually(lambda: stored() == sorted(whole), 10, "what came whole is there, and nothing else")


@row("F68", "10,000 connections that crawl: heads, bodies, and answers nobody reads", smoke=True, jobs=3600,
     rss_max_mib=128)
def slow_loris(run):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    count = min(10000, hard - 1000)
    calm = percentile(run.ledger.accept_seconds, 99)
    text, lists = post(job("slow")), b"GET /v1/jobs?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    crawling = []
    try:
        for index in range(count):
            sock = socket.create_connection(where(run))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # One in thirty asks for much and reads nothing: more of them would be a load of its own, not slowness.
            sock.sendall(lists if index % 30 == 2 else text[:-10] if index % 3 else text[:20])
            crawling.append(sock)
        at = len(run.ledger.accept_seconds)  # of the clients beside them, once they are all there
        closed, end = 0, time.monotonic() + 11.5
        while time.monotonic() < end:
            for index, sock in enumerate(crawling[::3]):
                with contextlib.suppress(OSError):
                    sock.send(b"a")
                if index % 50 == 0:
                    run.hold(0.01)  # our own clients are threads of this process
        during = percentile(run.ledger.accept_seconds[at:] or run.ledger.accept_seconds, 99)  # a slow machine: the load is over
        for sock in crawling[::3]:
            sock.settimeout(0.2)
            with contextlib.suppress(OSError):
                closed += status_of(sock.recv(1000)) == 408
        assert closed >= 0.9 * count / 3, f"{closed} of {count // 3} slow heads were told 408"
        # What our own threads, and others on the machine, take from each other stays below the floor.
        assert during <= max(0.4, 5 * calm), (calm, during)
    finally:
        for sock in crawling:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    run.healed()
    eventually(lambda: max(descriptors(pid) for pid in run.stack.broker.children()) < 300, 15, "they are closed")


@row("F69", "bodies that are too large, longer or shorter than they say, or never end", load=False)
def lengths_that_lie(run):
    children = run.stack.broker.children()
    before = max(map(memory_mib, children))
    big = 16 * 1024 * 1024
    huge = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (10 * big)
    endless = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for head, piece in ((huge, b"x" * 65536), (endless, b"10000\r\n" + b"x" * 65536 + b"\r\n")):
        with socket.create_connection(where(run)) as sock:
            sent, answer = 0, b""
            sock.sendall(head)
            sock.settimeout(10)
            with contextlib.suppress(ConnectionError):
                while sent < 4 * big:
                    sock.sendall(piece)
                    sent += len(piece)
            with contextlib.suppress(ConnectionError):
                answer = answer_of(sock)
            assert sent < 2 * big, sent
            assert status_of(answer) in (0, 413), answer[:200]
    for length in (b"-1", b"+5", b"5, 6", b"0x10", b"99999999999999999999999", b"5\r\nContent-Length: 6"):
        with socket.create_connection(where(run)) as sock:
            sock.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n{}and more")
            assert status_of(answer_of(sock)) in (400, 413), length
    assert run.stack.broker.children() == children
    assert max(map(memory_mib, children)) - before < 64


@row("F70", "JSON that is deep, wide, or full of huge numbers", load=False)
def hostile_json(run):
    api = run.stack.api()
    children = run.stack.broker.children()
    deep = b'{"a":' * 500000 + b"1" + b"}" * 500000
    wide = b"{" + b",".join(b'"k%d":1' % index for index in range(500000)) + b"}"
    digits = b'{"endpoint":"/v1/chat/completions","body":{"model":"m","messages":[],"seed":' + b"9" * 1000000 + b"}}"
    lists = b'{"endpoint":"/v1/chat/completions","body":' + b"[" * 1000000
    for text in (deep, wide, digits, lists, b"\xff" * 1000, b'{"a":"\\ud800' + b"x" * 100000):
        begin = time.monotonic()
        status, _, data = api.request("POST", "/v1/jobs", text, {"Content-Type": "application/json"})
        assert status == 400, (status, data[:200])
        assert time.monotonic() - begin < 1.0
    assert run.stack.broker.children() == children


@row("F71", "one key, 100 clients at once, while brokers are killed and Redis is restarted", smoke=True, load=False)
def one_key(run):
    def send(name, index):
        """The job's id, for as long as it takes."""
        body = json.dumps(job(name, "sim-model"))
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, data = http_call(run.stack.origin, "POST", "/v1/jobs", body,
                                            {"Content-Type": "application/json", "Idempotency-Key": name}, 20)
                if status in (200, 202):
                    return json.loads(data)["id"]
                assert status in (429, 503), (status, data)
            time.sleep(random.Random(index).uniform(0.01, 0.1))

    def fault(number):
        if number % 2:
            run.kill_child(run.stack.broker, number)
        else:
            run.stack.redis.kill()
            run.stack.redis.start()

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        for number in range(6):
            sent = [pool.submit(send, f"key-{number}", index) for index in range(100)]
            fault(number)
            ids = {one.result(60) for one in sent}
            assert len(ids) == 1, ids
            run.stack.wait_ready()
            api = run.stack.api()  # the old connection may have died with its broker
            # Each broker child finds its own way back: the one that took this connection, too.
            eventually(lambda api=api: api.request("GET", "/readyz")[0] == 200, 20, "this child is ready")
            status, _, data = api.request("POST", "/v1/jobs", job("other"), {"Idempotency-Key": f"key-{number}"})
            assert status == 422 and json.loads(data)["code"] == "idempotency_mismatch", (status, data)
            assert api.finish(ids.pop(), 30)["status"] == "succeeded"
    listed = api.json("GET", "/v1/jobs?limit=100", expect=200)["data"]
    assert len(listed) == 6, len(listed)


def poll_without_end(run, job_id, seconds):
    """100 polls at a time on one connection, made anew when the broker says that it closes; how many were answered."""
    text = f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100
    end, answered = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with socket.create_connection(where(run)) as sock, sock.makefile("rb") as answers:
            is_closing = False
            while not is_closing and time.monotonic() < end:
                sock.sendall(text)
                for _ in range(100):
                    line = answers.readline()
                    assert b" 200 " in line, (line, answered)
                    length = 0
                    while (line := answers.readline().lower()) != b"\r\n":
                        if line.startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                        is_closing = is_closing or line == b"connection: close\r\n"
                    answers.read(length)
                    answered += 1
                    if is_closing:
                        break
    return answered


@row("F72", "2,000 polls held open and a storm of further ones: submits go on", jobs=3200)
def poll_storm(run):
    waiting = run.stack.api().submit(chat(model="sim-other", user="sim:delay_ms=60000"), timeout_ms=90000)["id"]
    held, memory = [], max(map(memory_mib, run.stack.broker.children()))
    at = len(run.ledger.accept_seconds)
    try:
        for _ in range(2000):
            sock = socket.create_connection(where(run))
            sock.sendall(f"GET /v1/jobs/{waiting}?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            held.append(sock)
        polls = poll_without_end(run, waiting, 5)
        assert polls > 5000, polls
        during = percentile(run.ledger.accept_seconds[at:] or run.ledger.accept_seconds, 99)  # a slow machine: the load is over
        assert during <= 0.25, during
        grown = max(map(memory_mib, run.stack.broker.children())) - memory
        assert grown < 64, f"2,000 held polls take {grown:.0f} MiB"
    finally:
        for sock in held:
            sock.close()
        run.stack.api().request("POST", f"/v1/jobs/{waiting}/cancel")
    run.healed()


@row("F74", "one tenant has 20,000 jobs waiting: another's forty take three times as long at most", load=False,
     tenants=("noisy", "quiet"), upstream={"concurrency": 16})
def noisy_tenant(run):
    noisy, quiet = (run.stack.api(run.keys[tenant]) for tenant in ("noisy", "quiet"))

    def forty_jobs():
        begin = time.monotonic()
        for one in [quiet.submit(chat(user="sim:delay_ms=100"))["id"] for _ in range(40)]:
            assert quiet.finish(one)["status"] == "succeeded"
        return time.monotonic() - begin

    alone = sorted(forty_jobs() for _ in range(5))[2]
    line = json.dumps({"endpoint": "/v1/chat/completions", "body": chat(user="sim:delay_ms=100")}) + "\n"
    for _ in range(2):
        status, _, data = noisy.request("POST", "/v1/jobs/bulk", line * 10000, {"Content-Type": "application/x-ndjson"},
                                        120)
        assert status == 200 and data.count(b'"id"') == 10000
    beside = sorted(forty_jobs() for _ in range(5))[2]
    assert noisy.json("GET", "/v1/jobs?status=queued&limit=1", expect=200)["data"], "the crowd was gone already"
    assert beside <= 3 * alone, (alone, beside)


@row("F87", "an API key is replaced while it is in use: the new one works within 5 s, the old one no longer", load=False,
     tenants=("alice",))
def key_replaced(run):
    path = run.stack.folder / "keys.yaml"
    old = json.loads(run.stack.cli("keys", "ls", "--keys-file", path, "--json").stdout)["id"]
    new = json.loads(run.stack.cli("keys", "add", "alice", "--keys-file", path, "--json").stdout)["key"]
    eventually(lambda: Api(run.stack.origin, new).request("GET", "/v1/jobs")[0] == 200, 5, "the new key works")
    run.stack.cli("keys", "remove", old, "--keys-file", path)
    eventually(lambda: Api(run.stack.origin, run.keys["alice"]).request("GET", "/v1/jobs")[0] == 401, 5, "the old has gone")

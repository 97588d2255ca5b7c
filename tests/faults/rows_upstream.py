"""Rows E: upstreams that refuse, break, lie, stall or flood."""

import contextlib
import gzip
import json
import ssl
import warnings

from tests.faults.matrix import memory_mib, prove, row
from tests.harness.scripted import Scripted, certificate, chunked, http
from tests.harness.stack import chat, eventually

QUICK = {"first_byte_timeout_ms": 1500, "idle_timeout_ms": 1500, "health": ""}


def answer(text="fine"):
    return json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()


@contextlib.contextmanager
def scripted(run, scripts, config=None, **more):
    """One upstream a script, each for the model of its name; gives the servers by name once a pool that knows them runs.

    more: keys of every upstream; tls: a dict of contexts by name."""
    tls = more.pop("tls", {})
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(Scripted(script, tls.get(name))) for name, script in scripts.items()}
        worker = run.stack.add_worker({"upstreams": [server.upstream(name, f"odd-{name}", **{**QUICK, **more})
                                                     for name, server in servers.items()],
                                       "worker": {"processes": 1, "lease_ms": 3000, **(config or {})}})
        yield servers
        assert worker.stop() == 0
        run.stack.workers.remove(worker)


def send(api, name, **fields):
    return api.submit(chat(model=f"odd-{name}"), **fields)["id"]


@row("F51", "429 with Retry-After 1 s, nonsense, or none; and with an hour", sims=2)
def too_many_requests(run):
    sim = run.stack.sim
    for wait in ("1", "soon", None):
        sim.control(status=429, retry_after=wait)
        run.hold(0.3)
        before = sim.stats()["requests"]
        run.hold(1.5)
        asked = sim.stats()["requests"] - before
        assert asked <= 40, (wait, asked)
        sim.control(status=None, retry_after=None)
        run.hold(0.7)
    sim.control(status=429, retry_after="3600")

    def is_waited_for():
        """After each child has been told, nobody asks again."""
        asked = sim.stats()["requests"]
        run.hold(3)
        return sim.stats()["requests"] == asked
    told = sim.stats()["requests"]
    eventually(lambda: sim.stats()["requests"] > told, 10, "it is asked")
    eventually(is_waited_for, 9, "the hour is waited for")
    sim.control(status=None, retry_after=None)
    run.healed()


@row("F52", "every second call fails with 500, for 8 s", jobs=3200)
def half_fails(run):
    run.stack.sim.control(fail_rate=0.5)
    run.hold(8)
    run.stack.sim.control(fail_rate=0)
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(120)
    nonces = run.stack.sim.nonces()
    assert sum(nonces.values()) <= 2 * len(nonces), "retries amplify"


@row("F53", "the upstream takes calls and never answers, for 3 s", smoke=True, upstream=QUICK)
def never_answers(run):
    run.stack.sim.control(never=True)
    run.hold(3)
    run.stack.sim.control(never=False)
    run.healed()


@row("F55", "the upstream answers with bytes that are not HTTP, or with HTTP/0.9", load=False)
def not_http(run):
    with scripted(run, {"noise": lambda *_: [bytes(range(128, 256)) * 20], "old": lambda *_: [answer()]}) as servers:
        api = run.stack.api()
        for name in servers:
            job = api.finish(send(api, name, max_attempts=2), 60)
            assert job["status"] == "failed" and len(job["attempts"]) == 2, job


@row("F56", "answers that are cut: after the head, in a chunk, short of their length", smoke=True, jobs=3000)
def truncated(run):
    for fault in ({"drop": "after_headers"}, {"drop": "mid_body"}, {"drop": "mid_body", "chunked": True},
                  {"short_length": True}, {"drop": "reset"}):
        run.stack.sim.control(**fault)
        run.hold(0.8)
        run.stack.sim.control(reset=True)
        run.hold(0.4)
    run.healed()


def endless(piece):
    while True:
        yield piece


@row("F57", "an answer without end, a head without end, 10 GB promised", load=False)
def floods(run):
    block = b"x" * 65536
    scripts = {
        "chunks": lambda *_: chunked(endless(block)),
        "length": lambda *_: (piece for part in ([b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                                  b"Content-Length: 10000000000\r\n\r\n"], endless(block))
                              for piece in part),
        "head": lambda *_: (piece for part in ([b"HTTP/1.1 200 OK\r\nX-Long: "], endless(block)) for piece in part),
        "heads": lambda *_: (piece for part in ([b"HTTP/1.1 200 OK\r\n"], endless(b"X-A: b\r\n" * 1000))
                             for piece in part),
    }
    with scripted(run, scripts, {"response_bytes_max": 1 << 20}) as servers:
        child = run.stack.workers[-1].children()[0]
        before, api = memory_mib(child), run.stack.api()
        for name, server in servers.items():
            job = api.finish(send(api, name, max_attempts=1), 30)
            assert job["status"] == "failed", (name, job)
            assert server.sent < 32 << 20, (name, server.sent)
        assert memory_mib(child) - before < 16, memory_mib(child) - before
        assert run.stack.workers[-1].children() == [child]


@row("F58", "200 MB packed into 200 KB", load=False)
def bomb(run):
    packed = gzip.compress(b'{"a":"' + b"0" * (200 << 20) + b'"}')
    with scripted(run, {"bomb": lambda *_: [http(packed, headers=["Content-Encoding: gzip"])]},
                  {"response_bytes_max": 1 << 20}):
        child = run.stack.workers[-1].children()[0]
        before, api = memory_mib(child), run.stack.api()
        job = api.finish(send(api, "bomb", max_attempts=1), 30)
        assert job["status"] == "failed", job
        assert memory_mib(child) - before < 16, memory_mib(child) - before
        assert run.stack.workers[-1].children() == [child]


@row("F59", "answers with bytes that are no UTF-8, half a surrogate pair, an escaped NUL", load=False)
def bad_text(run):
    fine = answer("TEXT")
    with scripted(run, {"bytes": lambda *_: [http(fine.replace(b"TEXT", b"\xff\xfe\xc0"))],
                        "half": lambda *_: [http(fine.replace(b"TEXT", b"\\ud800"))],
                        "nul": lambda *_: [http(fine.replace(b"TEXT", b"\\u0000"))]}) as servers:
        api = run.stack.api()
        for name in servers:
            job = api.finish(send(api, name, max_attempts=1), 30)
            status, _, data = api.result(job["id"])
            data.decode("utf-8")
            assert job["status"] == ("failed" if name == "bytes" else "succeeded"), job
            assert (status == 200) == (job["status"] == "succeeded")


@row("F60", "answers that are no JSON, of other types, or without what must be there", load=False)
def bad_json(run):
    bodies = {"broken": b'{"choices": [', "list": b"[]", "text": b'"fine"', "empty": b"", "nothing": b"{}",
              "types": b'{"id": 1, "choices": "none", "usage": []}', "two": answer() + answer(),
              "deep": b"[" * 100000 + b"]" * 100000}
    scripts = {name: lambda *_, body=body: [http(body)] for name, body in bodies.items()}
    with scripted(run, scripts) as servers:
        api = run.stack.api()
        for name in servers:
            job = api.finish(send(api, name, max_attempts=2), 60)
            assert job["status"] == "failed", (name, job)


@row("F61", "TLS not to be trusted: self-signed, another name, version 1.0, a handshake that stalls", load=False)
def bad_tls(run):
    tls = {"signed": certificate(run.stack.folder), "named": certificate(run.stack.folder, "other.test"),
           "stalled": "stall"}
    with contextlib.suppress(ssl.SSLError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = certificate(run.stack.folder, "old.test")
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.maximum_version = ssl.TLSVersion.TLSv1
        tls["old"] = old
    scripts = dict.fromkeys(tls, lambda *_: [http(answer())])
    with scripted(run, scripts, tls=tls, connect_timeout_ms=1500) as servers:
        api = run.stack.api()
        for name, server in servers.items():
            job = api.finish(send(api, name, max_attempts=2), 60)
            assert job["status"] == "failed", (name, job)
            assert server.connections >= 1 and not server.requests, (name, server.requests)


@row("F62", "kept connections are closed before the next answer begins: every call that is made is counted", smoke=True)
def reused_connection_dies(run):
    run.stack.sim.control(close_idle=True)
    run.hold(2)
    run.stack.sim.control(close_idle=False, drop_rate=0.2)
    run.hold(2)
    run.stack.sim.control(reset=True)
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(60)
    api = run.stack.api()
    executions = run.stack.sim.nonces()
    for entry in run.ledger.entries:
        if entry.outcome == "accepted" and executions[entry.nonce] > 1:
            job = api.job(entry.job_id)
            # A call that a kept connection ate goes again at once, once for each attempt.
            assert executions[entry.nonce] <= 2 * (len(job["attempts"]) + 1), (job, executions[entry.nonce])
    eventually(lambda: run.stack.metrics()["penstock_upstream_calls_total"] >= sum(executions.values()), 10,
               "each call was counted")
    prove(run.stack.metrics()["penstock_upstream_stale_total"] > 0, "no kept connection died under a call")


@row("F64", "an upstream redirects: nobody follows", load=False)
def redirects(run):
    with Scripted(lambda *_: [http(answer())]) as target:
        scripts = {f"r{code}": lambda *_, code=code: [http(b"", f"{code} Elsewhere", [f"Location: {target.origin}/v1/x"])]
                   for code in (301, 302, 303, 307, 308)}
        with scripted(run, scripts) as servers:
            api = run.stack.api()
            for name, server in servers.items():
                job = api.finish(send(api, name, max_attempts=3), 60)
                assert job["status"] == "failed", job
                assert len(server.requests) == 1, "a redirect is not tried again"
        assert target.connections == 0


def latency(run, first, last):
    """The 99th percentile of created to finished, of the jobs of this part of the load that have succeeded."""
    entries = run.ledger.entries
    ids = [entry.job_id for entry in entries[int(first * len(entries)):int(last * len(entries))] if entry.job_id]
    jobs = run.stack.api().json("POST", "/v1/jobs/query", {"ids": ids[:1000]}, expect=200)["data"]
    seconds = sorted(job["finished_at"] - job["created_at"] for job in jobs if job["status"] == "succeeded")
    return seconds[len(seconds) * 99 // 100]


@row("F65", "one of four upstreams fails every call for 6 s", sims=4, jobs=4000, recovery_max_s=30)
def one_of_four(run):
    bad = run.stack.sims[1]
    bad.control(fail_rate=1.0)
    run.hold(2)
    before = [sim.stats()["requests"] for sim in run.stack.sims]
    run.hold(4)
    calls = [sim.stats()["requests"] - old for sim, old in zip(run.stack.sims, before)]
    assert calls[1] <= 0.05 * sum(calls), calls
    calm, now = latency(run, 0.0, 0.19), latency(run, run.ledger.share_done() - 0.1, 1.0)
    assert now <= max(0.25, 2 * calm), (calm, now)
    bad.control(reset=True)
    run.healed()
    was = bad.stats()["requests"]
    eventually(lambda: bad.stats()["requests"] > was + 20, 25, "it is asked again")


@row("F66", "all upstreams are dead for 15 s", jobs=5000, recovery_max_s=60)
def all_dead(run):
    run.stack.sim.control(drop="before_headers")
    run.hold(3)
    before = run.stack.sim.stats()["requests"]
    run.hold(12)
    asked = run.stack.sim.stats()["requests"] - before
    assert 1 <= asked <= 2 * 12 + 2, asked
    run.stack.sim.control(reset=True)
    run.healed()

"""Rows D: the network between workers, Redis and upstreams."""

import os
import signal
import threading
import time

from tests.faults.matrix import row
from tests.harness import netns
from tests.harness.nameserver import NameServer
from tests.harness.stack import chat, eventually


@row("F44", "the link from a worker host to Redis is down for two leases, while another host works", proxied="worker",
     spared=True, delay_ms=200, jobs=3600)
def silent_cut(run):
    run.proxy.mode = "stall"
    run.hold(6.5)
    run.proxy.mode = "pass"
    run.healed()


@row("F46", "each piece between the processes and Redis comes 100 ms late", proxied="all", rate=60, jobs=900)
def slow_link(run):
    run.proxy.delay_s = 0.1
    run.hold(8)
    run.proxy.delay_s = 0.0
    run.healed()
    run.ledger.join()
    assert not run.ledger.drain(60)
    assert sum(run.stack.sim.nonces().values()) <= 1.02 * run.options["jobs"], "jobs ran twice: leases lapsed"


@row("F47", "connections to Redis are reset all the time for 8 s", proxied="all")
def resets(run):
    before, hit = run.proxy.accepted, 0
    end = time.monotonic() + 8
    while time.monotonic() < end:
        hit += run.proxy.reset_all()
        run.hold(0.25)
    tried = run.proxy.accepted - before
    assert hit >= 20 and tried <= 600, (hit, tried)
    run.stack.wait_ready(30)
    run.healed()


def far_worker(run, host, config=None):
    """A worker pool on the other host; Redis and upstreams answer it at our end of the link."""
    worker = run.stack.add_worker({"redis": {"url": f"redis://{host.near}:{run.stack.redis.port}"}, **(config or {})},
                                  prefix=host.prefix)
    eventually(worker.children, 10, "the far pool has children")
    return worker


def long_turns(run):
    """Turns of any worker's or broker's loop so far that took more than 50 ms."""
    rows = run.stack.metrics()
    return rows["penstock_loop_lag_seconds_count"] - rows['penstock_loop_lag_seconds_bucket{le="0.05"}']


# Options of a stack that another host can reach.
REACHABLE = {"redis_tcp": True, "redis_flags": ("--protected-mode", "no", "--bind", "*"), "listen": ("0.0.0.0:0",),
             "start_worker": False}


@row("F46b", "5 %, then 30 % of the packets to and from a worker host are lost", rate=60, jobs=900, needs=netns.why_no_loss,
     config={"worker": {"lease_ms": 15000}}, **REACHABLE)
def lossy_link(run):
    with netns.host() as host:
        port = run.stack.sim.origin.rsplit(":", 1)[1]
        upstreams = [{**run.stack.config["upstreams"][0], "base_url": f"http://{host.near}:{port}/v1"}]
        worker = far_worker(run, host, {"upstreams": upstreams})
        eventually(lambda: run.stack.sim.stats()["requests"] > 50, 20, "the far pool works")
        for percent in (5, 30):
            host.lose(percent)
            run.hold(5)
            assert host.lost() >= 10, host.lost()
        host.lose(0)
        run.healed()
        run.ledger.join()
        assert not run.ledger.drain(60)
        assert sum(run.stack.sim.nonces().values()) <= 1.02 * run.options["jobs"], "jobs ran twice: leases lapsed"
        assert worker.stop() == 0
        run.stack.workers.remove(worker)


@row("F49", "the name server is dead, says no, fails, is slow: only calls to that name wait", load=False,
     needs=netns.why_not, **REACHABLE)
def names_fail(run):
    with netns.host() as host, NameServer(host.near) as names, host.names_from(host.near):
        names.answer = host.near
        port = run.stack.sim.origin.rsplit(":", 1)[1]
        modes = ("silent", "nxdomain", "servfail", "slow")
        where = {"sim-model": host.near, **{f"sim-{mode}": f"{mode}.test" for mode in modes}}
        worker = far_worker(run, host, {"worker": {"processes": 1}, "upstreams": [
            {"name": model, "kind": "openai", "base_url": f"http://{name}:{port}/v1", "models": [model],
             "concurrency": 64, "health": ""} for model, name in where.items()]})
        api = run.stack.api()
        threads, turns = set(), long_turns(run)
        for mode in modes:
            names.mode, asked = mode, names.asked
            named = [api.submit(chat(model=f"sim-{mode}"), max_attempts=20)["id"] for _ in range(100)]
            for _ in range(10):
                begin = time.monotonic()
                assert api.finish(api.submit()["id"])["status"] == "succeeded"
                assert time.monotonic() - begin < 1.0, f"other calls wait for names ({mode})"
            threads.add(len(os.listdir(f"/proc/{worker.children()[0]}/task")))
            assert names.asked > asked
            names.mode = "right"
            ended = [api.finish(job, 90)["status"] for job in named]
            assert set(ended) == {"succeeded"}, (mode, ended)
        assert max(threads) <= 6 and max(threads) - min(threads) <= 1, threads
        run.hold(1.5)  # until every child has published its figures
        # Two may be the machine's, which others use too.
        assert long_turns(run) - turns <= 2, "turns of a loop took more than 50 ms"
        worker.stop()
        run.stack.workers.remove(worker)


@row("F50", "a worker host is lost with 200 calls in flight: they run elsewhere within 20 s", load=False,
     needs=netns.why_not, config={"worker": {"lease_ms": 15000}}, **REACHABLE)
def host_lost(run):
    with netns.host() as host:
        port = run.stack.sim.origin.rsplit(":", 1)[1]
        upstreams = [{**run.stack.config["upstreams"][0], "base_url": f"http://{host.near}:{port}/v1"}]
        worker = far_worker(run, host, {"upstreams": upstreams})
        api = run.stack.api()
        jobs = [api.submit(chat(user=f"sim:nonce=host-{index},delay_ms=4000"))["id"] for index in range(200)]
        eventually(lambda: run.stack.sim.stats()["in_flight"] == 200, 20, "200 calls are in flight")
        run.stack.add_worker()
        children = worker.children()
        host.cut()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        worker.kill()
        run.stack.workers.remove(worker)
        begin = time.monotonic()
        eventually(lambda: sum(count >= 2 for count in run.stack.sim.nonces().values()) == 200, 20, "all run again")
        run.recovered_s = time.monotonic() - begin
        assert {api.finish(job)["status"] for job in jobs} == {"succeeded"}

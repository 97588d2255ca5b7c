"""What workers promise: retries by class, time-outs, cancel, drain, reload, a second host, fairness between routes."""

import json
import os
import signal
import time

import pytest

from tests.harness.stack import SLOW, Stack, chat, eventually


def test_retry_until_it_succeeds(stack, api):
    body = chat(user="sim:status=503,fail_times=2,fail_key=r1,nonce=r1")
    done = api.finish(api.submit(body)["id"])
    assert done["status"] == "succeeded" and done["attempt"] == 2
    assert [attempt["error"]["code"] if attempt.get("error") else None for attempt in done["attempts"]][:2] \
        == ["upstream_overloaded"] * 2
    assert stack.sim.nonces()["r1"] == 3


def test_attempts_are_limited(stack, api):
    done = api.finish(api.submit(chat(user="sim:status=500,nonce=r2"), max_attempts=2)["id"])
    assert done["status"] == "failed" and done["error"]["code"] == "upstream_error"
    assert stack.sim.nonces()["r2"] == 2
    status, _, data = api.result(done["id"])
    assert status == 500 and json.loads(data)["error"]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_client_errors_fail_at_once(stack, api, status):
    done = api.finish(api.submit(chat(user=f"sim:status={status},nonce=c{status}"))["id"])
    assert done["status"] == "failed" and done["error"]["code"] == "upstream_rejected"
    assert stack.sim.nonces()[f"c{status}"] == 1


def test_retry_after_is_honoured(stack, api):
    body = chat(model="sim-retry-after", user="sim:status=429,fail_times=1,fail_key=ra,retry_after=1,nonce=ra")
    done = api.finish(api.submit(body)["id"])
    assert done["status"] == "succeeded"
    first, = [attempt for attempt in done["attempts"] if attempt.get("error")][:1]
    assert first["error"]["code"] == "rate_limited"
    assert done["finished_at"] - first["finished_at"] >= 0.95


@pytest.mark.parametrize("behaviour,code", [("drop=before_headers", "upstream_truncated"),
                                            ("drop=mid_body", "upstream_truncated"),
                                            ("bad_json=1", "upstream_malformed"),
                                            ("short_length=1", "upstream_truncated"),
                                            ("garbage=1", "upstream_malformed")])
def test_broken_answers_are_retried_then_failed(stack, api, behaviour, code):
    nonce = behaviour.split("=")[0] + behaviour.split("=")[1]
    done = api.finish(api.submit(chat(user=f"sim:{behaviour},nonce={nonce}"), max_attempts=2)["id"])
    assert done["status"] == "failed" and done["error"]["code"] == code, done["error"]
    assert done["attempt"] == 2
    # A kept connection that dies before the first byte is no failure: each attempt may repeat its call once.
    assert 2 <= stack.sim.nonces()[nonce] <= (4 if behaviour == "drop=before_headers" else 2)


def test_an_idle_worker_is_handed_what_comes(stack, api):
    for _ in range(5):
        eventually(lambda: stack.redis.cli("ZRANGE", "{0}:idle", 0, -1), 10, "a claim stands")
        job = api.submit(chat(user="sim:delay_ms=300"))
        assert api.job(job["id"])["status"] == "running", "it was started in the step that took it in"
        assert api.finish(job["id"])["status"] == "succeeded"


def test_pause_of_an_upstream(stack, api):
    name = stack.sim.name
    api.json("POST", f"/v1/upstreams/{name}/pause", expect=200)
    eventually(lambda: [u for u in api.json("GET", "/v1/upstreams")["data"] if u["name"] == name][0]["state"] == "paused",
               5, "the pause is seen")
    job = api.submit()
    assert api.job(job["id"], wait="700ms")["status"] == "queued"
    api.json("POST", f"/v1/upstreams/{name}/resume", expect=200)
    assert api.finish(job["id"])["status"] == "succeeded"


def test_models_are_listed(api):
    eventually(lambda: "sim-model" in {model["id"] for model in api.json("GET", "/v1/models", expect=200)["data"]}, 5,
               "the worker's models are listed")


def test_fleet_and_stats(stack, api):
    workers = eventually(lambda: api.json("GET", "/v1/workers", expect=200)["data"], 10, "a worker is listed")
    assert workers[0]["pid"] in stack.worker.children()
    queues = api.json("GET", "/v1/queues", expect=200)["data"]
    assert any(queue["route"] == "sim-model" for queue in queues), queues
    assert api.json("GET", "/v1/stats", expect=200)


def test_time_outs_of_the_upstream():
    with Stack(upstream={"first_byte_timeout_ms": 300, "idle_timeout_ms": 300}) as stack:
        api = stack.api()
        started = time.monotonic()
        short = api.finish(api.submit(chat(user="sim:drip=1,body_bytes=9000"), timeout_ms=200, max_attempts=1)["id"])
        assert short["error"]["code"] == "upstream_timeout" and time.monotonic() - started < 3 * SLOW
        never = api.submit(chat(user="sim:never=1"), max_attempts=1)
        drip = api.submit(chat(user="sim:drip=5,body_bytes=100000"), timeout_ms=1500, max_attempts=1)
        assert api.finish(never["id"])["error"]["code"] == "upstream_timeout"
        assert api.finish(drip["id"])["error"]["code"] == "upstream_timeout"


def test_response_limit():
    with Stack(config={"worker": {"response_bytes_max": 100000}}) as stack:
        api = stack.api()
        done = api.finish(api.submit(chat(user="sim:body_bytes=3000000"))["id"])
        assert done["status"] == "failed" and done["error"]["code"] == "upstream_too_large"


def test_a_burst_of_large_results_is_paid_once():
    """More bytes than wait for Redis at any other time, all at once: they are stored, not thrown away and asked for anew."""
    with Stack() as stack:
        api = stack.api()
        jobs = [api.submit(chat(user=f"sim:delay_ms=1500,body_bytes=2000000,nonce=b{i}"))["id"] for i in range(60)]
        eventually(lambda: stack.sim.stats()["in_flight"] == 60, 10, "all run at once")
        assert {api.finish(job)["status"] for job in jobs} == {"succeeded"}
        assert stack.sim.stats()["requests"] == 60


def test_drain_finishes_or_hands_back():
    with Stack(config={"worker": {"drain_timeout_ms": 1500}}) as stack:
        api = stack.api()
        short = api.submit(chat(user="sim:delay_ms=600,nonce=short"))
        long = api.submit(chat(user="sim:delay_ms=60000,nonce=long"))
        for job in (short, long):
            eventually(lambda job=job: api.job(job["id"])["status"] in ("running", "succeeded"), 10, "job runs")
        assert stack.worker.stop() == 0
        assert api.job(short["id"])["status"] == "succeeded"
        back = api.job(long["id"])
        assert back["status"] == "queued" and back["attempt"] == 0
        stack.sim.control(delay_ms=0)
        api.json("POST", f"/v1/jobs/{long['id']}/cancel", expect=200)


def test_second_host_takes_its_share_and_hands_back():
    with Stack(upstream={"concurrency": 20}) as stack:
        api = stack.api()
        api.json("POST", "/v1/queues/sim-model/pause", expect=200)
        jobs = [api.submit(chat(user="sim:delay_ms=150"))["id"] for _ in range(400)]
        api.json("POST", "/v1/queues/sim-model/resume", expect=200)
        eventually(lambda: stack.sim.stats()["in_flight"] >= 20, 10, "the first host is full")
        second = stack.add_worker()
        eventually(lambda: stack.sim.stats()["in_flight"] >= 30, 10, "the second host takes jobs")
        fleet = eventually(lambda: len(api.json("GET", "/v1/workers")["data"]) == 2 and api.json("GET", "/v1/workers"),
                           10, "both are listed")
        assert len({worker["pid"] for worker in fleet["data"]}) == 2
        assert second.stop() == 0
        for job in jobs:
            done = api.finish(job)
            assert done["status"] == "succeeded" and done["attempt"] == 0
        eventually(lambda: len(api.json("GET", "/v1/workers")["data"]) == 1, 20, "it has left")


def test_killed_child_jobs_run_again_soon():
    with Stack(children=2) as stack:
        api = stack.api()
        jobs = [api.submit(chat(user="sim:delay_ms=2000"))["id"] for _ in range(50)]
        eventually(lambda: stack.sim.stats()["in_flight"] >= 50, 10, "all run")
        before = stack.sim.stats()["requests"]
        for pid in stack.worker.children():
            os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        eventually(lambda: stack.sim.stats()["requests"] >= before + 50, 10, "they run again", 0.02)
        assert time.monotonic() - started < 1.0 * SLOW
        for job in jobs:
            assert api.finish(job)["status"] == "succeeded"


def test_stop_right_after_a_child_was_started():
    """A child that does not listen to signals yet is ended by the one that asks it to stop: that is no failure."""
    with Stack(children=1) as stack:
        first = stack.worker.children()
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: set(stack.worker.children()) - set(first), 10, "there is a new child", 0)
        assert stack.worker.stop() == 0


def test_reload_keeps_the_old_configuration_when_the_new_one_is_broken():
    with Stack() as stack:
        api = stack.api()
        good = stack.config_path().read_text()
        stack.config_path().write_text("listen: [broken")
        stack.worker.signal(signal.SIGHUP)
        eventually(lambda: "reload" in stack.worker.log(), 10, "the failed reload is logged")
        assert api.finish(api.submit()["id"])["status"] == "succeeded"
        config = json.loads(good)
        config["upstreams"][0]["models"].append("another-model")
        stack.config_path().write_text(json.dumps(config))
        job = api.submit(chat(model="another-model"))
        assert api.job(job["id"], wait="300ms")["status"] == "queued"
        stack.worker.signal(signal.SIGHUP)
        assert api.finish(job["id"])["status"] == "succeeded"


def test_one_saturated_route_does_not_block_another():
    with Stack(upstream={"concurrency": 4}, sims=2, config={}) as stack:
        config = json.loads(stack.config_path().read_text())
        config["upstreams"][0]["models"] = ["slow-model"]
        config["upstreams"][1]["models"] = ["fast-model"]
        stack.config_path().write_text(json.dumps(config))
        stack.worker.signal(signal.SIGHUP)
        api = stack.api()
        slow = [api.submit(chat(model="slow-model", user="sim:delay_ms=30000"))["id"] for _ in range(30)]
        eventually(lambda: stack.sims[0].stats()["in_flight"] == 4, 10, "slow route is full")
        fast = [api.submit(chat(model="fast-model"))["id"] for _ in range(30)]
        for job in fast:
            assert api.finish(job, 20)["status"] == "succeeded"
        for job in slow:
            api.json("POST", f"/v1/jobs/{job}/cancel", expect=200)


def test_alias_is_rewritten_for_the_upstream():
    with Stack(config={"aliases": {"default": "sim-model"}}) as stack:
        api = stack.api()
        done = api.finish(api.submit(chat(model="default"))["id"])
        assert done["status"] == "succeeded"
        assert json.loads(api.result(done["id"])[2])["model"] == "sim-model"


def test_fallback_to_the_next_tier():
    with Stack(sims=2) as stack:
        config = json.loads(stack.config_path().read_text())
        config["upstreams"][1]["tier"] = 1
        stack.config_path().write_text(json.dumps(config))
        stack.worker.signal(signal.SIGHUP)
        api = stack.api()
        api.finish(api.submit()["id"])
        stack.sims[0].kill()
        jobs = [api.submit()["id"] for _ in range(10)]
        for job in jobs:
            assert api.finish(job)["status"] == "succeeded"
        assert stack.sims[1].stats()["requests"] >= 10

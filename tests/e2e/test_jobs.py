"""The native API from submit to result, against a real Redis, real workers and the simulator."""

import json
import time

import pytest

from tests.harness.stack import SLOW, Stack, chat, embedding, eventually, http_call

JOB_KEYS = ["id", "object", "status", "endpoint", "model", "priority", "attempt", "max_attempts", "created_at",
            "started_at", "finished_at", "expires_at", "why", "position", "progress", "usage", "error", "metadata",
            "attempts", "result_url"]


def slow_job(api, ms=60000, **fields):
    job = api.submit(chat(user=f"sim:delay_ms={ms}"), **fields)
    eventually(lambda: api.job(job["id"])["status"] == "running", 10, "job runs")
    return job


def test_submit_run_poll(api):
    status, headers, data = api.request("POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "body": chat("hi"),
                                                             "metadata": {"k": "v"}})
    assert status == 202
    job = json.loads(data)
    assert headers["location"] == f"/v1/jobs/{job['id']}"
    assert headers["content-type"].startswith("application/json")
    assert [key for key in job if key in JOB_KEYS] == JOB_KEYS
    assert job["object"] == "job" and job["id"].startswith("job_") and len(job["id"]) == 38
    assert job["status"] in ("queued", "running", "succeeded")
    assert job["metadata"] == {"k": "v"} and job["model"] == "sim-model" and job["priority"] == "normal"
    assert abs(job["created_at"] - time.time()) < 60
    assert job["expires_at"] - job["created_at"] == pytest.approx(86400, abs=1)

    done = api.finish(job["id"])
    assert done["status"] == "succeeded" and done["error"] is None and done["why"] is None
    # Clocks of broker, Redis and worker, each rounded to ms (OFFSET_ROUND_TRIP_MS in queue_store.c).
    assert done["created_at"] <= done["started_at"] + 0.05 and done["started_at"] <= done["finished_at"] + 0.05
    assert done["usage"]["total_tokens"] > 0
    assert done["position"] is None

    status, headers, data = api.result(job["id"])
    assert status == 200 and headers["content-type"].startswith("application/json")
    answer = json.loads(data)
    assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["role"] == "assistant"


def test_result_is_what_the_upstream_said_byte_for_byte(stack, api):
    body = embedding("the same text", dimensions=16)
    done = api.finish(api.submit(body, endpoint="/v1/embeddings")["id"])
    status, _, data = api.result(done["id"])
    assert status == 200
    _, _, direct = http_call(stack.sim.origin, "POST", "/v1/embeddings", body)
    assert json.loads(data)["data"] == json.loads(direct)["data"]


def test_completions_endpoint(api):
    done = api.finish(api.submit({"model": "sim-model", "prompt": "once"}, endpoint="/v1/completions")["id"])
    assert done["status"] == "succeeded"
    assert json.loads(api.result(done["id"])[2])["object"] == "text_completion"


def test_wait_holds_until_the_end(api):
    started = time.monotonic()
    job = api.submit(chat(user="sim:delay_ms=400"))
    done = api.job(job["id"], wait="30s")
    assert done["status"] == "succeeded"
    assert 0.2 < time.monotonic() - started < 10 * SLOW


def test_wait_ends_when_the_time_is_up(api):
    job = slow_job(api)
    started = time.monotonic()
    assert api.job(job["id"], wait="300ms")["status"] == "running"
    assert 0.25 < time.monotonic() - started < 5 * SLOW
    api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)


def test_etag_answers_304(api):
    done = api.finish(api.submit()["id"])
    status, headers, _ = api.request("GET", f"/v1/jobs/{done['id']}")
    assert status == 200 and headers["etag"]
    status, again, data = api.request("GET", f"/v1/jobs/{done['id']}", headers={"If-None-Match": headers["etag"]})
    assert status == 304 and data == b"" and again["etag"] == headers["etag"]
    assert api.request("GET", f"/v1/jobs/{done['id']}", headers={"If-None-Match": '"other"'})[0] == 200


def test_result_while_running_is_202(api):
    job = slow_job(api)
    status, headers, _ = api.result(job["id"])
    assert status == 202 and int(headers["retry-after"]) >= 1
    api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)
    status, _, data = api.result(job["id"])
    assert status == 422 and json.loads(data)["code"] == "cancelled"


def job_at_upstream(stack, api, nonce):
    """running says that a worker claimed it; its call may still be on the way."""
    job = api.submit(chat(user=f"sim:delay_ms=60000,nonce={nonce}"))
    eventually(lambda: nonce in stack.sim.nonces(), 10, "the upstream has the call")
    return job


def test_cancel_running_aborts_the_upstream_call(stack, api):
    seconds = []
    for turn in range(3):
        before = stack.sim.stats()["cancelled"]
        job = job_at_upstream(stack, api, f"cancel-running-{turn}")
        started = time.monotonic()
        cancelled = api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)
        assert cancelled["status"] == "cancelled" and cancelled["finished_at"]
        eventually(lambda before=before: stack.sim.stats()["cancelled"] > before, 5, "upstream call is aborted", 0.002)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.5 * SLOW, seconds
    again = api.json("POST", f"/v1/jobs/{job['id']}/cancel")
    assert api.job(job["id"])["status"] == "cancelled", again


def test_cancel_whose_notice_is_lost_aborts_the_upstream_call(stack, api):
    before = stack.sim.stats()["cancelled"]
    job = job_at_upstream(stack, api, "cancel-unheard")
    stack.redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
    assert api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)["status"] == "cancelled"
    # Leases are renewed every 5 s, and at once when the worker listens again.
    eventually(lambda: stack.sim.stats()["cancelled"] > before, 5, "upstream call is aborted")


def test_cancel_scheduled_never_runs(stack, api):
    job = api.submit(chat(user="sim:nonce=never-run"), delay_ms=600)
    assert job["status"] == "scheduled"
    assert api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)["status"] == "cancelled"
    other = api.submit(delay_ms=900)
    assert api.finish(other["id"])["status"] == "succeeded"
    assert "never-run" not in stack.sim.nonces()


def test_delay_is_kept(api):
    job = api.submit(delay_ms=700)
    assert job["status"] == "scheduled" and job["started_at"] is None
    done = api.finish(job["id"])
    assert done["status"] == "succeeded"
    assert 0.65 <= done["started_at"] - done["created_at"] < 5 * SLOW


def test_expires_while_running(api):
    job = api.submit(chat(user="sim:delay_ms=60000"), expires_in_ms=700)
    done = api.finish(job["id"])
    assert done["status"] == "expired" and done["error"]["code"]
    assert done["finished_at"] - done["created_at"] < 6 * SLOW


def test_query_many(api):
    jobs = [api.submit()["id"] for _ in range(20)]
    for job in jobs:
        api.finish(job)
    unknown = "job_" + "0" * 34
    page = api.json("POST", "/v1/jobs/query", {"ids": [*jobs, unknown]}, expect=200)
    assert page["object"] == "list"
    assert [job["id"] for job in page["data"]] == jobs
    assert {job["status"] for job in page["data"]} == {"succeeded"}
    assert api.json("POST", "/v1/jobs/query", {"ids": [unknown] * 1001})["status"] == 400


def test_query_with_results(api):
    """Small results come along byte for byte; null where there is none, or a large one: result_url has that."""
    small, large = api.submit()["id"], api.submit(chat(user="sim:body_bytes=20000"))["id"]
    failed, forgotten = api.submit(chat(user="sim:fail_times=99,status=400"))["id"], api.submit()["id"]
    waiting = api.submit(chat(user="sim:delay_ms=60000"))["id"]
    ids = [small, large, failed, forgotten]
    assert [api.finish(job)["status"] for job in ids] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert api.request("DELETE", f"/v1/jobs/{forgotten}")[0] in (200, 204)
    status, _, data = api.request("POST", "/v1/jobs/query", json.dumps({"ids": [*ids, waiting], "results": True}),
                                  {"Content-Type": "application/json"})
    rows = json.loads(data)["data"]
    assert status == 200 and [row["id"] for row in rows] == [*ids, waiting]
    result = api.request("GET", f"/v1/jobs/{small}/result")[2]
    assert b',"result":' + result + b"}" in data and rows[0]["result"] == json.loads(result)
    assert [row["result"] for row in rows[1:]] == [None] * 4
    assert all("result" not in row for row in api.json("POST", "/v1/jobs/query", {"ids": ids, "results": False}, expect=200)["data"])
    for wrong in ("yes", 1, None, []):
        problem = api.json("POST", "/v1/jobs/query", {"ids": ids, "results": wrong}, expect=400)
        assert "results" in problem["detail"], problem
    api.json("POST", f"/v1/jobs/{waiting}/cancel")


def test_query_brings_results_up_to_its_limit(api):
    """8 MiB of results in an answer; those beyond are left at their own address."""
    lines = "".join(json.dumps({"endpoint": "/v1/chat/completions", "body": chat(user="sim:body_bytes=12000")}) + "\n"
                    for _ in range(1000))
    status, _, data = api.request("POST", "/v1/jobs/bulk", lines, {"Content-Type": "application/x-ndjson"})
    ids = [json.loads(line)["id"] for line in data.splitlines()]
    assert status == 200 and len(ids) == 1000
    for job in ids:
        api.finish(job)
    rows = api.json("POST", "/v1/jobs/query", {"ids": ids, "results": True}, expect=200)["data"]
    sizes = [len(json.dumps(row["result"])) for row in rows if row["result"]]
    assert [row["id"] for row in rows] == ids and 600 < len(sizes) < 705 and sum(sizes) < 8.1 * 2**20, (len(sizes), sum(sizes))


def test_list_is_newest_first_and_pages(api):
    jobs = [api.submit(metadata={"batch": "list"})["id"] for _ in range(25)]
    for job in jobs:
        api.finish(job)
    seen, after = [], None
    while True:
        page = api.json("GET", "/v1/jobs?limit=10" + (f"&after={after}" if after else ""), expect=200)
        assert page["object"] == "list" and len(page["data"]) <= 10
        seen += page["data"]
        if not page["has_more"] or len(seen) > 400:
            break
        after = page["next_after"]
    ids = [job["id"] for job in seen]
    assert len(set(ids)) == len(ids)
    assert set(jobs) <= set(ids)
    created = [job["created_at"] for job in seen]
    assert created == sorted(created, reverse=True)
    only = api.json("GET", "/v1/jobs?status=succeeded&model=sim-model&limit=100", expect=200)["data"]
    assert only and all(job["status"] == "succeeded" and job["model"] == "sim-model" for job in only)
    assert api.json("GET", "/v1/jobs?model=nobody", expect=200)["data"] == []
    assert api.json("GET", "/v1/jobs?status=strange")["status"] == 400


def test_retry_makes_a_new_job(api):
    job = slow_job(api)
    status, _, data = api.request("POST", f"/v1/jobs/{job['id']}/retry")
    assert status == 409, data
    api.json("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)
    failed = api.finish(api.submit(chat(user="sim:status=400,nonce=retry-me"))["id"])
    assert failed["status"] == "failed"
    status, headers, data = api.request("POST", f"/v1/jobs/{failed['id']}/retry")
    again = json.loads(data)
    assert status == 202 and again["retry_of"] == failed["id"] and again["id"] != failed["id"]
    assert headers["location"] == f"/v1/jobs/{again['id']}"
    assert api.finish(again["id"])["status"] == "failed"
    assert api.job(failed["id"])["status"] == "failed"


def test_delete_forgets_the_result(api):
    done = api.finish(api.submit()["id"])
    assert api.request("DELETE", f"/v1/jobs/{done['id']}")[0] in (200, 204)
    assert api.result(done["id"])[0] == 410
    running = slow_job(api)
    assert api.request("DELETE", f"/v1/jobs/{running['id']}")[0] == 409
    api.json("POST", f"/v1/jobs/{running['id']}/cancel", expect=200)


def test_failed_job_gives_the_upstreams_answer(api):
    done = api.finish(api.submit(chat(user="sim:status=400"))["id"])
    assert done["status"] == "failed" and done["error"]["code"] == "upstream_rejected"
    status, _, data = api.result(done["id"])
    assert status == 400 and "error" in json.loads(data)


def test_idempotency_key(api):
    body = {"endpoint": "/v1/chat/completions", "body": chat("once")}
    status, headers, data = api.request("POST", "/v1/jobs", body, {"Idempotency-Key": "one-key"})
    assert status == 202 and "idempotent-replayed" not in headers
    first = json.loads(data)["id"]
    status, headers, data = api.request("POST", "/v1/jobs", body, {"Idempotency-Key": '"one-key"'})
    assert json.loads(data)["id"] == first and headers["idempotent-replayed"] == "true"
    assert json.loads(api.request("POST", "/v1/jobs", {**body, "idempotency_key": "one-key"})[2])["id"] == first
    other = {"endpoint": "/v1/chat/completions", "body": chat("twice")}
    status, _, data = api.request("POST", "/v1/jobs", other, {"Idempotency-Key": "one-key"})
    assert status == 422 and json.loads(data)["code"] == "idempotency_mismatch"


def test_large_bodies_and_results_go_in_pieces(api):
    big = "x" * 700_000
    done = api.finish(api.submit(chat(big, user="sim:body_bytes=900000"))["id"])
    assert done["status"] == "succeeded", done
    status, _, data = api.result(done["id"])
    assert status == 200 and len(data) >= 900_000
    json.loads(data)


def test_bulk_answers_line_by_line(api):
    lines = [json.dumps({"endpoint": "/v1/chat/completions", "body": chat(f"line {i}")}) for i in range(50)]
    lines[7] = "{not json"
    lines[9] = json.dumps({"endpoint": "/v1/chat/completions", "body": {"messages": []}})
    status, headers, data = api.request("POST", "/v1/jobs/bulk", "\n".join(lines) + "\n",
                                        {"Content-Type": "application/x-ndjson", "Idempotency-Key": "bulk-1"})
    assert status == 200 and "ndjson" in headers["content-type"]
    answers = [json.loads(line) for line in data.decode().splitlines()]
    assert [answer["line"] for answer in answers] == list(range(1, 51))
    assert set(answers[7]) == {"line", "error"} and set(answers[9]["error"]) >= {"code", "message", "param"}
    assert answers[9]["error"]["param"] == "body.model"
    ids = [answer.get("id") for answer in answers]
    for job in filter(None, ids):
        assert api.finish(job)["status"] == "succeeded"
    _, _, data = api.request("POST", "/v1/jobs/bulk", "\n".join(lines),
                             {"Content-Type": "application/x-ndjson", "Idempotency-Key": "bulk-1"})
    assert [json.loads(line).get("id") for line in data.decode().splitlines()] == ids


def test_paused_route_keeps_jobs_waiting(stack):
    """Jobs of all classes wait while their route is paused, say so, and all run afterwards."""
    api = stack.api()
    route = "sim-priority"
    api.json("POST", f"/v1/queues/{route}/pause", expect=200)
    waiting = {name: [api.submit(chat(model=route), priority=name)["id"] for _ in range(5)]
               for name in ("low", "normal", "high")}
    assert {api.job(job)["status"] for job in waiting["high"]} == {"queued"}
    eventually(lambda: "paused" in (api.job(waiting["high"][0])["why"] or ""), 5, "why says paused")
    api.json("POST", f"/v1/queues/{route}/resume", expect=200)
    done = {name: [api.finish(job) for job in jobs] for name, jobs in waiting.items()}
    assert all(job["status"] == "succeeded" for jobs in done.values() for job in jobs)
    api.close()


def test_priority_high_overtakes():
    """With one call at a time, a high job that comes last runs before the normal and low ones that wait."""
    with Stack(upstream={"concurrency": 1}) as stack:
        api = stack.api()
        first = api.submit(chat(user="sim:delay_ms=60000"))
        eventually(lambda: api.job(first["id"])["status"] == "running", 10, "the slot is taken")
        waiting = [api.submit(priority=name)["id"] for name in ("low", "normal", "high")]
        api.json("POST", f"/v1/jobs/{first['id']}/cancel", expect=200)
        started = [api.finish(job)["started_at"] for job in waiting]
        assert started == sorted(started, reverse=True)

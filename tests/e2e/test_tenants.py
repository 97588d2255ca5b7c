"""Keys, roles and quotas: a tenant sees its own jobs only, an admin sees all, limits answer 429."""

import json

import pytest

from tests.harness.stack import Stack, chat, eventually


@pytest.fixture(scope="module")
def secured():
    stack = Stack(config={"auth": {"mode": "keys", "keys_file": "keys.yaml"}})
    path = stack.folder / "keys.yaml"
    stack._config["auth"]["keys_file"] = str(path)
    stack.keys = {}
    for name, flags in (("alice", []), ("bob", []), ("root", ["--admin"]), ("small", ["--jobs-max", "5"]),
                        ("tiny", ["--bytes-max", "20000"])):
        done = stack.cli("keys", "add", name, "--keys-file", path, "--json", *flags)
        stack.keys[name] = json.loads(done.stdout)["key"]
    with stack:
        yield stack


def test_no_key_no_answer(secured):
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic x"}, {"x-api-key": "pk_x"}):
        for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/nothing"), ("PUT", "/v1/jobs")):
            status, answer, _ = secured.api().request(method, path, headers=headers)
            assert status == 401 and "bearer" in answer["www-authenticate"].lower(), (headers, method, path)
    assert secured.api().request("GET", "/healthz")[0] == 200
    assert secured.api().request("GET", "/readyz")[0] == 200
    status, _, data = secured.api().request("POST", "/v1/chat/completions", chat())
    assert status == 401 and json.loads(data)["error"]["code"] == "invalid_api_key"
    assert secured.api().request("GET", f"/v1/jobs?api_key={secured.keys['alice']}")[0] == 401


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key"])
def test_three_ways_to_give_a_key(secured, header):
    value = secured.keys["alice"]
    headers = {header: f"Bearer {value}" if header == "Authorization" else value}
    assert secured.api().request("GET", "/v1/jobs", headers=headers)[0] == 200


def test_tenants_do_not_see_each_other(secured):
    alice, bob, root = (secured.api(secured.keys[name]) for name in ("alice", "bob", "root"))
    mine = alice.finish(alice.submit()["id"])["id"]
    unknown = "job_" + mine[4:6] + "0" * 32
    for method, path in (("GET", "/v1/jobs/{}"), ("GET", "/v1/jobs/{}/result"), ("GET", "/v1/jobs/{}/events"),
                         ("POST", "/v1/jobs/{}/cancel"), ("POST", "/v1/jobs/{}/retry"), ("DELETE", "/v1/jobs/{}")):
        foreign = bob.request(method, path.format(mine), headers={"X-Request-Id": "same"})
        absent = bob.request(method, path.format(unknown), headers={"X-Request-Id": "same"})
        assert foreign[0] == absent[0] == 404
        assert foreign[2].replace(mine.encode(), b"") == absent[2].replace(unknown.encode(), b"")
    assert mine not in [job["id"] for job in bob.json("GET", "/v1/jobs", expect=200)["data"]]
    assert bob.json("POST", "/v1/jobs/query", {"ids": [mine]}, expect=200)["data"] == []
    assert root.job(mine)["status"] == "succeeded"
    assert mine in [job["id"] for job in root.json("GET", "/v1/jobs?tenant=alice", expect=200)["data"]]
    assert bob.request("GET", "/v1/jobs?tenant=alice")[0] == 403


def test_what_an_admin_retries_stays_its_tenants(secured):
    alice, root = secured.api(secured.keys["alice"]), secured.api(secured.keys["root"])
    failed = alice.finish(alice.submit(chat(user="sim:status=400"))["id"])
    again = root.json("POST", f"/v1/jobs/{failed['id']}/retry", expect=202)
    assert again["tenant"] == "alice" and again["retry_of"] == failed["id"]
    assert alice.finish(again["id"])["status"] == "failed"
    assert again["id"] in [job["id"] for job in alice.json("GET", "/v1/jobs", expect=200)["data"]]


def test_same_idempotency_key_of_two_tenants_is_two_jobs(secured):
    ids = {secured.api(secured.keys[name]).json("POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "body": chat(),
                                                                      "idempotency_key": "shared"}, expect=202)["id"]
           for name in ("alice", "bob")}
    assert len(ids) == 2


@pytest.mark.parametrize("method,path", [("POST", "/v1/queues/sim-model/pause"), ("POST", "/v1/upstreams/sim0/pause"),
                                         ("GET", "/v1/upstreams"), ("GET", "/v1/workers")])
def test_admin_only(secured, method, path):
    assert secured.api(secured.keys["alice"]).request(method, path)[0] == 403


def test_job_quota(secured):
    root, small = secured.api(secured.keys["root"]), secured.api(secured.keys["small"])
    root.json("POST", "/v1/queues/sim-quota/pause", expect=200)
    body = {"endpoint": "/v1/chat/completions", "body": chat(model="sim-quota")}
    answers = [small.request("POST", "/v1/jobs", body) for _ in range(12)]
    accepted = [json.loads(data)["id"] for status, _, data in answers if status == 202]
    refused = [(headers, json.loads(data)) for status, headers, data in answers if status == 429]
    assert len(accepted) == 5 and len(refused) == 7
    assert int(refused[0][0]["retry-after"]) >= 1 and refused[0][1]["code"]
    assert secured.api(secured.keys["alice"]).request("POST", "/v1/jobs", body)[0] == 202
    root.json("POST", "/v1/queues/sim-quota/resume", expect=200)
    for job in accepted:
        assert small.finish(job)["status"] == "succeeded"
    eventually(lambda: small.request("POST", "/v1/jobs", body)[0] == 202, 10, "there is room again")


def test_byte_quota(secured):
    root, tiny = secured.api(secured.keys["root"]), secured.api(secured.keys["tiny"])
    root.json("POST", "/v1/queues/sim-bytes/pause", expect=200)
    body = {"endpoint": "/v1/chat/completions", "body": chat("x" * 9000, model="sim-bytes")}
    statuses = [tiny.request("POST", "/v1/jobs", body)[0] for _ in range(6)]
    assert statuses.count(202) == 2 and statuses.count(429) == 4
    root.json("POST", "/v1/queues/sim-bytes/resume", expect=200)


def test_a_revoked_key_stops_working_soon(secured):
    path = secured.folder / "keys.yaml"
    done = json.loads(secured.cli("keys", "add", "shortlived", "--keys-file", path, "--json").stdout)
    api = secured.api(done["key"])
    eventually(lambda: api.request("GET", "/v1/jobs")[0] == 200, 5, "the new key works", 0.2)
    secured.cli("keys", "remove", done["id"], "--keys-file", path)
    eventually(lambda: api.request("GET", "/v1/jobs")[0] == 401, 5, "the removed key is refused", 0.2)


def test_no_secret_in_redis_or_logs(secured):
    dump = secured.folder / "dump.rdb"
    secured.redis.cli("SAVE")
    texts = [dump.read_bytes()] + [path.read_bytes() for path in secured.folder.glob("*.log")]
    texts.append((secured.folder / "keys.yaml").read_bytes())
    for key in secured.keys.values():
        assert not any(key.encode() in text or key.split("_")[-1].encode() in text for text in texts)

"""docs/openapi.yaml and the running server say the same: every call of the document is made, with every answer that can be
provoked, and each answer is held against the document; every route of the server is documented."""

import json
import re
import threading

import openapi_spec_validator
import pytest

from tests.harness.openapi import Document
from tests.harness.stack import ROOT, Stack, chat, embedding, eventually

BODY_MAX = 65536
JOBS, JOB, RESULT, EVENTS = "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/result", "/v1/jobs/{id}/events"
BULK, QUERY, CANCEL, RETRY = "/v1/jobs/bulk", "/v1/jobs/query", "/v1/jobs/{id}/cancel", "/v1/jobs/{id}/retry"
CALLS = {"/v1/chat/completions": chat, "/v1/completions": lambda **more: {"model": "sim-model", "prompt": "hello", **more},
         "/v1/embeddings": embedding}
DOCUMENT = Document()


def secured(**more):
    """A stack with keys of several kinds in stack.keys."""
    stack = Stack(config={"auth": {"mode": "keys"}, "broker": {"body_bytes_max": BODY_MAX}}, **more)
    path = stack.folder / "keys.yaml"
    stack._config["auth"]["keys_file"] = str(path)
    stack.keys = {}
    for name, flags in (("root", ["--admin"]), ("alice", []), ("hasty", ["--requests-per-second", "1"]),
                        ("limited", ["--jobs-max", "1000"])):
        done = stack.cli("keys", "add", name, "--keys-file", path, "--json", *flags)
        stack.keys[name] = json.loads(done.stdout)["key"]
    return stack


class World:
    """Makes requests and holds every answer against the document."""

    def __init__(self, stack):
        self.stack = stack
        self.counter = 0

    def call(self, method, target, body=None, headers=None, key="root"):
        api = self.stack.api(self.stack.keys.get(key))
        status, answer_headers, data = api.request(method, target, body, headers)
        api.close()
        found = DOCUMENT.check(method, target, status, answer_headers, data)
        return found, status, answer_headers, data

    def nonce(self):
        self.counter += 1
        return f"n{self.counter}"

    def job(self, body=None, **fields):
        _, status, _, data = self.call("POST", JOBS, {"endpoint": "/v1/chat/completions", "body": body or chat(), **fields})
        assert status == 202
        return json.loads(data)["id"]

    def waiting(self):
        return self.job(delay_ms=600_000)

    def ended(self, how=""):
        """The id of a job that has ended; how: what the simulator does."""
        job = self.job(chat(user=f"sim:{how},nonce={self.nonce()}") if how else None)
        _, _, _, data = self.call("GET", f"{JOBS}/{job}?wait=60s")
        assert json.loads(data)["finished_at"] is not None
        return job

    def forgotten(self, how=""):
        job = self.ended(how)
        assert self.call("DELETE", f"{JOBS}/{job}")[1] == 200
        return job

    def cancelled(self):
        job = self.waiting()
        assert self.call("POST", f"{JOBS}/{job}/cancel")[1] == 200
        return job


@pytest.fixture(scope="module")
def world():
    with secured() as stack:
        world = World(stack)
        eventually(lambda: world.call("GET", "/v1/models/sim-model")[1] == 200, 10, "a worker has told what it serves")
        yield world


# ---- good requests: what is called where nothing else is said -------------------------------------------------------------

def target_of(world, path):
    """The path with something real in its place."""
    if "{id}" in path:
        return path.replace("{id}", world.waiting())
    return path.replace("{route}", "sim-model").replace("{name}", "sim0").replace("{model}", "sim-model")


def body_of(method, path):
    if path in CALLS:
        return CALLS[path]()
    return {JOBS: {"endpoint": "/v1/chat/completions", "body": chat()},
            QUERY: {"ids": ["job_" + "0" * 34]},
            BULK: json.dumps({"endpoint": "/v1/embeddings", "body": embedding()}) + "\n"}.get(path) if method == "POST" else None


def good(world, method, path, headers=None, key="root", target=None):
    media = {"Content-Type": "application/x-ndjson"} if path == BULK else {}
    return world.call(method, target or target_of(world, path), body_of(method, path), {**media, **(headers or {})}, key)


# ---- how each answer is provoked ------------------------------------------------------------------------------------------

def bad_body(world, method, path):
    """Where a body is due one that is wrong; elsewhere any at all."""
    body = "no JSON" if DOCUMENT.tree["paths"][path][method.lower()].get("requestBody") else "a body"
    return world.call(method, target_of(world, path), body, {"Content-Type": "application/json"})


def unknown(world, method, path):
    text = path.replace("{id}", "job_" + "0" * 34).replace("{route}", "r" * 300).replace("{name}", "nobody")
    return world.call(method, text.replace("{model}", "nothing"))


def too_often(world, method, path):
    target = target_of(world, path)
    for _ in range(20):
        answer = good(world, method, path, key="hasty", target=target)
        if answer[1] == 429:
            break
    return answer


def mismatch(world, method, path):
    headers = {"Idempotency-Key": world.nonce()}
    good(world, method, path, headers)
    body = body_of(method, path)
    (body["body"] if path == JOBS else body)["user"] = "somebody else"
    return world.call(method, path, body, headers)


def cancelled_while_held(world, method, path):
    answers = []
    body = CALLS[path](user="sim:delay_ms=60000", model="sim-held")
    thread = threading.Thread(target=lambda: answers.append(world.call(method, path, body)))
    thread.start()
    held = eventually(lambda: json.loads(world.call("GET", JOBS + "?model=sim-held&status=running")[3])["data"], 10, "it runs")
    world.call("POST", f"{JOBS}/{held[0]['id']}/cancel")
    thread.join(60)
    return answers[0]


def result_is_gone(world, method, path):
    headers = {"Idempotency-Key": world.nonce()}
    _, _, answer, _ = good(world, method, path, headers)
    world.call("DELETE", f"{JOBS}/{answer['penstock-job-id']}")
    return good(world, method, path, headers)


def upstream_says(how, **headers):
    def provoke(world, method, path):
        return world.call(method, path, CALLS[path](user=f"sim:{how},nonce={world.nonce()}"), headers)
    return provoke


def on_job(kind, *how):
    """The call on a job of this kind."""
    def provoke(world, method, path):
        return world.call(method, path.replace("{id}", getattr(world, kind)(*how)))
    return provoke


def unchanged(world, method, path):
    target = f"{JOBS}/{world.ended()}"
    return world.call(method, target, headers={"If-None-Match": world.call(method, target)[2]["etag"]})


GENERAL = {
    "200": good,
    "202": good,
    "400": bad_body,
    "401": lambda world, method, path: good(world, method, path, key=None),
    "403": lambda world, method, path: good(world, method, path, key="alice"),
    "404": unknown,
    "413": lambda world, method, path: world.call(method, path, json.dumps({"x": "x" * BODY_MAX}),
                                                  {"Content-Type": "application/json"}),
    "415": lambda world, method, path: world.call(method, path, "x", {"Content-Type": "text/plain"}),
    "422": mismatch,
    "429": too_often,
}
SPECIAL = {
    ("GET", JOBS, "400"): lambda world, *_: world.call("GET", JOBS + "?limit=0"),
    ("GET", JOBS, "403"): lambda world, *_: world.call("GET", JOBS + "?tenant=root", key="alice"),
    ("POST", BULK, "400"): lambda world, *_: good(world, "POST", BULK, {"Idempotency-Key": "k" * 300}),
    ("GET", JOB, "304"): unchanged,
    ("GET", JOB, "400"): lambda world, *_: world.call("GET", f"{JOBS}/{world.waiting()}?wait=soon"),
    ("DELETE", JOB, "200"): on_job("ended"),
    ("DELETE", JOB, "409"): on_job("waiting"),
    ("GET", RESULT, "200"): on_job("ended"),
    ("GET", RESULT, "410"): on_job("forgotten"),
    ("GET", RESULT, "422"): on_job("cancelled"),
    ("GET", RESULT, "default"): on_job("ended", "status=400"),
    ("GET", EVENTS, "200"): on_job("ended"),
    ("GET", EVENTS, "400"): lambda world, *_: world.call("GET", f"{JOBS}/{world.waiting()}/events", headers={"Last-Event-ID": "x"}),
    ("POST", CANCEL, "409"): on_job("ended"),
    ("POST", RETRY, "202"): on_job("cancelled"),
    ("POST", RETRY, "409"): on_job("waiting"),
    ("POST", RETRY, "410"): on_job("forgotten", "status=400"),
}
for call_path in CALLS:
    SPECIAL |= {
        ("POST", call_path, "202"): lambda world, method, path: good(world, method, path, {"Prefer": "respond-async"}),
        ("POST", call_path, "404"): upstream_says("status=404"),
        ("POST", call_path, "409"): cancelled_while_held,
        ("POST", call_path, "410"): result_is_gone,
        ("POST", call_path, "502"): upstream_says("status=302"),  # not followed, not tried again
        ("POST", call_path, "504"): upstream_says("delay_ms=60000", **{"Penstock-Expires-Ms": "400"}),
        ("POST", call_path, "default"): upstream_says("status=418"),
    }
# What no request alone can provoke, and who looks at it instead.
ELSEWHERE = {
    "408": "a body slower than 30 s: tests/unit/broker/http/test_http_body.c",
    "500": "a damaged record: tests/unit/broker/api",
    ("POST", JOBS, "410"): "the first job of a key vanishes between two commands",
}


def documented(is_wanted):
    return [pytest.param(method, path, status, id=f"{method} {path} {status}")
            for method, path, operation in DOCUMENT.operations() for status in operation["responses"]
            if is_wanted(status) and status not in ELSEWHERE and (method, path, status) not in ELSEWHERE]


def test_the_document_is_valid():
    assert DOCUMENT.tree["openapi"].startswith("3.1")
    openapi_spec_validator.validate(DOCUMENT.tree)


@pytest.mark.parametrize("method,path,status", documented(lambda status: status != "503"))
def test_every_documented_answer(world, method, path, status):
    provoke = SPECIAL.get((method, path, status)) or GENERAL[status]
    found, *answer = provoke(world, method, path)
    assert found == status, answer


def test_good_bodies_fit_the_document():
    for method, path, operation in DOCUMENT.operations():
        if "requestBody" in operation and path != BULK:
            DOCUMENT.check_request(method, path, body_of(method, path))


def test_events_carry_what_is_documented(world):
    _, _, _, data = world.call("GET", f"{JOBS}/{world.ended()}/events")
    events = dict(re.findall(r"^event: (\w+)\ndata: (.*)$", data.decode(), re.MULTILINE))
    DOCUMENT.validate(json.loads(events["job"]), "components", "schemas", "Job")
    assert set(json.loads(events["done"])) == {"id", "status"}


# ---- without a store ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def outage():
    with secured(start_worker=False) as stack:
        world = World(stack)
        world.known = world.waiting()
        stack.redis.kill()
        eventually(lambda: world.call("GET", "/readyz")[1] == 503, 15, "not ready")
        yield world


@pytest.mark.parametrize("method,path,status", documented(lambda status: status == "503"))
def test_every_answer_without_a_store(outage, method, path, status):
    # Lines of a tenant without limits are refused one by one.
    key = "limited" if path == BULK else "root"
    target = path.replace("{id}", outage.known) if "{id}" in path else None
    found, _, headers, data = good(outage, method, path, key=key, target=target)
    assert found == status, data
    assert method == "HEAD" or int(headers["retry-after"]) >= 1


# ---- the other way round --------------------------------------------------------------------------------------------------

def server_routes():
    """(METHOD, path with {} for each variable) as the server's own table has them."""
    text = (ROOT / "broker" / "api" / "routes.c").read_text()
    rows = re.findall(r'\{"([A-Z]+)",\s*"(/[^"]*)",\s*ACCESS_(\w+)', text)
    assert len(rows) > 20
    return rows


def test_every_route_is_documented():
    def plain(path):
        return re.sub(r"\{[^}]*\}", "{}", path)
    documented_too = {(method, plain(path)) for method, path, _ in DOCUMENT.operations()}
    assert {(method, path) for method, path, _ in server_routes()} == documented_too


def test_access_is_documented():
    for method, path, operation in DOCUMENT.operations():
        access = next(access for m, p, access in server_routes() if (m, p) == (method, re.sub(r"\{[^}]*\}", "{}", path)))
        assert (operation.get("security") == []) == (access == "PUBLIC"), path
        assert "401" in operation["responses"] or access == "PUBLIC", path
        assert ("403" in operation["responses"]) == (access == "ADMIN" or (method, path) == ("GET", JOBS)), path


@pytest.mark.parametrize("path", list(DOCUMENT.tree["paths"]))
def test_other_methods_are_refused_by_name(world, path):
    allowed = {method for method, documented_path, _ in DOCUMENT.operations() if documented_path == path}
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
        api = world.stack.api(world.stack.keys["root"])
        status, headers, data = api.request(method, target_of(world, path))
        api.close()
        assert status == 405, (method, path, data)
        assert {word.strip() for word in headers["allow"].split(",")} == allowed
        if method != "HEAD" and path not in CALLS and not path.startswith("/v1/models"):
            DOCUMENT.validate(json.loads(data), "components", "schemas", "Problem")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/files", "/v1/uploads", "/v1/batches", "/v1/images/generations",
                                  "/v1/messages", "/v1/messages/batches"])
def test_what_is_not_built_is_not_documented(world, path):
    assert DOCUMENT.template(path) is None
    api = world.stack.api(world.stack.keys["root"])
    status, headers, data = api.request("POST", path, {})
    assert status == 404 and headers["x-should-retry"] == "false" and b"not supported" in data

"""Every bad input gets a clear answer that names the field, and nothing of it is stored."""

import json
import socket
import urllib.parse

import pytest

from tests.harness.stack import SLOW, chat


def post(api, body, content_type="application/json", path="/v1/jobs", headers=None):
    status, answer_headers, data = api.request("POST", path, body, {"Content-Type": content_type, **(headers or {})})
    return status, answer_headers, (json.loads(data) if data else None)


def job(**fields):
    return {"endpoint": "/v1/chat/completions", "body": chat(), **fields}


def without(key):
    whole = job()
    del whole[key]
    return whole


BAD_FIELDS = [
    (without("endpoint"), "endpoint"),
    (without("body"), "body"),
    (job(endpoint="/v1/nothing"), "endpoint"),
    (job(endpoint=5), "endpoint"),
    (job(body=[]), "body"),
    (job(body="x"), "body"),
    (job(body={"messages": []}), "body.model"),
    (job(body={"model": 7, "messages": []}), "body.model"),
    (job(body={"model": "", "messages": []}), "body.model"),
    (job(body={"model": "m" * 257, "messages": []}), "body.model"),
    (job(body={"model": "a\u0000b", "messages": []}), "body.model"),
    (job(priority="urgent"), "priority"),
    (job(priority=1), "priority"),
    (job(delay_ms=-1), "delay_ms"),
    (job(delay_ms=1.5), "delay_ms"),
    (job(delay_ms="1"), "delay_ms"),
    (job(expires_in_ms=0), "expires_in_ms"),
    (job(expires_in_ms=10**18), "expires_in_ms"),
    (job(max_attempts=0), "max_attempts"),
    (job(max_attempts=10**6), "max_attempts"),
    (job(timeout_ms=-5), "timeout_ms"),
    (job(metadata=[]), "metadata"),
    (job(metadata={"k": 1}), "metadata.k"),
    (job(metadata={f"k{i}": "v" for i in range(17)}), "metadata"),
    (job(metadata={"k": "v" * 513}), "metadata.k"),
    (job(metadata={"k" * 65: "v"}), "metadata"),
    (job(idempotency_key=""), "idempotency_key"),
    (job(idempotency_key="k" * 300), "idempotency_key"),
    (job(stream="yes"), "stream"),
    (job(surprise=1), "surprise"),
]


@pytest.mark.parametrize("body,param", BAD_FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_field_is_named(api, body, param):
    status, headers, answer = post(api, json.dumps(body))
    assert status == 400, answer
    assert headers["content-type"].startswith("application/problem+json")
    assert answer["status"] == 400 and answer["code"] and answer["detail"] and answer["title"]
    assert answer["param"].startswith(param), answer


BAD_JSON = [b"", b"{", b"{}}", b"[1,]", b"{'a':1}", b"nul", b"NaN", b'{"a":01}', b'{"a":1,"a":2}', b'\xef\xbb\xbf{}',
            b'{"a":"\xff"}', b'{"a\\u0000":1}', b"[" * 65 + b"]" * 65, b"[" * 100000, b'{"a":1e999999}',
            b'{"endpoint":"/v1/chat/completions","body":' + b"[" * 70 + b"]" * 70 + b"}"]


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: repr(text[:20]))
def test_malformed_json(api, text):
    status, _, answer = post(api, text)
    assert status == 400, answer
    assert answer["detail"]


def test_malformed_json_says_where(api):
    status, _, answer = post(api, b'{"endpoint": "x", "body": tru}')
    assert status == 400 and "byte" in answer["detail"]


@pytest.mark.parametrize("fields", [{"stream": True}, {"webhook": {"url": "https://example.test/x"}}])
def test_what_is_not_built_is_refused(api, fields):
    status, _, answer = post(api, json.dumps(job(**fields)))
    assert status == 400 and answer["code"] == "not_supported", answer


def test_content_types(api):
    text = json.dumps(job())
    assert post(api, text, "text/plain")[0] == 415
    assert post(api, text, "application/json; charset=utf-8")[0] == 202
    assert post(api, text, headers={"Content-Encoding": "gzip"})[0] == 415


def test_methods(api):
    status, headers, _ = api.request("PUT", "/v1/jobs", "{}", {"Content-Type": "application/json"})
    assert status == 405 and {"GET", "POST"} <= {word.strip() for word in headers["allow"].split(",")}
    status, headers, _ = api.request("DELETE", "/v1/stats")
    assert status == 405 and "GET" in headers["allow"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/job", "/v1/jobs/", "/v1/jobs/x/y", "/metrics", "/v2/jobs",
                                  "/v1/jobs/job_0", "/v1/jobs/job_" + "z" * 34, "/v1/jobs/job_" + "0" * 34,
                                  "/v1/jobs/..%2f..%2fetc", "/v1/jobs/%00"])
def test_unknown_paths_and_ids(api, path):
    assert api.request("GET", path)[0] == 404


def test_answers_to_unknown_ids_are_alike(api):
    texts = {api.request("GET", f"/v1/jobs/job_{'0' * 33}{end}")[2].replace(end.encode() + b'"', b'"') for end in "02468"}
    assert len({len(text) for text in texts}) == 1


def test_request_ids(api):
    _, headers, _ = api.request("GET", "/v1/jobs/job_x", headers={"X-Request-Id": "my-id_1.2"})
    assert headers["x-request-id"] == "my-id_1.2"
    for bad in ("a b", "x" * 100, "a\tb", "<script>"):
        _, headers, _ = api.request("GET", "/v1/jobs/job_x", headers={"X-Request-Id": bad})
        assert headers["x-request-id"] and headers["x-request-id"] != bad


def raw(stack, text, until_close=True):
    """Bytes as they are; what comes back until the server closes (or the first answer)."""
    parts = urllib.parse.urlsplit(stack.origin)
    with socket.create_connection((parts.hostname, parts.port), timeout=20 * SLOW) as sock:
        sock.sendall(text)
        answer = b""
        while True:
            piece = sock.recv(65536)
            answer += piece
            if not piece or (not until_close and b"\r\n\r\n" in answer):
                return answer


@pytest.mark.parametrize("text", [
    b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"GET /v1/jobs HTTP/1.1\r\n\r\n",
    b"garbage\r\n\r\n",
], ids=["both lengths", "two lengths", "negative", "huge", "no host", "garbage"])
def test_framing(stack, text):
    answer = raw(stack, text)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"413", b"501", b"505"), answer[:200]


def test_body_over_the_limit_is_refused_before_it_is_read(stack):
    head = (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 16777217\r\n\r\n")
    assert raw(stack, head, until_close=False).split(b" ")[1] == b"413"


def test_chunked_body_over_the_limit(stack):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    parts = urllib.parse.urlsplit(stack.origin)
    with socket.create_connection((parts.hostname, parts.port), timeout=20 * SLOW) as sock:
        sock.sendall(head)
        try:
            for _ in range(20):
                sock.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in sock.recv(4096)


def test_nothing_refused_is_stored(stack, api):
    before = {entry["id"] for entry in api.json("GET", "/v1/jobs?limit=100", expect=200)["data"]}
    records = sorted(stack.redis.cli("KEYS", "{*}:j:*").splitlines())
    for body, _ in BAD_FIELDS:
        assert post(api, json.dumps(body))[0] == 400
    after = {entry["id"] for entry in api.json("GET", "/v1/jobs?limit=100", expect=200)["data"]}
    assert before == after
    assert sorted(stack.redis.cli("KEYS", "{*}:j:*").splitlines()) == records


OPENAI_BAD = [({"messages": []}, "model"), ({"model": "m", "messages": [], "stream": True}, "stream"),
              ({"model": 5, "messages": []}, "model")]


@pytest.mark.parametrize("body,param", OPENAI_BAD)
def test_openai_paths_answer_in_their_dialect(api, body, param):
    status, headers, answer = post(api, json.dumps(body), path="/v1/chat/completions")
    assert status == 400 and headers["content-type"].startswith("application/json")
    assert set(answer) == {"error"} and set(answer["error"]) >= {"message", "type", "param", "code"}
    assert answer["error"]["param"] == param and answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/batches", "/v1/files", "/v1/images/generations"])
def test_dialect_calls_not_built_yet(api, path):
    status, _, answer = post(api, "{}", path=path)
    assert status == 404 and answer["error"]["code"] == "not_supported"

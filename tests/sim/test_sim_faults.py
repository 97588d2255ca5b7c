"""Behaviour on demand: the keys, the ways to ask for them, and what then goes over the wire."""

import http.client
import json
import re
import time

import pytest
from sim_process import CHAT, TIMEOUT_S, chat_body, raw_chat, read_all, read_answer, read_until

EMPTY = b""


def split(data):
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


# --- the ways to ask ------------------------------------------------------------------------------

WAYS = {
    "header": lambda pairs: ({}, {f"Sim-{key.replace('_', '-').title()}": value for key, value in pairs.items()}),
    "body": lambda pairs: ({"sim": pairs}, {}),
    "user": lambda pairs: ({"user": "sim:" + ",".join(f"{k}={v}" for k, v in pairs.items())}, {}),
    "metadata": lambda pairs: ({"metadata": "sim:" + ",".join(f"{k}={v}" for k, v in pairs.items())}, {}),
    "metadata member": lambda pairs: (
        {"metadata": {"a": 1, "b": "sim:" + ",".join(f"{k}={v}" for k, v in pairs.items())}},
        {},
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("retry_after", ["7", "Wed, 21 Oct 2026 07:28:00 GMT", "soon/maybe"])
def test_every_way_of_asking(shared, way, retry_after):
    pairs = {"retry_after": retry_after, "status": "503", "retry_after_ms": "1500", "nonce": "n/1"}
    fields, headers = WAYS[way](pairs)
    answer = shared.chat(headers=headers, **fields)
    assert answer.status == 503
    assert answer.headers["retry-after"] == retry_after
    assert answer.headers["retry-after-ms"] == "1500"
    assert answer.json()["error"]["type"] == "server_error"


def test_escaped_slashes_mean_the_same(shared):
    body = json.dumps(chat_body(user="sim:nonce=a/b", sim={"retry_after": "c/d", "status": 429}))
    answer = shared.ask("POST", CHAT, body.replace("/", "\\/"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "c/d")
    assert shared.nonces()["nonces"]["a/b"] == 1


def test_the_body_wins_over_the_header(shared):
    answer = shared.chat(headers={"Sim-Status": "500"}, sim={"status": 502}, user="sim:status=504")
    assert answer.status == 504
    assert shared.chat(headers={"Sim-Status": "500"}, sim={"status": 0}).status == 200


@pytest.mark.parametrize(
    "fields,headers",
    [({"sim": {"nothing": 1}}, {}), ({"sim": {"status": 700}}, {}), ({"sim": {"status": 100}}, {}),
     ({"sim": {"delay_ms": -1}}, {}), ({"sim": {"drop": "never"}}, {}), ({"sim": {"chunked": 2}}, {}),
     ({"sim": {"nonce": "a\r\nb"}}, {}), ({"sim": [1]}, {}), ({"sim": {"tokens": [1]}}, {}),
     ({"user": "sim:status"}, {}), ({"user": "sim:status=x"}, {}), ({"user": "sim:a=b"}, {}),
     ({}, {"Sim-Delay": "1"}), ({}, {"Sim-Delay-Ms": "1.5"}), ({"sim": {"models": "x"}}, {})],
)  # fmt: skip
def test_mistakes_are_told(shared, fields, headers):
    answer = shared.chat(headers=headers, **fields)
    assert answer.status == 400 and answer.json()["error"]["message"]


def test_other_users_are_left_alone(shared):
    assert shared.chat(user="simon", metadata={"user": "x", "n": "s"}).status == 200


# --- time -----------------------------------------------------------------------------------------


def seconds_of(action):
    started = time.monotonic()
    action()
    return time.monotonic() - started


def test_delay(shared):
    assert 0.198 <= seconds_of(lambda: shared.chat(sim={"delay_ms": 200})) < 5  # its clock counts whole ms
    assert 0.198 <= seconds_of(lambda: shared.chat(sim={"delay_ms": 200, "status": 500})) < 5


def test_jitter_is_uniform_on_top(shared):
    times = [seconds_of(lambda: shared.chat(sim={"delay_ms": 20, "jitter_ms": 80})) for _ in range(12)]
    assert min(times) >= 0.02
    assert max(times) - min(times) > 0.005


def test_drip(shared):
    size = len(shared.chat().body)
    for more in ({}, {"chunked": 1}):
        started = time.monotonic()
        assert len(shared.chat(sim={"drip": size // 3, **more}).body) == size
        assert time.monotonic() - started >= 0.298


def test_drip_starts_at_once(shared):
    with shared.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"drip": 1})))
        read_until(connection, b"\r\n\r\n")
        assert shared.stats()["in_flight"] == 1
    shared.wait_stats(lambda stats: stats["in_flight"] == 0)


def test_token_ms_paces_a_stream(shared):
    started = time.monotonic()
    with shared.connect() as connection:
        connection.sendall(raw_chat(chat_body(stream=True, sim={"token_ms": 50, "tokens": 6})))
        read_until(connection, b"\n\n")
        first = time.monotonic() - started
        read_until(connection, b"[DONE]\n\n")
        whole = time.monotonic() - started
    assert whole - first >= 0.3  # a role, six tokens, a finish and the end: eight gaps


def test_never_answers_until_the_client_goes(start_sim):
    sim = start_sim("--queue", "--max-concurrency", 1)
    with sim.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"never": True})))
        sim.wait_stats(lambda stats: stats["in_flight"] == 1)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    stats = sim.wait_stats(lambda stats: stats["in_flight"] == 0)
    assert stats["cancelled"] == 1 and stats["by_status"] == {}
    assert sim.chat().status == 200  # the place is free again


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 529, 599])
def test_status(shared, status):
    answer = shared.chat(sim={"status": status})
    assert answer.status == status
    assert sorted(answer.json()["error"]) == ["code", "message", "param", "type"]


def test_good_statuses_are_normal_answers(shared):
    answer = shared.chat(sim={"status": 201})
    assert answer.status == 201 and answer.json()["choices"]
    assert shared.chat(sim={"status": 204}).body == b""


def test_fail_times_by_key(shared):
    def statuses(**sim):
        return [shared.chat(sim={"fail_times": 2, **sim}).status for _ in range(4)]

    assert statuses(fail_key="k1") == [500, 500, 200, 200]
    assert statuses(fail_key="k1") == [200] * 4
    assert statuses(fail_key="k2", status=429) == [429, 429, 200, 200]
    assert statuses(nonce="k3") == [500, 500, 200, 200]


def test_fail_times_without_a_key_goes_by_prompt(shared):
    def ask(text):
        return shared.chat(text, sim={"fail_times": 1, "status": 503}).status

    assert [ask("first"), ask("second"), ask("first"), ask("second")] == [503, 503, 200, 200]


def test_retry_after_only_with_failures(shared):
    assert shared.chat(sim={"retry_after": "5"}).headers["retry-after"] is None


# --- broken answers -------------------------------------------------------------------------------


def test_drop_before_headers(shared):
    assert shared.raw(raw_chat(chat_body(sim={"drop": "before_headers"}))) == b""


def test_drop_reset(shared):
    with pytest.raises(ConnectionResetError):
        shared.raw(raw_chat(chat_body(sim={"drop": "reset"})))


def test_drop_after_headers(shared):
    head, body = split(shared.raw(raw_chat(chat_body(sim={"drop": "after_headers"}))))
    assert head.startswith(b"HTTP/1.1 200 ") and int(re.search(rb"content-length: (\d+)", head)[1]) > 100
    assert body == b""


def test_drop_mid_body(shared):
    head, body = split(shared.raw(raw_chat(chat_body(sim={"drop": "mid_body", "delay_ms": 20}))))
    size = int(re.search(rb"content-length: (\d+)", head)[1])
    assert len(body) == size // 2
    with pytest.raises(http.client.IncompleteRead):
        shared.chat(stream=True, sim={"drop": "mid_body"})


def test_garbage(shared):
    data = shared.raw(raw_chat(chat_body(sim={"garbage": 1})))
    assert data and not data.startswith(b"HTTP/")
    with pytest.raises(http.client.HTTPException):
        shared.chat(sim={"garbage": 1})


@pytest.mark.parametrize("size", [2000, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [0, 1])
def test_body_bytes(shared, size, chunked):
    answer = shared.chat(sim={"body_bytes": size, "chunked": chunked})
    assert len(answer.body) == size
    assert answer.json()["choices"][0]["message"]["content"].endswith("x" * 3)
    answer = shared.ask(
        "POST", "/v1/embeddings", {"model": "m", "input": "a", "sim": {"body_bytes": size, "chunked": chunked}}
    )
    assert len(answer.body) == size
    assert len(answer.json()["data"][0]["embedding"]) == 64


def test_huge_body_takes_no_memory(shared):
    size = 300_000_000
    client = shared.client()
    client.request("POST", CHAT, json.dumps(chat_body(sim={"body_bytes": size})))
    response = client.getresponse()
    assert int(response.headers["content-length"]) == size
    got = 0
    while part := response.read(1 << 20):
        got += len(part)
    client.close()
    assert got == size
    with open(f"/proc/{shared.process.pid}/status") as file:
        resident_kb = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])
    assert resident_kb < 200_000


def test_chunked(shared):
    answer = shared.chat(sim={"chunked": 1})
    assert answer.headers["transfer-encoding"] == "chunked" and answer.headers["content-length"] is None
    assert answer.json()["choices"] == shared.chat().json()["choices"]


def test_chunked_drop(shared):
    with pytest.raises(http.client.IncompleteRead):
        shared.chat(sim={"chunked": 1, "drop": "mid_body"})


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/messages"])
def test_bad_json(shared, path):
    body = {**chat_body(), "input": "a", "prompt": "a", "max_tokens": 9, "sim": {"bad_json": 1}}
    answer = shared.ask("POST", path, body)
    assert answer.status == 200
    with pytest.raises(ValueError):
        answer.json()


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_bad_json_in_a_stream(shared, path):
    answer = shared.ask("POST", path, {**chat_body(), "max_tokens": 9, "stream": True, "sim": {"bad_json": 1}})
    bad = 0
    for event in answer.events():
        try:
            json.loads(event)
        except ValueError:
            bad += event != "[DONE]"
    assert bad > 0


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/messages"])
def test_bad_utf8(shared, path):
    body = {**chat_body(), "input": "a", "prompt": "a", "max_tokens": 9, "sim": {"bad_utf8": 1}}
    answer = shared.ask("POST", path, body)
    with pytest.raises(UnicodeDecodeError):
        answer.body.decode()
    assert json.loads(answer.body.decode(errors="replace"))


def test_short_length(shared):
    head, body = split(shared.raw(raw_chat(chat_body(sim={"short_length": 1}))))
    assert int(re.search(rb"content-length: (\d+)", head)[1]) == len(body) + 64
    assert json.loads(body)


def test_close_idle(shared):
    with shared.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"close_idle": 1})))
        status, head, _ = read_answer(connection)
        assert status == 200 and b"connection: close" not in head
        assert connection.recv(1) == EMPTY


def test_stream_error(shared):
    events = shared.chat(stream=True, sim={"stream_error": 1}).events()
    assert json.loads(events[-1])["error"]["type"] == "server_error" and "[DONE]" not in events


def test_nonce_is_echoed_and_counted(shared):
    for _ in range(3):
        answer = shared.chat(sim={"nonce": 'my"nonce'})
        assert "Nonce my_nonce." in answer.json()["choices"][0]["message"]["content"]
    shared.chat(headers={"Sim-Nonce": "other"})
    nonces = shared.nonces()
    assert nonces["nonces"]['my"nonce'] == 3 and nonces["nonces"]["other"] == 1
    assert nonces["dropped"] == 0


# --- clients that go away -------------------------------------------------------------------------


@pytest.mark.parametrize("sim", [{"delay_ms": 60000}, {"never": 1}, {"drip": 1}])
def test_client_gone_before_the_answer(start_sim, sim):
    one = start_sim()
    connections = [one.connect() for _ in range(5)]
    for connection in connections:
        connection.sendall(raw_chat(chat_body(sim=sim)))
    one.wait_stats(lambda stats: stats["in_flight"] == 5)
    for connection in connections:
        connection.close()
    stats = one.wait_stats(lambda stats: stats["in_flight"] == 0)
    assert stats["cancelled"] == 5 and stats["in_flight_max"] == 5


def test_half_closed_client_counts_as_gone(shared):
    before = shared.stats()["cancelled"]
    with shared.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"delay_ms": 60000})))
        connection.shutdown(1)
        assert read_all(connection) == b""
    assert shared.stats()["cancelled"] == before + 1


def test_reader_that_stops_reading_is_let_go(start_sim):
    one = start_sim("--idle-timeout-ms", 1)
    with one.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"body_bytes": 50_000_000})))
        stats = one.wait_stats(lambda stats: stats["in_flight"] == 0 and stats["requests"] == 1)
        assert stats["dropped"] == 1
        connection.settimeout(TIMEOUT_S)
        assert len(read_all(connection)) < 50_000_000

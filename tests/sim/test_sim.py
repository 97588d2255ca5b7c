"""The dialects and HTTP itself."""

import base64
import json
import math
import socket
import struct

import pytest
from sim_process import CHAT, chat_body, raw_chat, read_all, read_answer, read_until


def assert_openai_error(answer, status, code=None, param=None):
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]


# --- answers --------------------------------------------------------------------------------------


def test_chat_has_the_documented_shape(shared):
    answer = shared.chat("What is a penstock?")
    reply = answer.json()
    assert answer.status == 200
    assert answer.headers["x-request-id"].startswith("req_")
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "m"
    assert abs(reply["created"] - shared.stats()["last_request_at_ms"] / 1000) < 2
    (choice,) = reply["choices"]
    assert choice["index"] == 0 and choice["finish_reason"] == "stop" and choice["logprobs"] is None
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert choice["message"]["content"].startswith("Simulated answer")
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == math.ceil(len(choice["message"]["content"]) / 4)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def content(answer):
    return answer.json()["choices"][0]["message"]["content"]


def test_chat_is_deterministic_and_depends_on_the_prompt(shared):
    assert content(shared.chat("one")) == content(shared.chat("one"))
    assert content(shared.chat("one")) != content(shared.chat("two"))
    assert shared.chat("one").json()["id"] != shared.chat("one").json()["id"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_bounds_the_answer(shared, field):
    reply = shared.chat(**{field: 3}).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 3
    assert len(reply["choices"][0]["message"]["content"]) == 12


def test_n_choices_differ(shared):
    choices = shared.chat(n=3).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3


def test_tokens_sets_the_size(shared):
    reply = shared.chat(sim={"tokens": 1000}).json()
    assert reply["usage"]["completion_tokens"] == 1000
    assert len(reply["choices"][0]["message"]["content"]) == 4000


def test_model_name_is_echoed_whatever_it_holds(shared):
    name = 'a/"b"\\ü\U0001f600'
    assert shared.ask("POST", CHAT, {**chat_body(), "model": name}).json()["model"] == name


@pytest.mark.parametrize(
    "prompt,count", [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (None, 1)]
)
def test_completions(shared, prompt, count):
    body = {"model": "m", "n": 2}
    if prompt is not None:
        body["prompt"] = prompt
    reply = shared.ask("POST", "/v1/completions", body).json()
    assert reply["object"] == "text_completion" and reply["id"].startswith("cmpl-")
    assert [choice["index"] for choice in reply["choices"]] == list(range(2 * count))
    assert all(sorted(c) == ["finish_reason", "index", "logprobs", "text"] for c in reply["choices"])


def embed(sim, value, **more):
    answer = sim.ask("POST", "/v1/embeddings", {"model": "m", "input": value, **more})
    assert answer.status == 200, answer.body
    return answer.json()


def test_embeddings_are_of_unit_length_and_deterministic(shared):
    reply = embed(shared, ["a", "b", "a"])
    vectors = [row["embedding"] for row in reply["data"]]
    assert reply["object"] == "list" and [row["index"] for row in reply["data"]] == [0, 1, 2]
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] == 3
    assert vectors[0] == vectors[2] != vectors[1]
    for vector in vectors:
        assert len(vector) == 64
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)


@pytest.mark.parametrize("dimensions", [1, 3, 256, 1536])
def test_embeddings_base64_equals_float(shared, dimensions):
    vector = embed(shared, "text", dimensions=dimensions)["data"][0]["embedding"]
    packed = embed(shared, "text", dimensions=dimensions, encoding_format="base64")["data"][0]["embedding"]
    assert list(struct.unpack(f"<{dimensions}f", base64.b64decode(packed, validate=True))) == vector


def test_embeddings_of_every_input_form(shared):
    def first(value):
        return embed(shared, value)["data"][0]["embedding"]

    assert first("é") == first(["é"])
    escaped = b'{"model":"m","input":"\\u00e9"}'
    assert shared.ask("POST", "/v1/embeddings", escaped).json()["data"][0]["embedding"] == first("é")
    assert first([1, 2]) == first([[1, 2]])
    assert len(embed(shared, [[1, 2], [3]])["data"]) == 2
    assert embed(shared, [1, 2, 3])["usage"]["prompt_tokens"] == 3
    assert len(embed(shared, ["x"] * 2048, dimensions=2)["data"]) == 2048


@pytest.mark.parametrize("value", ["", [], [""], [1, "a"], [["a"]], [[]], {}, 7, ["a"] * 2049, [True]])
def test_embeddings_refuse_bad_input(shared, value):
    answer = shared.ask("POST", "/v1/embeddings", {"model": "m", "input": value})
    assert_openai_error(answer, 400, param="input")


def test_chat_stream(shared):
    answer = shared.chat(stream=True, stream_options={"include_usage": True}, n=2)
    assert answer.headers["content-type"] == "text/event-stream"
    *lines, last = answer.events()
    chunks = [json.loads(line) for line in lines]
    assert last == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    for index in (0, 1):
        own = [chunk["choices"][0] for chunk in chunks[:-1] if chunk["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert own[-1]["delta"] == {} and own[-1]["finish_reason"] == "stop"
        whole = shared.chat(n=2).json()["choices"][index]["message"]["content"]
        assert "".join(choice["delta"].get("content", "") for choice in own) == whole


def test_stream_without_usage_does_not_speak_of_it(shared):
    *lines, _ = shared.chat(stream=True, max_tokens=2).events()
    assert all("usage" not in json.loads(line) for line in lines)
    assert json.loads(lines[-1])["choices"][0]["finish_reason"] == "length"


def test_completions_stream(shared):
    *lines, last = shared.ask("POST", "/v1/completions", {"model": "m", "prompt": "a", "stream": True}).events()
    assert last == "[DONE]"
    texts = [json.loads(line)["choices"][0]["text"] for line in lines]
    assert "".join(texts).startswith("Simulated answer")


def messages(sim, headers=None, **more):
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **more}
    return sim.ask("POST", "/v1/messages", body, headers)


def test_messages(shared):
    answer = messages(shared)
    reply = answer.json()
    assert answer.headers["request-id"].startswith("req_")
    assert (reply["type"], reply["role"], reply["stop_reason"]) == ("message", "assistant", "end_turn")
    assert reply["content"][0]["type"] == "text" and reply["usage"]["output_tokens"] > 0
    assert messages(shared, max_tokens=2).json()["stop_reason"] == "max_tokens"


def test_messages_stream(shared):
    answer = messages(shared, stream=True)
    kinds = [line[7:] for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    events = [json.loads(line) for line in answer.events()]
    assert [event["type"] for event in events] == kinds
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")
    assert text == messages(shared).json()["content"][0]["text"]


def test_messages_errors_have_their_own_shape(shared):
    answer = messages(shared, max_tokens=None)
    error = answer.json()
    assert answer.status == 400 and error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["request_id"] == answer.headers["request-id"]
    answer = messages(shared, headers={"Sim-Status": "529"})
    assert answer.status == 529 and answer.json()["error"]["type"] == "overloaded_error"


def test_count_tokens(shared):
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}]}
    assert shared.ask("POST", "/v1/messages/count_tokens", body).json()["input_tokens"] > 100


def test_models_without_a_list(shared):
    reply = shared.ask("GET", "/v1/models").json()
    assert reply["object"] == "list" and reply["data"][0]["object"] == "model"
    one = shared.ask("GET", "/v1/models/org%2Fname").json()
    assert one["id"] == "org/name" and one["object"] == "model"
    reply = shared.ask("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert reply["has_more"] is False and reply["data"][0]["type"] == "model"


def test_health_and_metrics(shared):
    assert shared.ask("GET", "/health").status == 200
    text = shared.ask("GET", "/metrics").body.decode()
    assert 'vllm:num_requests_running{engine="0",model_name="sim-model"} 0\n' in text
    assert 'vllm:num_requests_waiting{engine="0",model_name="sim-model"} 0\n' in text


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"model":"m",}', b'{"model":"m"} x', b'{"model":"\xff"}', b'{"a":01}',
     b'{"model":"m","x":"\\u12"}', b'{"model":"m","x":"\n"}', b'{"a":tru}', b'{"a":[1,]}', b'{"a":{"b"}}',
     b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", b'{"a":1.}', b'{"a":[}]}', b'{a:1}'],
)  # fmt: skip
def test_bad_json_is_refused(shared, body):
    assert_openai_error(shared.ask("POST", CHAT, body), 400)


@pytest.mark.parametrize("value", ["-0", "1e400", '"\\ud800"', "[[[]]]", "{}", "[{},[]]", "1E-5", '"\\/\\b"'])
def test_odd_but_valid_json_is_read(shared, value):
    body = f' {{"x" : {value} ,\r\n"model":"m","messages":[{{}}]}}\t'
    assert shared.ask("POST", CHAT, body.encode()).status == 200


@pytest.mark.parametrize(
    "change,param",
    [({"model": None}, "model"), ({"model": ""}, "model"), ({"messages": []}, "messages"),
     ({"messages": "hi"}, "messages"), ({"n": 0}, "n"), ({"n": 129}, "n"), ({"max_tokens": "x"}, "max_tokens"),
     ({"stream": 1}, "stream"), ({"stream_options": 1}, "stream_options")],
)  # fmt: skip
def test_bad_fields_are_refused(shared, change, param):
    assert_openai_error(shared.ask("POST", CHAT, {**chat_body(), **change}), 400, param=param)


def test_bad_encoding_format(shared):
    answer = shared.ask("POST", "/v1/embeddings", {"model": "m", "input": "a", "encoding_format": "hex"})
    assert_openai_error(answer, 400, param="encoding_format")


def test_unknown_paths_and_methods(shared):
    assert_openai_error(shared.ask("GET", "/v1/nothing"), 404)
    answer = shared.ask("GET", CHAT)
    assert_openai_error(answer, 405)
    assert answer.headers["allow"] == "POST"
    assert shared.ask("DELETE", "/v1/models").headers["allow"] == "GET"
    assert shared.ask("GET", "/stats/reset").headers["allow"] == "POST"
    assert shared.ask("PUT", "/control").headers["allow"] == "GET, POST"


# --- HTTP -----------------------------------------------------------------------------------------


def test_keep_alive(shared):
    client = shared.client()
    before = shared.stats()["connections_total"]
    for _ in range(5):
        assert shared.chat(client=client).status == 200
    assert shared.stats()["connections_total"] == before + 2  # the client's, and this question's
    client.close()


def test_pipelined_requests_are_answered_in_order(shared):
    with shared.connect() as connection:
        connection.sendall(b"".join(raw_chat(chat_body(sim={"nonce": f"p{i}", "delay_ms": 5})) for i in range(20)))
        for i in range(20):
            _, _, body = read_answer(connection)
            assert f"Nonce p{i}." in json.loads(body)["choices"][0]["message"]["content"]


def test_a_request_byte_by_byte(shared):
    with shared.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_chat():
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[0] == 200


def chunked_request(parts, trailer=""):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = [f"{len(part):x};x=y\r\n".encode() + part + b"\r\n" for part in parts]
    return head + b"".join(chunks) + f"0\r\n{trailer}\r\n".encode()


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_chunked_request_bodies(shared, size):
    payload = json.dumps(chat_body("x" * 3000)).encode()
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    with shared.connect() as connection:
        connection.sendall(chunked_request(parts, "Trailer: t\r\n") + raw_chat())
        chunked = json.loads(read_answer(connection)[2])
        assert read_answer(connection)[0] == 200
    plain = shared.ask("POST", CHAT, payload).json()
    assert chunked["choices"] == plain["choices"]


def test_chunked_request_in_pieces(shared):
    data = chunked_request([json.dumps(chat_body()).encode()])
    with shared.connect() as connection:
        for i in range(0, len(data), 3):
            connection.sendall(data[i : i + 3])
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("chunks", [b"x\r\n", b"\r\n", b"5\nhello\r\n", b"2\r\nabc", b"ffffffffffffffffff\r\n"])
def test_malformed_chunks(shared, chunks):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert shared.raw(head + chunks).startswith(b"HTTP/1.1 400 ")


def test_large_body(shared):
    answer = shared.chat("x" * 5_000_000)
    assert answer.status == 200
    assert answer.json()["usage"]["prompt_tokens"] > 1_250_000


def test_expect_continue(shared):
    head, payload = raw_chat(extra="Expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
    with shared.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(payload)
        assert read_answer(connection)[0] == 200


def test_http10_closes(shared):
    data = shared.raw(raw_chat(version="1.0"))
    assert data.startswith(b"HTTP/1.0 200 ")
    data = shared.raw(raw_chat(chat_body(stream=True), version="1.0"))
    assert b"chunked" not in data and data.endswith(b"data: [DONE]\n\n")


def test_connection_close_is_honoured(shared):
    data = shared.raw(raw_chat(extra="Connection: Close\r\n"))
    assert data.startswith(b"HTTP/1.1 200 ") and b"connection: close\r\n" in data


def test_head_has_no_body(shared):
    answer = shared.ask("HEAD", "/v1/models")
    assert answer.status == 200 and answer.body == b"" and int(answer.headers["content-length"]) > 0


def test_absolute_target_and_query(shared):
    request = b"GET http://sim/v1/models?beta=true HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n"
    assert shared.raw(request).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_bytes,status",
    [(b"GET /health\r\n\r\n", 400), (b"GET /health HTTP/2.0\r\n\r\n", 505), (b"\x16\x03\x01\r\n\r\n", 400),
     (b"GET /health HTTP/1.1\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
     (b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
     (b"GET /health HTTP/1.1\nHost: a\r\n\r\n", 400), (b"GET health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
     (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
     (b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
     (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
     (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
     (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
     (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
     (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000, 431)],
)  # fmt: skip
def test_malformed_requests_are_refused_and_closed(shared, request_bytes, status):
    data = shared.raw(request_bytes)
    assert data.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close\r\n" in data
    assert "error" in json.loads(data.split(b"\r\n\r\n", 1)[1])


def test_a_refused_upload_still_reads_its_answer(shared):
    """Bytes that come after the refusal must not turn it into a reset."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: sim\r\nContent-Length: 100000000\r\n\r\n".encode()
    with shared.connect() as connection:
        connection.sendall(head + b"x" * 300_000)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")

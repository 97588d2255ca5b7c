"""A run as a whole: flags, limits, control, counters, the log, many connections."""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import time

import pytest
from sim_process import BINARY, CHAT, TIMEOUT_S, chat_body, raw_chat, read_answer, wait_until

# --- the command line -----------------------------------------------------------------------------


def test_several_addresses(start_sim):
    sim = start_sim(addresses=["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] if has_v6() else ["127.0.0.1:0", "127.0.0.2:0"])
    assert len({port for _, port in sim.addresses}) == len(sim.addresses)
    for address in sim.addresses:
        with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
            connection.sendall(raw_chat())
            assert read_answer(connection)[0] == 200


def has_v6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.parametrize(
    "words",
    [["--listen", "127.0.0.1"], ["--listen", "x:1"], ["--listen", "127.0.0.1:70000"], ["--delay-ms"],
     ["--delay-ms", "x"], ["--nothing", "1"], ["word"], ["--fail-rate", "1.5"], ["--log", "/nonexistent/x"],
     ["--status", "99"], ["--seed", "x"], ["--never=maybe"]],
)  # fmt: skip
def test_wrong_command_lines_end_with_2(words):
    done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2 and done.stderr.startswith("penstock-sim: ") and done.stdout == ""


def test_taken_port(start_sim):
    port = start_sim().address[1]
    done = subprocess.run(
        [BINARY, "--listen", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 2 and "in use" in done.stderr


def test_help():
    done = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0 and done.stdout.startswith("usage:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once(start_sim, number):
    sim = start_sim()
    with sim.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"never": 1})))
        sim.wait_stats(lambda stats: stats["in_flight"] == 1)
        started = time.monotonic()
        assert sim.stop(number) == (0, "")
        assert time.monotonic() - started < 5


def test_flags_are_defaults_for_every_request(start_sim):
    sim = start_sim("--delay-ms=50", "--status", "503", "--retry-after", "3", "--chunked")
    started = time.monotonic()
    answer = sim.chat()
    assert time.monotonic() - started >= 0.048
    assert answer.status == 503 and answer.headers["retry-after"] == "3"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert sim.chat(sim={"status": 0}).status == 200


def test_reply_bytes(start_sim):
    sim = start_sim("--reply-bytes", 1024)
    answer = sim.chat()
    assert len(answer.body) == 1024 and answer.json()["choices"]


def test_models_and_key(start_sim):
    sim = start_sim("--models", "a,b/c,d", "--api-key", "secret")
    assert sim.chat().status == 401
    assert sim.ask("GET", "/v1/models").status == 401
    assert sim.ask("GET", "/health").status == 200
    for headers in ({"Authorization": "Bearer secret"}, {"x-api-key": "secret"}, {"api-key": "secret"}):
        answer = sim.ask("POST", CHAT, {**chat_body(), "model": "b/c"}, headers)
        assert answer.status == 200
    error = sim.ask("POST", CHAT, {**chat_body(), "model": "b"}, headers)
    assert error.status == 404 and error.json()["error"]["code"] == "model_not_found"
    assert sim.chat(headers={"Authorization": "Bearer secreT"}).json()["error"]["code"] == "invalid_api_key"
    listed = sim.ask("GET", "/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in listed] == ["a", "b/c", "d"]
    assert sim.ask("GET", "/v1/models/b%2Fc", headers=headers).json()["id"] == "b/c"
    assert sim.ask("GET", "/v1/models/b", headers=headers).json()["error"]["code"] == "model_not_found"
    assert 'model_name="a"' in sim.ask("GET", "/metrics").body.decode()


def test_rates_follow_the_seed(start_sim):
    def outcomes(seed):
        sim = start_sim("--fail-rate", "0.3", "--drop-rate", "0.2", "--seed", seed)
        result = []
        for _ in range(100):
            try:
                result.append(sim.chat().status)
            except ConnectionError:
                result.append(0)
        return result

    first = outcomes(1)
    assert first == outcomes(1) != outcomes(2)
    assert 10 < first.count(500) < 50 and 5 < first.count(0) < 40


# --- limits ---------------------------------------------------------------------------------------


def test_rate_limit(start_sim):
    sim = start_sim("--rate-limit", "0.5", "--rate-burst", "3")
    client = sim.client()
    for left in (2, 1, 0):
        answer = sim.chat(client=client)
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    answer = sim.chat(client=client)
    assert answer.status == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "2" and 0 < int(answer.headers["retry-after-ms"]) <= 2000
    assert sim.chat(client=client, sim={"nonce": "limited"}).status == 429
    assert sim.nonces()["nonces"] == {}
    sim.control(rate_limit=1000, rate_burst=1)
    wait_until(lambda: sim.chat(client=client).status == 200)
    client.close()


def start_chats(sim, count, **behaviour):
    connections = [sim.connect() for _ in range(count)]
    for connection in connections:
        connection.sendall(raw_chat(chat_body(sim=behaviour)))
    return connections


def test_max_concurrency_refuses(start_sim):
    sim = start_sim("--max-concurrency", 2)
    connections = start_chats(sim, 2, never=1)
    sim.wait_stats(lambda stats: stats["in_flight"] == 2)
    answer = sim.chat()
    assert answer.status == 429 and answer.headers["retry-after"] == "1"
    connections.pop().close()
    sim.wait_stats(lambda stats: stats["in_flight"] == 1)
    assert sim.chat().status == 200
    connections.pop().close()


def test_queue_waits_in_order(start_sim):
    sim = start_sim("--max-concurrency", 1, "--queue")
    (first,) = start_chats(sim, 1, never=1)
    sim.wait_stats(lambda stats: stats["in_flight"] == 1)
    others = []
    for i in range(5):
        others += start_chats(sim, 1, nonce=f"q{i}")
        sim.wait_stats(lambda stats, i=i: stats["waiting"] == i + 1)
    others.pop(2).close()  # one of those waiting loses patience
    sim.wait_stats(lambda stats: stats["waiting"] == 4)
    text = sim.ask("GET", "/metrics").body.decode()
    assert 'requests_running{engine="0",model_name="sim-model"} 1\n' in text
    assert 'requests_waiting{engine="0",model_name="sim-model"} 4\n' in text
    first.close()
    for connection, name in zip(others, ("q0", "q1", "q3", "q4"), strict=True):
        assert name.encode() in read_answer(connection)[2]
        connection.close()
    assert sim.stats()["waiting"] == 0


def test_a_long_queue_of_quick_answers(start_sim):
    sim = start_sim("--max-concurrency", 1, "--queue")
    (first,) = start_chats(sim, 1, never=1)
    sim.wait_stats(lambda stats: stats["in_flight"] == 1)
    others = start_chats(sim, 500)
    sim.wait_stats(lambda stats: stats["waiting"] == 500)
    sim.control(max_concurrency=0)
    for connection in [*others, first]:
        if connection is not first:
            assert read_answer(connection)[0] == 200
        connection.close()


# --- control and counters -------------------------------------------------------------------------


def test_control_makes_sick_and_heals(start_sim):
    sim = start_sim("--tokens", 5)
    assert sim.control(status=503, retry_after="9", health_status=500)["status"] == 503
    answer = sim.chat()
    assert answer.status == 503 and answer.headers["retry-after"] == "9"
    assert sim.ask("GET", "/health").status == 500
    assert sim.ask("GET", "/v1/models").status == 500
    sim.control(status=None, health_status=0, drop="before_headers")
    with pytest.raises(ConnectionError):
        sim.chat()
    sim.control(drop="none", models="x,y", tokens=7)
    assert sim.chat().status == 404
    assert sim.control(reset=True, chunked=True)["tokens"] == 5
    answer = sim.chat()
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert answer.headers["transfer-encoding"] == "chunked"
    assert sim.ask("GET", "/control").json()["models"] == ""


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"delay_ms":5,"nothing":1}', b'{"fail_rate":2}', b'{"reset":1}'])
def test_control_changes_all_or_nothing(shared, body):
    before = shared.ask("GET", "/control").json()
    assert shared.ask("POST", "/control", body).status == 400
    assert shared.ask("GET", "/control").json() == before


def test_control_never_tells_the_key(start_sim):
    sim = start_sim()
    sim.control(api_key="hidden")
    assert b"hidden" not in sim.ask("GET", "/control").body
    assert sim.chat().status == 401


def test_stats_count(start_sim):
    sim = start_sim()
    client = sim.client()
    sim.chat(client=client)
    sim.chat(client=client, sim={"status": 503})
    sim.ask("POST", CHAT, b"{", client=client)
    sim.ask("GET", "/health", client=client)
    sim.raw(raw_chat(chat_body(sim={"drop": "before_headers"})))
    stats = sim.stats()
    assert stats["requests"] == 4 and stats["executions"] == 3
    assert stats["by_status"] == {"200": 1, "400": 1, "503": 1}
    assert stats["by_path"][CHAT] == 4 and stats["by_path"]["/health"] == 1
    assert stats["dropped"] == 1 and stats["cancelled"] == 0 and stats["in_flight"] == 0
    assert stats["connections_open"] == 2 and stats["connections_total"] == 3
    assert stats["bytes_in"] > 300 and stats["bytes_out"] > 1000
    assert abs(stats["first_byte_at_ms"] - time.time() * 1000) < 5000
    assert sim.ask("POST", "/stats/reset", client=client).json() == {}
    stats = sim.stats()
    assert stats["requests"] == 0 and stats["by_status"] == {} and stats["connections_open"] == 2
    client.close()


def test_reset_forgets_nonces_and_failures(start_sim):
    sim = start_sim()
    sim.chat(sim={"nonce": "a", "fail_times": 1})
    sim.ask("POST", "/stats/reset")
    assert sim.nonces() == {"nonces": {}, "dropped": 0}
    assert sim.chat(sim={"nonce": "a", "fail_times": 1}).status == 500


def test_nonces_are_bounded(start_sim):
    sim = start_sim()
    many = 200_500
    with sim.connect() as connection:
        connection.settimeout(TIMEOUT_S)
        answers = connection.makefile("rb")
        for start in range(0, many, 500):
            connection.sendall(
                b"".join(raw_chat(chat_body(sim={"nonce": f"n{i}", "status": 204})) for i in range(start, start + 500))
            )
            for _ in range(500):
                while answers.readline() != b"\r\n":
                    pass
        answers.close()
    nonces = sim.nonces()
    assert len(nonces["nonces"]) == 200_000 and nonces["dropped"] == 500


# --- the log --------------------------------------------------------------------------------------


def test_log(start_sim, tmp_path):
    path = tmp_path / "log"
    sim = start_sim("--log", path, "--models", "m,a b")
    sim.chat(sim={"nonce": "n 1%"})
    sim.ask("POST", "/v1/completions", {"model": "a b", "user": "sim:nonce=n2,status=500"})
    sim.ask("POST", CHAT, {**chat_body(), "model": "zz"}, {"Sim-Nonce": "n3"})
    sim.raw(raw_chat(chat_body(sim={"nonce": "n4", "drop": "before_headers"})))
    sim.raw(raw_chat(chat_body(sim={"nonce": "n5", "drop": "mid_body"})))
    with sim.connect() as connection:
        connection.sendall(raw_chat(chat_body(sim={"nonce": "n6", "delay_ms": 60000})))
        sim.wait_stats(lambda stats: stats["in_flight"] == 1)
    sim.wait_stats(lambda stats: stats["in_flight"] == 0)
    wait_until(lambda: path.read_text().count("\n") == 6)  # flushed while it runs
    connection = sim.connect()
    connection.sendall(raw_chat(chat_body(sim={"nonce": "n7", "never": 1})))
    sim.wait_stats(lambda stats: stats["in_flight"] == 1)
    sim.ask("GET", "/health")
    assert sim.stop() == (0, "")
    connection.close()
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    assert all(abs(int(row[0]) / 1000 - time.time()) < 60 for row in rows)
    assert [row[1:] for row in rows] == [
        ["n%201%25", CHAT, "m", "200", "complete"],
        ["n2", "/v1/completions", "a%20b", "500", "complete"],
        ["n3", CHAT, "zz", "404", "complete"],
        ["n4", CHAT, "m", "0", "cut"],
        ["n5", CHAT, "m", "200", "cut"],
        ["n6", CHAT, "m", "0", "cancelled"],
        ["n7", CHAT, "m", "0", "stopped"],
    ]


# --- many at once ---------------------------------------------------------------------------------


def test_two_thousand_delayed_requests(start_sim):
    sim = start_sim("--delay-ms", 500, "--jitter-ms", 100)
    count = 2000

    async def one(number):
        reader, writer = await asyncio.open_connection(*sim.address)
        writer.write(raw_chat(chat_body(sim={"nonce": f"c{number}"}), "Connection: close\r\n"))
        data = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return data

    async def all_of_them():
        return await asyncio.wait_for(asyncio.gather(*(one(i) for i in range(count))), TIMEOUT_S)

    started = time.monotonic()
    answers = asyncio.run(all_of_them())
    elapsed = time.monotonic() - started
    for number, data in enumerate(answers):
        head, body = data.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert f"Nonce c{number}." in json.loads(body)["choices"][0]["message"]["content"]
    stats = sim.stats()
    assert 0.5 <= elapsed < 20
    assert stats["in_flight_max"] > 500 and stats["in_flight"] == 0
    assert set(sim.nonces()["nonces"].values()) == {1}


def test_more_connections_than_descriptors(start_sim):
    """Clients beyond the limit wait in the backlog until somebody leaves."""
    sim = start_sim()
    subprocess.run(["prlimit", f"--pid={sim.process.pid}", "--nofile=40:40"], check=True, timeout=TIMEOUT_S)
    connections = [sim.connect() for _ in range(100)]
    for connection in connections:
        connection.sendall(raw_chat())
    for connection in connections:
        assert read_answer(connection)[0] == 200
        connection.close()


def test_clients_that_reset_leave_nothing_behind(start_sim):
    sim = start_sim()
    for i in range(300):
        connection = sim.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(raw_chat(chat_body(sim={"body_bytes": 1_000_000}))[: None if i % 2 else 50])
        connection.close()
    stats = sim.wait_stats(lambda stats: stats["connections_open"] == 1)
    assert stats["in_flight"] == 0

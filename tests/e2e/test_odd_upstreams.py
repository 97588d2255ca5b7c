"""Answers that no upstream should give and some do: what the simulator is too well-behaved for."""

import contextlib
import http.server
import json
import threading

import pytest

from tests.harness.stack import Stack, chat, http_call


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers with the status named by the model: "status-777"."""

    protocol_version = "HTTP/1.1"
    request_ids = []

    def do_GET(self):
        self.answer(200, b"{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.request_ids.append(self.headers["X-Request-Id"])
        self.answer(int(body["model"].split("-")[1]), b'{"error":{"message":"odd"}}')

    def answer(self, status, body):
        self.send_response(status, "Odd")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def stack():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "models": ["status-*"]}
    try:
        with Stack(upstream=upstream) as running:
            yield running
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [600, 777, 999])
def test_a_status_that_is_none(stack, status):
    """HTTP knows statuses up to 599; others cannot be handed on, and are no answer."""
    api = stack.api()
    brokers = stack.broker.children()
    done = api.finish(api.submit(chat(model=f"status-{status}"), max_attempts=1)["id"])
    assert done["status"] == "failed" and done["error"]["code"] == "upstream_malformed", done
    answer, _, data = api.result(done["id"])
    assert answer == 422 and json.loads(data)["code"] == "upstream_malformed"
    answer, _, data = http_call(stack.origin, "POST", "/v1/chat/completions", chat(model=f"status-{status}"),
                                {"Penstock-Expires-Ms": "1500"})
    # Tried again until its time is nearly up, and then failed, or up.
    assert (answer, json.loads(data)["error"]["code"]) in ((502, "upstream_malformed"), (504, "expired")), data
    assert stack.broker.children() == brokers, "a broker died"


def test_the_upstream_hears_the_name_that_says_most(stack):
    """The request id that a client chose goes with its job; else the job's own id does."""
    api = stack.api()
    plain = api.submit(chat(model="status-400"), max_attempts=1)["id"]
    named = api.json("POST", "/v1/jobs", {"endpoint": "/v1/chat/completions", "max_attempts": 1,
                                          "body": chat(model="status-400")},
                     headers={"X-Request-Id": "mine-1"}, expect=202)["id"]
    for job in plain, named:
        assert api.finish(job)["status"] == "failed"
    assert {plain, "mine-1"} <= set(Odd.request_ids)

"""Start penstock-sim on a free port and talk to it, with nothing but the standard library."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("PENSTOCK_BIN_DIR", ROOT / "build" / "bin")) / "penstock-sim"
TIMEOUT_S = 30
CHAT = "/v1/chat/completions"


def chat_body(text="hello", **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def events(self):
        """The payloads of an event stream; every event ends with an empty line."""
        assert self.body.endswith(b"\n\n")
        blocks = self.body.decode().split("\n\n")[:-1]
        return [line[6:] for block in blocks for line in block.split("\n") if line.startswith("data: ")]


class Sim:
    def __init__(self, *flags, addresses=("127.0.0.1:0",)):
        words = [str(BINARY)]
        for address in addresses:
            words += ["--listen", address]
        self.process = subprocess.Popen(
            words + [str(flag) for flag in flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addresses = []
        for _ in addresses:
            line = self.process.stdout.readline()
            found = re.fullmatch(r"listening on http://(\S+):(\d+)\n", line)
            if not found:
                raise RuntimeError(f"no listening line: {line!r} {self.process.stderr.read()}")
            self.addresses.append((found[1].strip("[]"), int(found[2])))

    @property
    def address(self):
        return self.addresses[0]

    def connect(self):
        return socket.create_connection(self.address, timeout=TIMEOUT_S)

    def client(self):
        return http.client.HTTPConnection(*self.address, timeout=TIMEOUT_S)

    def ask(self, method, path, body=None, headers=None, client=None):
        """One request; over a connection of its own unless one is given."""
        connection = client or self.client()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        connection.request(method, path, body=body, headers=headers or {})
        answer = Answer(connection.getresponse())
        if client is None:
            connection.close()
        return answer

    def chat(self, text="hello", headers=None, client=None, **more):
        return self.ask("POST", CHAT, chat_body(text, **more), headers, client)

    def raw(self, data):
        """Send bytes on a new connection, return everything until the other side closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def stats(self):
        return self.ask("GET", "/stats").json()

    def nonces(self):
        return self.ask("GET", "/stats?nonces=1").json()

    def control(self, **changes):
        answer = self.ask("POST", "/control", changes)
        assert answer.status == 200, answer.body
        return answer.json()

    def wait_stats(self, is_reached):
        return wait_until(lambda: (lambda stats: stats if is_reached(stats) else None)(self.stats()))

    def stop(self, number=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, errors


def read_all(connection):
    parts = []
    while True:
        part = connection.recv(1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def read_until(connection, mark):
    """Everything up to and with the mark, and not a byte of what follows it."""
    data = b""
    while not data.endswith(mark):
        part = connection.recv(1)
        assert part, f"closed after {data!r}"
        data += part
    return data


def read_exactly(connection, size):
    parts = []
    while size > 0:
        part = connection.recv(min(size, 1 << 16))
        assert part, "closed in the middle"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_answer(connection):
    """One answer with a Content-Length from a raw socket: status, head, body."""
    head = read_until(connection, b"\r\n\r\n")
    size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    return int(head.split()[1]), head, read_exactly(connection, size)


def raw_chat(body=None, extra="", version="1.1"):
    payload = json.dumps(body if body is not None else chat_body()).encode()
    head = f"POST {CHAT} HTTP/{version}\r\nHost: sim\r\nContent-Length: {len(payload)}\r\n{extra}\r\n"
    return head.encode() + payload


def wait_until(condition):
    """Await a condition that only another process can tell."""
    limit = time.monotonic() + TIMEOUT_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < limit, "the condition never came true"
        time.sleep(0.005)

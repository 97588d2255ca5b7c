"""An upstream that sends exactly the bytes it is told to: for answers no sane server gives."""

import contextlib
import socket
import ssl
import threading


class Scripted:
    """script(request bytes, number of the request) gives the pieces of the answer; after the last one the connection is
    closed. Sending stops when the other side has left. tls: an ssl.SSLContext, or "stall": connections are taken and
    nothing is ever said."""

    def __init__(self, script, tls=None):
        self.script, self.tls = script, tls
        self.requests, self.sent, self.connections = [], 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._open = []

    @property
    def origin(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def upstream(self, name, model, **more):
        return {"name": name, "kind": "openai", "base_url": f"{self.origin}/v1", "models": [model], "concurrency": 64,
                "health": "", **more}

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        client.settimeout(30)
        with contextlib.suppress(OSError):
            if self.tls == "stall":
                client.recv(1)
                threading.Event().wait(30)
                return
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            request = self._read(client)
            if not request:
                return
            self.requests.append(request)
            for piece in self.script(request, len(self.requests)):
                client.sendall(piece)
                self.sent += len(piece)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        client.close()

    @staticmethod
    def _read(client):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return data
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n")
                       if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            piece = client.recv(65536)
            if not piece:
                break
            body += piece
        return head + b"\r\n\r\n" + body


def http(body, status="200 OK", headers=()):
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(pieces, headers=()):
    """The pieces as chunks, without the last one: an answer that never ends unless b"" is given."""
    yield "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked",
                       *headers]).encode() + b"\r\n\r\n"
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def certificate(folder, name="127.0.0.1", days=1):
    """A self-signed certificate with its key in one file."""
    import subprocess
    path = folder / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    str(path) + ".key", "-out", str(path), "-subj", f"/CN={name}", "-days", str(days), "-addext",
                    f"subjectAltName={'IP' if name[0].isdigit() else 'DNS'}:{name}"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, str(path) + ".key")
    return context

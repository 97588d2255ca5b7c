"""A TCP proxy that misbehaves on demand, between two ends that cannot be changed."""

import contextlib
import select
import socket
import struct
import threading
import time


class Proxy:
    """Forwards connections from its own port to target: (host, port) or the path of a unix socket.

    mode, for connections that are open too:
      pass        everything goes through, each piece delay_s later
      stall       the link is down: bytes wait, connections stay
      no-answers  what the target says is thrown away. A connection that lost a byte stays mute until it is closed: TCP
                  never skips bytes
      refuse      new connections are reset
    """

    def __init__(self, target):
        self.target, self.mode, self.delay_s = target, "pass", 0.0
        self.accepted, self.swallowed = 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._pairs, self._lock, self._stopped = [], threading.Lock(), False
        threading.Thread(target=self._accept, daemon=True).start()

    def _connect(self):
        if isinstance(self.target, str):
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self.target)
            return upstream
        return socket.create_connection(self.target)

    def _accept(self):
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.mode == "refuse":
                reset(client)
                continue
            try:
                upstream = self._connect()
            except OSError:
                reset(client)
                continue
            with self._lock:
                self._pairs.append((client, upstream))
            for source, sink, is_answer in ((client, upstream, False), (upstream, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, is_answer), daemon=True).start()

    def _pump(self, source, sink, is_answer):
        is_mute = False
        with contextlib.suppress(OSError, ValueError):
            while True:
                if self.mode == "stall":
                    time.sleep(0.005)
                    continue
                if not select.select([source], [], [], 0.05)[0] or self.mode == "stall":
                    continue
                data = source.recv(65536)
                if not data:
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                if is_answer and (is_mute or self.mode == "no-answers"):
                    is_mute = True
                    self.swallowed += len(data)
                    continue
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def reset_all(self):
        """Resets every open connection; returns how many."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, upstream in pairs:
            reset(client)
            reset(upstream)
        return len(pairs)

    def close(self):
        self._stopped = True
        self._listener.close()
        self.reset_all()


def reset(sock):
    """Closes with a RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        sock.close()

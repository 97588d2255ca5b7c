"""A name server that answers every question for an IPv4 address with one address, or misbehaves."""

import socket
import struct
import threading

SLOW_S = 3


class NameServer:
    """mode: right, silent, nxdomain, servfail, slow (SLOW_S). Other types than A get an answer without records."""

    def __init__(self, address, port=53):
        self.mode, self.answer, self.asked = "right", "127.0.0.1", 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, port))
        self._closed = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closed.set()
        self._sock.close()

    def _serve(self):
        while True:
            try:
                question, client = self._sock.recvfrom(1500)
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self._answer, args=(question, client, self.mode), daemon=True).start()

    def _answer(self, question, client, mode):
        if mode == "silent":
            return
        if mode == "slow" and self._closed.wait(SLOW_S):
            return
        end = question.index(b"\0", 12) + 5  # the name, its type and class
        is_address = question[end - 4:end - 2] == b"\0\1"
        code = {"nxdomain": 3, "servfail": 2}.get(mode, 0)
        records = 1 if code == 0 and is_address else 0
        answer = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, records, 0, 0) + question[12:end]
        if records:
            answer += b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 1, 4) + socket.inet_aton(self.answer)
        try:
            self._sock.sendto(answer, client)
        except OSError:
            return

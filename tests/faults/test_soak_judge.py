"""The judgement of the soak can fail: leaks are told from noise, from steps, and from peaks."""

import random
import socket
import threading

from tests.faults.soak_load import BASE32, Store, created_s, record_key
from tests.faults.soak_report import slope, standstill_s, verdict_of

HOURS = [second / 3600 for second in range(300, 3600, 10)]


def noisy(function, seed=1):
    chooser = random.Random(seed)
    return [(x, function(x) + chooser.uniform(-0.1, 0.1)) for x in HOURS]


def test_a_leak_grows():
    assert abs(slope([noisy(lambda x: 5 + 6 * x)])[0] - 6) < 0.5
    assert verdict_of([noisy(lambda x: 5 + 6 * x)], 1.0) == "GROWS"


def test_noise_and_what_shrinks_are_flat():
    assert verdict_of([noisy(lambda x: 5)], 1.0) == "flat"
    assert verdict_of([noisy(lambda x: 5 + 0.5 * x)], 1.0) == "flat"
    assert verdict_of([noisy(lambda x: 9 - 6 * x)], 1.0) == "flat"


def test_peaks_of_seconds_do_not_count():
    assert verdict_of([[(x, y + (40 if round(x * 360) % 6 == 5 else 0) * x) for x, y in noisy(lambda x: 5)]], 1.0) == "flat"


def test_one_step_is_no_leak():
    assert verdict_of([noisy(lambda x: 5 if x < 0.5 else 9)], 1.0) == "steps"


def test_lives_share_a_slope_and_keep_their_levels():
    lives = [[point for point in noisy(lambda x, low=low, level=level: level + 8 * (x - low)) if low <= point[0] < low + 0.2]
             for low, level in ((0.1, 5), (0.3, 3), (0.5, 7), (0.7, 4))]
    assert abs(slope(lives)[0] - 8) < 1


def test_few_samples_say_nothing():
    assert verdict_of([noisy(lambda x: 5)[:5]], 1.0) == "too few samples"


def test_a_halted_machine_is_seen():
    assert standstill_s([], 10) <= 0 and standstill_s([0, 10, 20.5, 30.5], 10) < 1
    assert standstill_s([0, 10, 1130, 1140], 10) == 1110


def test_ids_tell_shard_and_time():
    bits = 3 << 160 | 1_795_000_000_123 << 118
    name = "job_" + "".join(BASE32[bits >> shift & 31] for shift in range(165, -1, -5))
    assert record_key(name) == "{3}:j:" + name[4:]
    assert created_s(name) == 1_795_000_000.123


def test_names_that_are_no_text_come_back_as_they_were(tmp_path):
    """Keys of idempotency are hashes; ageing them found nothing, and the soak called what stayed a leak."""
    name, heard = b"{0}:u:\xff\x80\xc3(", []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "redis"))
        server.listen()

        def serve():
            with server.accept()[0] as sock:
                heard.append(sock.recv(1000))
                sock.sendall(b"*1\r\n$%d\r\n%s\r\n" % (len(name), name))
                heard.append(sock.recv(1000))
                sock.sendall(b":1\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        store = Store(tmp_path / "redis")
        [found] = store.command("KEYS", "*")
        assert store.command("UNLINK", found) == 1
        thread.join()
        store.close()
    assert heard[1] == b"*2\r\n$6\r\nUNLINK\r\n$%d\r\n%s\r\n" % (len(name), name)

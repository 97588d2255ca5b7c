"""Redis behind TLS: its certificate has to be good, and to be its own."""

import contextlib
import subprocess

import pytest

from tests.harness.stack import Stack, eventually, free_port, http_call


@pytest.fixture
def certificates(tmp_path):
    """A CA of our own and what it says of localhost."""
    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=tmp_path, timeout=30)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.pem", "-days", "2", "-subj", "/CN=test ca")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "redis.key", "-out",
            "redis.csr", "-subj", "/CN=localhost")
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "redis.pem",
            "-days", "2", "-extfile", "names")
    return tmp_path


def tls_stack(folder, host, trusts=True):
    port = free_port()
    flags = ["--tls-port", port, "--tls-cert-file", folder / "redis.pem", "--tls-key-file", folder / "redis.key",
             "--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "no"]
    return Stack(redis_flags=flags, config={"redis": {"url": f"rediss://{host}:{port}"}},
                 env={"SSL_CERT_FILE": str(folder / "ca.pem")} if trusts else None)


@contextlib.contextmanager
def running(stack):
    """None where the build has no TLS for Redis: then it has to say so and not to start."""
    try:
        stack.__enter__()
    except AssertionError as error:
        assert "this build has no TLS for Redis" in str(error) and stack.broker.popen.returncode == 2
        yield None
        return
    try:
        yield stack
    finally:
        stack.__exit__(None, None, None)


def test_the_right_name_is_served(certificates):
    with running(tls_stack(certificates, "localhost")) as stack:
        if stack:
            api = stack.api()
            assert api.finish(api.submit()["id"])["status"] == "succeeded"


@pytest.mark.parametrize("host,trusts,alert", [("127.0.0.1", True, "bad certificate"), ("localhost", False, "unknown ca")])
def test_another_name_or_authority_is_refused(certificates, host, trusts, alert):
    stack = tls_stack(certificates, host, trusts)
    stack.wait_ready = lambda: None
    with running(stack) as there:
        if there:
            eventually(lambda: f"alert {alert}" in stack.redis.log(), 10, "Redis is told why")
            assert http_call(stack.origin, "GET", "/readyz")[0] == 503

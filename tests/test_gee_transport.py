"""Bytes over sockets that misbehave: deadlines, lengths, encodings, and what is left open."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gee.allocator import keep_memory
from gee.errors import SessionError
from gee.transport import MAX_ERROR_BYTES, BrokenError, OversizeError, Transport

Reply = Callable[[socket.socket], None]


@contextmanager
def answering(*replies: Reply) -> Iterator[tuple[str, list[int]]]:
    """A server that answers request after request as told; yields its address and the ports that asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    ports: list[int] = []
    pending = list(replies)

    def converse(connection: socket.socket, port: int) -> None:
        with connection:
            while pending:
                received = b""
                while b"\r\n\r\n" not in received:
                    part = connection.recv(65536)
                    if not part:
                        return
                    received += part
                ports.append(port)
                try:
                    pending.pop(0)(connection)
                except OSError:  # the client has gone
                    return

    def run() -> None:
        while True:
            try:
                connection, (_, port) = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection, port), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", ports
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def reply(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> Reply:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + body)


def bare(head: str, *parts: bytes, pause_s: float = 0.0) -> Reply:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head.encode() + b"\r\n\r\n")
        for part in parts:
            time.sleep(pause_s)
            connection.sendall(part)
        connection.shutdown(socket.SHUT_RDWR)

    return answer


def get(url: str, timeout_s: float = 5.0, max_bytes: int = 10**6) -> bytes:
    transport = Transport(url, 2)
    try:
        return transport.send("GET", "/x", None, {}, timeout_s=timeout_s, max_bytes=max_bytes).body
    finally:
        transport.close()


def test_a_connection_is_kept_for_the_next_request() -> None:
    with answering(reply(b"a" * 10**6), reply(b"b", status="404 Not Found"), reply(b"")) as (url, ports):
        transport = Transport(url, 1)
        answers = [transport.send("GET", "/", None, {}, timeout_s=5, max_bytes=10**6) for _ in range(3)]
        transport.close()
    assert [(answer.status, len(answer.body)) for answer in answers] == [(200, 10**6), (404, 1), (200, 0)]
    assert len(set(ports)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        bare("HTTP/1.1 200 OK", b"abc", b"def"),
        bare("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"),
        reply(gzip.compress(b"abcdef"), "Content-Encoding: gzip"),
        reply(b"abcdef", "Connection: close"),
    ],
)
def test_however_a_body_is_sent(answer: Reply) -> None:
    with answering(answer) as (url, _):
        assert get(url) == b"abcdef"


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"abc", length=6, status="200 OK\r\nConnection: close"),
        bare("HTTP/1.1 200 OK\r\nContent-Length: 6", b"abc"),
        bare("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"3\r\nabc\r\n"),
        bare("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 26", gzip.compress(b"abcdef")[:20]),
        bare("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"no gzip"),
        bare("nonsense"),
        lambda connection: connection.shutdown(socket.SHUT_RDWR),
    ],
)
def test_half_an_answer_is_none(answer: Reply) -> None:
    with answering(answer) as (url, _), pytest.raises(BrokenError):
        get(url, timeout_s=2.0)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"x" * 101),
        bare("HTTP/1.1 200 OK", b"x" * 101),
        bare("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n"),
        reply(gzip.compress(b"x" * 50_000_000), "Content-Encoding: gzip"),
        reply(b"", length=10**12),
    ],
)
def test_a_body_that_is_too_long_is_refused(answer: Reply) -> None:
    with answering(answer) as (url, _), pytest.raises(OversizeError, match="longer than the 100 bytes"):
        get(url, max_bytes=100)


def test_of_an_error_only_the_beginning_is_read() -> None:
    with answering(reply(b"x" * (MAX_ERROR_BYTES + 1), status="500 Internal Server Error")) as (url, _):
        assert len(get(url)) == MAX_ERROR_BYTES


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 100",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100",
    ],
)
def test_the_deadline_is_of_the_whole_and_not_of_each_byte(head: str) -> None:
    started = time.monotonic()
    with answering(bare(head, *[b"x"] * 100, pause_s=0.05)) as (url, _):
        with pytest.raises(BrokenError, match=r"no whole answer within 0\.4 s"):
            get(url, timeout_s=0.4)
        assert 0.4 <= time.monotonic() - started < 4


def test_an_answer_that_never_comes_and_one_that_stops() -> None:
    for answer in (lambda _: time.sleep(6), bare("HTTP/1.1 200 OK\r\nContent-Length: 9", b"", b"x", pause_s=6)):
        started = time.monotonic()
        with answering(answer) as (url, _), pytest.raises(BrokenError, match=r"no whole answer within 0\.3 s"):
            get(url, timeout_s=0.3)
        assert time.monotonic() - started < 5


def test_after_a_broken_answer_the_next_is_whole() -> None:
    slow = bare("HTTP/1.1 200 OK\r\nContent-Length: 100", b"x", pause_s=0.3)
    with answering(slow, reply(b"abc")) as (url, ports):
        transport = Transport(url, 1)
        with pytest.raises(BrokenError):
            transport.send("GET", "/", None, {}, timeout_s=0.2, max_bytes=100)
        assert transport.send("GET", "/", None, {}, timeout_s=5, max_bytes=100).body == b"abc"
        transport.close()
    assert len(set(ports)) == 2, "a connection with half an answer in it is not used again"


def test_redirects_are_not_followed() -> None:
    with answering(reply(b"", "Location: http://127.0.0.1:9/", status="302 Found")) as (url, ports):
        transport = Transport(url, 1)
        assert transport.send("GET", "/", None, {}, timeout_s=5, max_bytes=10).status == 302
        transport.close()
    assert len(ports) == 1


def test_a_proxy_is_asked_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(reply(b"from the proxy"), reply(b"itself")) as (url, _):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        assert get("http://earthengine.example") == b"from the proxy"
        assert get(url) == b"itself"


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "ftp://host"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SessionError, match="is no address"):
        Transport(url, 1)


SCRIPT = """
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from gee.session import SessionConfig, connect
config = SessionConfig(sys.argv[1], "p", timeout_s=60.0)
session = connect(config)
assert session.fetch("GET", "/x") == b"one"
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        other = connect(config)
        assert other is not session, "connections are not shared with the parent"
        os._exit(0 if other.fetch("GET", "/x") == b"two" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    threading.Thread(target=session.fetch, args=("GET", "/x"), daemon=True).start()
    time.sleep(0.2)
"""


@pytest.mark.parametrize("way", ["fork", "exit with a request under way"])
def test_a_process_may_fork_and_may_end(way: str) -> None:
    last = reply(b"two") if way == "fork" else lambda _: time.sleep(20)
    with answering(reply(b"one"), last) as (url, _):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT, url, way],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_allocator_can_be_told() -> None:
    assert keep_memory() in {True, False}
    assert keep_memory() is keep_memory()

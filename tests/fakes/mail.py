"""Listeners that take what is sent to people: a mail server, a webhook and Slack, each in a thread on a loopback port."""

from __future__ import annotations

import datetime as dt
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Inbox:
    """What has arrived."""

    port: int
    mails: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Inbox]:
    """Speaks as much SMTP as it takes to receive mail; any password will do."""

    answers = {"QUIT": "221 bye", "EHLO": "250-here\r\n250 AUTH PLAIN", "AUTH": "235 welcome"}

    class Dialogue(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "DATA":
                    self._say("354 go on")
                    text = ""
                    while (part := self.rfile.readline().decode()) != ".\r\n":
                        text += part
                    inbox.mails.append(text)
                self._say(answers.get(word, "250 well"))
                if word == "QUIT":
                    return

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dialogue) as server:
        server.daemon_threads, server.block_on_close = True, False
        inbox = Inbox(server.server_address[1])
        with _served(server):
            yield inbox


@contextmanager
def webhook() -> Iterator[Inbox]:
    """Takes JSON by POST."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            inbox.calls.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.block_on_close = False
        inbox = Inbox(server.server_address[1])
        with _served(server):
            yield inbox


@contextmanager
def slack(folder: Path) -> Iterator[tuple[Inbox, dict[str, str]]]:
    """Slack's incoming webhooks behind a proxy, as `hooks.slack.com` over TLS with a certificate of its own.

    Also yields the variables with which a process finds the proxy and trusts the certificate, written into `folder`.
    """
    chain = _certificate("hooks.slack.com", folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with context.wrap_socket(self.connection, server_side=True) as inside:
                self.rfile, self.wfile = inside.makefile("rb"), inside.makefile("wb", buffering=0)
                self.handle_one_request()
            self.close_connection = True

        def do_POST(self) -> None:
            inbox.calls.append({"path": self.path, **json.loads(self.rfile.read(int(self.headers["content-length"])))})
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.block_on_close = False
        inbox = Inbox(server.server_address[1])
        with _served(server):
            yield inbox, {"HTTPS_PROXY": f"http://127.0.0.1:{inbox.port}", "REQUESTS_CA_BUNDLE": str(chain)}


def _certificate(host: str, folder: Path) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = folder / f"{host}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()

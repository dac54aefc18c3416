"""flows/storage.py over a real socket to the local stand-in: conditional writes, checksums, errors with the address."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes.servers import serve

from flows.errors import ServiceError
from flows.storage import ObjectNotFoundError, PreconditionFailedError, Store, split_uri
from infra.local.storage import create_app


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(create_app(tmp_path_factory.mktemp("bucket"))) as address:
        yield address


@pytest.fixture
def store(endpoint: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    name = "t" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    with Store(f"gs://{name}", endpoint, retry_s=2.0) as opened:
        opened.ensure_bucket()
        yield opened


def test_what_is_written_is_read_back_with_its_generation(store: Store) -> None:
    uri = f"{store.bucket_url}/a/ü b.json"
    generation = store.write_bytes(uri, b"{}", "application/json")
    assert store.read_with_generation(uri) == (b"{}", generation)
    assert store.read_bytes(uri) == b"{}"
    assert store.exists(uri)


def test_a_missing_object_has_generation_zero(store: Store) -> None:
    uri = f"{store.bucket_url}/none"
    assert store.read_with_generation(uri) == (b"", 0)
    assert not store.exists(uri)
    with pytest.raises(ObjectNotFoundError, match=r"none is not in the bucket at http://127\.0\.0\.1"):
        store.read_bytes(uri)
    store.delete(uri)


def test_a_conditional_write_goes_over_the_expected_generation_only(store: Store) -> None:
    uri = f"{store.bucket_url}/doc"
    first = store.write_bytes(uri, b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailedError, match="written by somebody else"):
        store.write_bytes(uri, b"2", if_generation_match=0)
    second = store.write_bytes(uri, b"2", if_generation_match=first)
    with pytest.raises(PreconditionFailedError):
        store.write_bytes(uri, b"3", if_generation_match=first)
    assert store.read_with_generation(uri) == (b"2", second)


def test_of_many_writers_at_once_exactly_one_wins(store: Store) -> None:
    uri = f"{store.bucket_url}/contested"

    def write(writer: int) -> bool:
        try:
            store.write_bytes(uri, str(writer).encode(), if_generation_match=0)
        except PreconditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert store.read_bytes(uri) == str(won.index(True)).encode()


def test_an_upload_can_be_repeated_but_never_overwrites(store: Store, tmp_path: Path) -> None:
    path, uri = tmp_path / "x.bin", f"{store.bucket_url}/x.bin"
    path.write_bytes(b"x" * 3_000_000)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    generation = store.upload_file(path, uri, "application/octet-stream", sha256)
    assert store.upload_file(path, uri, "application/octet-stream", sha256) == generation
    path.write_bytes(b"y")
    with pytest.raises(PreconditionFailedError):
        store.upload_file(path, uri, "application/octet-stream", hashlib.sha256(b"y").hexdigest())
    store.download_file(uri, tmp_path / "back.bin")
    assert hashlib.sha256((tmp_path / "back.bin").read_bytes()).hexdigest() == sha256


def test_a_listing_tells_size_and_checksum(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    store.upload_file(tmp_path / "f", f"{store.bucket_url}/p/f", "text/plain", "5ha")
    store.write_bytes(f"{store.bucket_url}/p/g", b"")
    store.write_bytes(f"{store.bucket_url}/q", b"")
    found = store.list(f"{store.bucket_url}/p/")
    assert [(info.uri.rpartition("/")[2], info.size, info.sha256) for info in found] == [("f", 3, "5ha"), ("g", 0, "")]
    store.delete(found[0].uri)
    assert len(store.list(f"{store.bucket_url}/p/")) == 1


def test_a_document_that_is_too_large_is_not_read(store: Store) -> None:
    uri = f"{store.bucket_url}/large"
    store.write_bytes(uri, b"x" * 1001)
    with pytest.raises(ServiceError, match=r"large at .* has more than the 1000 bytes expected"):
        store.read_bytes(uri, max_bytes=1000)


def test_an_unreachable_service_is_named_soon() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Store("gs://bucket", address, retry_s=0.5) as store, pytest.raises(ServiceError, match=address):
        store.read_bytes("gs://bucket/x")


def test_a_bucket_that_does_not_exist_is_named(endpoint: str) -> None:
    with Store("gs://no-such-bucket", endpoint, retry_s=0.5) as store:
        with pytest.raises(ServiceError, match="no-such-bucket"):
            store.check()
        store.ensure_bucket()
        store.check()
        store.ensure_bucket()


@pytest.mark.parametrize("uri", ["s3://bucket/x", "/tmp/x", "gs://", "gs://UPPER/x"])
def test_an_address_of_something_else_is_refused(uri: str) -> None:
    with pytest.raises(ServiceError, match="write gs://bucket/name"):
        split_uri(uri)


def test_an_object_of_another_bucket_is_refused(store: Store) -> None:
    with pytest.raises(ServiceError, match="not an object in the bucket"):
        store.read_bytes("gs://elsewhere/x")

"""The Cloud Storage stand-in, through real sockets and with the real clients."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import rasterio
from fakes.servers import HTTP, serve, serve_process

from infra.local.storage import create_app
from infra.local.storage.media import byte_range
from infra.local.storage.model import StorageError
from infra.local.storage.store import ObjectStore

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
os.environ["NO_GCE_CHECK"] = "true"

BUCKET = "quakeslide"
# gcsfs hands bodies to aiohttp as bytes
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly with raw bytes:ResourceWarning")
HOSTILE_NAMES = [
    "../../outside.txt",
    "/etc/passwd",
    "a/../../b",
    "a//b/./c",
    "~/x",
    "C:\\windows\\system32",
    "%2e%2e%2fescape",
    "q?x=1&y=2#z",
    "ünï/çø∂é/日本語 𓀀",
    "n" * 1024,
    "b/quakeslide/o/other",
    "x/rewriteTo/b/y/o/z",
    "index.sqlite",
]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve(create_app(tmp_path / "store")) as address:
        assert HTTP.post(f"{address}/storage/v1/b", params={"project": "local"}, json={"name": BUCKET}).is_success
        yield address


@pytest.fixture
def fs(url: str) -> Any:
    import gcsfs

    return gcsfs.GCSFileSystem(token="anon", endpoint_url=url, project="local", use_listings_cache=False)


def put(url: str, name: str, content: bytes, **query: str) -> httpx.Response:
    query = {"uploadType": "media", "name": name, **query}
    return HTTP.post(f"{url}/upload/storage/v1/b/{BUCKET}/o", params=query, content=content)


def at(url: str, name: str) -> str:
    return f"{url}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"


def content(url: str, name: str, **headers: str) -> httpx.Response:
    return HTTP.get(at(url, name), params={"alt": "media"}, headers=headers)


def listed(url: str, **query: str) -> dict[str, Any]:
    return dict(HTTP.get(f"{url}/storage/v1/b/{BUCKET}/o", params=query).raise_for_status().json())


# ---- gcsfs


def test_gcsfs_reads_what_it_wrote_small_and_in_several_chunks(fs: Any) -> None:
    fs.pipe(f"{BUCKET}/a/small.bin", b"hello")
    large = random.Random(1).randbytes(3 * 2**20 + 17)
    with fs.open(f"{BUCKET}/a/large.bin", "wb", block_size=2**20) as file:
        file.write(large)
    with fs.open(f"{BUCKET}/a/empty", "wb"):
        pass

    assert fs.cat(f"{BUCKET}/a/small.bin") == b"hello"
    assert fs.cat(f"{BUCKET}/a/large.bin") == large
    assert fs.cat_file(f"{BUCKET}/a/large.bin", start=2**20 - 1, end=2**20 + 3) == large[2**20 - 1 : 2**20 + 3]
    assert fs.cat_file(f"{BUCKET}/a/large.bin", start=-10) == large[-10:]
    assert fs.info(f"{BUCKET}/a/empty")["size"] == 0
    assert sorted(fs.ls(f"{BUCKET}/a", detail=False)) == [
        f"{BUCKET}/a/{n}" for n in ("empty", "large.bin", "small.bin")
    ]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r", b"\r\n\r\n", b"--", b""])
def test_the_last_bytes_of_an_upload_are_kept_whatever_they_are(fs: Any, url: str, end: bytes) -> None:
    """gcsfs ends the lines of its upload with \\n, Google's client with \\r\\n: neither may eat what comes before."""
    content = end + b"chunk" + end
    fs.pipe_file(f"{BUCKET}/by-gcsfs", content)
    client = official_client(url)
    client.bucket(BUCKET).blob("by-google").upload_from_string(content)
    assert fs.cat_file(f"{BUCKET}/by-gcsfs") == content
    assert fs.cat_file(f"{BUCKET}/by-google") == content


def test_gcsfs_copies_moves_finds_and_removes(fs: Any) -> None:
    fs.pipe({f"{BUCKET}/d/{i}": bytes([i]) for i in range(5)})
    fs.cp(f"{BUCKET}/d/1", f"{BUCKET}/e/one")
    fs.mv(f"{BUCKET}/d/2", f"{BUCKET}/e/two")
    assert fs.find(BUCKET) == [f"{BUCKET}/{n}" for n in ("d/0", "d/1", "d/3", "d/4", "e/one", "e/two")]
    assert fs.cat(f"{BUCKET}/e/two") == b"\x02"
    assert fs.glob(f"{BUCKET}/*/[1o]*") == [f"{BUCKET}/d/1", f"{BUCKET}/e/one"]
    fs.rm(f"{BUCKET}/d", recursive=True)
    assert fs.find(BUCKET) == [f"{BUCKET}/e/one", f"{BUCKET}/e/two"]
    assert not fs.exists(f"{BUCKET}/d")


def test_gcsfs_create_mode_refuses_an_existing_object(fs: Any) -> None:
    with fs.open(f"{BUCKET}/once", "xb") as file:
        file.write(b"first")
    with pytest.raises((FileExistsError, OSError)), fs.open(f"{BUCKET}/once", "xb") as file:
        file.write(b"second")
    assert fs.cat(f"{BUCKET}/once") == b"first"


def test_gcsfs_keeps_its_own_metadata(fs: Any) -> None:
    with fs.open(f"{BUCKET}/m", "wb", metadata={"hash": "abc"}, content_type="image/tiff") as file:
        file.write(b"x")
    info = fs.info(f"{BUCKET}/m")
    assert (info["metadata"], info["contentType"]) == ({"hash": "abc"}, "image/tiff")
    fs.setxattrs(f"{BUCKET}/m", more="1")
    assert fs.info(f"{BUCKET}/m")["metadata"] == {"hash": "abc", "more": "1"}


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_a_sharded_zarr_v3_array_comes_back(url: str, fs: Any) -> None:
    import zarr
    from zarr.storage import FsspecStore

    options = {"token": "anon", "endpoint_url": url, "project": "local", "use_listings_cache": False}
    store = FsspecStore.from_url(f"gs://{BUCKET}/cube.zarr", storage_options=options)
    values = np.arange(3 * 256 * 256, dtype=np.int16).reshape(3, 256, 256)
    array = zarr.create_array(
        store, name="stack", shape=values.shape, chunks=(3, 64, 64), shards=(3, 128, 128), dtype="i2"
    )
    array[:] = values
    again = zarr.open_group(store, mode="r")["stack"]
    np.testing.assert_array_equal(again[:, 60:70, 120:200], values[:, 60:70, 120:200])
    np.testing.assert_array_equal(again[:], values)
    requests = HTTP.get(f"{url}/_standin/log").json()["requests"]
    assert any(r["range"].startswith("bytes=-") and r["status"] == 206 for r in requests), (
        "no suffix range was asked for"
    )


# ---- GDAL


@pytest.fixture
def gdal(tmp_path: Path) -> Iterator[str]:
    with serve_process("infra.local.storage", "--root", str(tmp_path / "store")) as url:
        HTTP.post(f"{url}/storage/v1/b", json={"name": BUCKET})
        options = {
            "CPL_GS_ENDPOINT": f"{url}/",
            "GS_NO_SIGN_REQUEST": "YES",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_NON_CACHED": "/vsigs/",
        }
        with rasterio.Env(**options):
            yield url


def test_gdal_reads_a_window_of_a_cog_without_the_rest(gdal: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 10_000, (1024, 1024), dtype=np.uint16)
    profile = {"driver": "COG", "dtype": "uint16", "count": 1, "width": 1024, "height": 1024, "crs": "EPSG:32654"}
    transform = rasterio.Affine(10, 0, 600_000, 0, -10, 4_700_000)
    with rasterio.open(tmp_path / "c.tif", "w", **profile, transform=transform, blocksize=256) as target:
        target.write(values, 1)
    cog = (tmp_path / "c.tif").read_bytes()
    assert put(gdal, "cogs/c.tif", cog).is_success
    HTTP.delete(f"{gdal}/_standin/log")

    with rasterio.open(f"/vsigs/{BUCKET}/cogs/c.tif", driver="GTiff") as source:
        window = source.read(1, window=((0, 100), (0, 100)))
    np.testing.assert_array_equal(window, values[:100, :100])
    sent = sum(r["bytes_out"] for r in HTTP.get(f"{gdal}/_standin/log").json()["requests"] if r["method"] == "GET")
    assert 0 < sent < len(cog) / 2


def test_gdal_writes_to_the_bucket(gdal: str) -> None:
    values = np.random.default_rng(2).random((64, 64), dtype=np.float32)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "width": 64, "height": 64, "crs": "EPSG:4326"}
    name = f"/vsigs/{BUCKET}/w/t.tif"
    with (
        rasterio.Env(CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE="YES"),
        rasterio.open(name, "w", **profile, transform=rasterio.Affine(0.1, 0, 140, 0, -0.1, 40)) as target,
    ):
        target.write(values, 1)
    with rasterio.open(name, driver="GTiff") as source:
        np.testing.assert_array_equal(source.read(1), values)


# ---- google-cloud-storage


def official_client(url: str) -> Any:
    storage = pytest.importorskip("google.cloud.storage", reason="google-cloud-storage is not installed")
    from google.auth.credentials import AnonymousCredentials

    return storage.Client(project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


def test_the_official_client_uploads_checks_and_batches(url: str) -> None:
    client = official_client(url)
    from google.api_core.exceptions import NotFound, PreconditionFailed

    bucket = client.bucket(BUCKET)
    bucket.blob("v/1").upload_from_string("one", content_type="text/plain", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("v/1").upload_from_string("two", if_generation_match=0)
    blob = bucket.get_blob("v/1")
    assert (blob.download_as_bytes(), blob.content_type, blob.metageneration) == (b"one", "text/plain", 1)
    large = bucket.blob("v/large", chunk_size=256 * 1024)
    large.upload_from_string(bytes(700_000))
    assert large.download_as_bytes() == bytes(700_000)
    joined = bucket.blob("v/joined")
    joined.compose([blob, blob])
    assert joined.download_as_text() == "oneone"
    assert [b.name for b in client.list_blobs(BUCKET, prefix="v/", page_size=1)] == ["v/1", "v/joined", "v/large"]
    with client.batch():
        for name in ("v/1", "v/joined"):
            bucket.blob(name).delete()
    assert [b.name for b in client.list_blobs(BUCKET)] == ["v/large"]
    with pytest.raises(NotFound):
        bucket.blob("v/1").delete()


# ---- preconditions


def test_generation_zero_means_must_not_exist(url: str) -> None:
    first = put(url, "latest.json", b"1", ifGenerationMatch="0").raise_for_status().json()
    assert put(url, "latest.json", b"2", ifGenerationMatch="0").status_code == 412
    second = put(url, "latest.json", b"2", ifGenerationMatch=first["generation"]).raise_for_status().json()
    assert int(second["generation"]) > int(first["generation"])
    assert put(url, "latest.json", b"3", ifGenerationMatch=first["generation"]).status_code == 412
    assert content(url, "latest.json").content == b"2"


def test_one_of_many_simultaneous_conditional_writers_wins(url: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda i: put(url, "lock", bytes([i]), ifGenerationMatch="0").status_code, range(48)))
    assert sorted(set(codes)) == [200, 412]
    assert codes.count(200) == 1
    assert content(url, "lock").content == bytes([codes.index(200)])


def test_metageneration_and_not_match(url: str) -> None:
    meta = put(url, "o", b"x").json()
    patched = HTTP.patch(at(url, "o"), json={"metadata": {"k": "v"}}, params={"ifMetagenerationMatch": "1"}).json()
    assert (patched["metageneration"], patched["generation"]) == ("2", meta["generation"])
    assert patched["etag"] != meta["etag"]
    assert HTTP.patch(at(url, "o"), json={}, params={"ifMetagenerationMatch": "1"}).status_code == 412
    assert HTTP.get(at(url, "o"), params={"ifGenerationNotMatch": meta["generation"]}).status_code == 304
    assert HTTP.delete(at(url, "o"), params={"ifGenerationMatch": "1"}).status_code == 412
    assert HTTP.delete(at(url, "o"), params={"ifGenerationMatch": meta["generation"]}).status_code == 204
    assert put(url, "o", b"y", ifGenerationNotMatch="0").status_code == 412
    assert put(url, "o", b"y", ifGenerationMatch="soon").status_code == 400


def test_copies_and_moves_keep_to_their_conditions(url: str) -> None:
    source = put(url, "s", b"source").json()
    put(url, "t", b"target")
    rewrite = f"{at(url, 's')}/rewriteTo/b/{BUCKET}/o/t"
    assert HTTP.post(rewrite, params={"ifGenerationMatch": "0"}).status_code == 412
    assert HTTP.post(rewrite, params={"ifSourceGenerationMatch": "1"}).status_code == 412
    assert content(url, "t").content == b"target"
    done = HTTP.post(rewrite, params={"ifSourceGenerationMatch": source["generation"]}).json()
    assert (done["done"], done["resource"]["md5Hash"]) == (True, source["md5Hash"])
    assert HTTP.post(f"{at(url, 's')}/moveTo/o/u", params={"ifGenerationMatch": "0"}).is_success
    assert content(url, "s").status_code == 404
    assert content(url, "u").content == content(url, "t").content == b"source"


def test_wrong_checksums_are_refused(url: str) -> None:
    body = (
        b'--x\r\nContent-Type: application/json\r\n\r\n{"name": "c", "md5Hash": "%b"}\r\n--x\r\n\r\ndata\r\n--x--\r\n'
    )
    upload = f"{url}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart"
    kind = {"content-type": "multipart/related; boundary=x"}
    wrong, right = (base64.b64encode(hashlib.md5(text).digest()) for text in (b"other", b"data"))
    assert HTTP.post(upload, content=body % wrong, headers=kind).status_code == 400
    assert content(url, "c").status_code == 404
    assert HTTP.post(upload, content=body % right, headers=kind).status_code == 200
    assert HTTP.post(upload, content=(body % right)[:-6], headers=kind).status_code == 400


# ---- ranges and headers


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=2-4", (2, 5)),
        ("bytes=2-400", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
    ],
)
def test_byte_range(header: str | None, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_outside_the_content_is_refused(header: str, size: int) -> None:
    with pytest.raises(StorageError) as caught:
        byte_range(header, size)
    assert caught.value.status == 416


@pytest.mark.parametrize(
    "path", ["/storage/v1/b/{b}/o/r?alt=media", "/download/storage/v1/b/{b}/o/r?alt=media", "/{b}/r"]
)
def test_media_carries_ranges_validators_and_hashes(url: str, path: str) -> None:
    meta = put(url, "r", b"0123456789").json()
    address = url + path.format(b=BUCKET)
    part = HTTP.get(address, headers={"Range": "bytes=-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"6789", "bytes 6-9/10")
    assert part.headers["x-goog-generation"] == meta["generation"]
    assert f"md5={meta['md5Hash']}" in part.headers["x-goog-hash"]
    assert "last-modified" in part.headers
    head = HTTP.head(address)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")
    assert HTTP.get(address, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert HTTP.get(address, headers={"If-Match": '"other"'}).status_code == 412
    assert HTTP.get(address, headers={"Range": "bytes=10-"}).status_code == 416


def test_a_large_object_is_streamed_whole_and_in_part(url: str) -> None:
    data = random.Random(2).randbytes(5 * 2**20)
    put(url, "big", data)
    assert content(url, "big").content == data
    part = content(url, "big", Range=f"bytes=100-{3 * 2**20}")
    assert part.content == data[100 : 3 * 2**20 + 1]


# ---- listings


def test_listing_folds_by_delimiter_and_pages_through_everything(url: str) -> None:
    names = ["a", "b/1", "b/2/x", "b/2/y", "b/", "b!", "c/z", "d"]
    for name in names:
        put(url, name, b"")
    page = listed(url, delimiter="/")
    assert [item["name"] for item in page["items"]] == ["a", "b!", "d"]
    assert page["prefixes"] == ["b/", "c/"]
    assert listed(url, prefix="b/2/", delimiter="/").get("prefixes") is None
    inside = listed(url, prefix="b/", delimiter="/")
    assert ([i["name"] for i in inside["items"]], inside["prefixes"]) == (["b/", "b/1"], ["b/2/"])

    seen, token = [], ""
    for _ in range(20):
        page = listed(url, delimiter="/", maxResults="1", pageToken=token)
        seen += [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
        if not (token := page.get("nextPageToken", "")):
            break
    assert seen == ["a", "b!", "b/", "c/", "d"]
    assert [i["name"] for i in listed(url, startOffset="b/2", endOffset="c/z")["items"]] == ["b/2/x", "b/2/y"]
    assert HTTP.get(f"{url}/storage/v1/b/{BUCKET}/o", params={"pageToken": "!"}).status_code == 400


def test_the_xml_listing_says_the_same(url: str) -> None:
    from xml.etree import ElementTree

    for name in ("a", "b/1", "b/2"):
        put(url, name, b"xy")
    text = HTTP.get(f"{url}/{BUCKET}", params={"list-type": "2", "delimiter": "/", "max-keys": "1"}).text
    root = ElementTree.fromstring(text)
    space = {"s": "http://doc.s3.amazonaws.com/2006-03-01"}
    assert [n.text for n in root.findall("s:Contents/s:Key", space)] == ["a"]
    token = root.findtext("s:NextContinuationToken", namespaces=space)
    text = HTTP.get(
        f"{url}/{BUCKET}", params={"list-type": "2", "delimiter": "/", "continuation-token": token or ""}
    ).text
    assert [n.text for n in ElementTree.fromstring(text).findall("s:CommonPrefixes/s:Prefix", space)] == ["b/"]


# ---- hostile names, hosts and bodies


def test_hostile_names_stay_inside_the_store(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "store"
    with serve(create_app(root)) as url:
        HTTP.post(f"{url}/storage/v1/b", json={"name": BUCKET})
        for name in HOSTILE_NAMES:
            assert put(url, name, name.encode()).is_success, name
        for name in HOSTILE_NAMES:
            assert content(url, name).content == name.encode()
        assert [item["name"] for item in listed(url)["items"]] == sorted(HOSTILE_NAMES, key=str.encode)
    assert [p.name for p in tmp_path.rglob("*") if root not in p.parents and p != root] == ["deep"]
    assert all(len(p.name) == 32 for p in (root / "blobs").iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\0b", "n" * 1025, "ü" * 600])
def test_impossible_names_are_refused(url: str, name: str) -> None:
    assert put(url, name, b"x").status_code == 400
    assert "items" not in listed(url)


@pytest.mark.parametrize("bucket", ["..", "storage", "A", "x", "a/b", ""])
def test_impossible_buckets_are_refused(url: str, bucket: str) -> None:
    assert HTTP.post(f"{url}/storage/v1/b", json={"name": bucket}).status_code == 400


def test_a_foreign_host_header_is_refused(url: str) -> None:
    assert HTTP.get(f"{url}/storage/v1/b", headers={"Host": "evil.example:80"}).status_code == 403


def test_unknown_buckets_and_objects_are_404_in_both_styles(url: str) -> None:
    answer = HTTP.get(f"{url}/storage/v1/b/nobody/o")
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (404, "notFound")
    assert "<Code>NoSuchKey</Code>" in HTTP.get(f"{url}/{BUCKET}/none").text
    assert "<Code>NoSuchBucket</Code>" in HTTP.get(f"{url}/nobody/none").text
    assert HTTP.delete(f"{url}/storage/v1/b/nobody").status_code == 404
    put(url, "x", b"")
    assert HTTP.delete(f"{url}/storage/v1/b/{BUCKET}").status_code == 409


# ---- uploads in several requests


def start_resumable(url: str, name: str) -> str:
    query = {"uploadType": "resumable", "name": name}
    return HTTP.post(f"{url}/upload/storage/v1/b/{BUCKET}/o", params=query, json={}).headers["location"]


def test_a_resumable_upload_keeps_whole_chunks_and_skips_what_it_has(url: str) -> None:
    data = random.Random(3).randbytes(600_000)
    session = start_resumable(url, "res")
    answer = HTTP.put(session, content=data[:300_000], headers={"Content-Range": "bytes 0-299999/*"})
    assert (answer.status_code, answer.headers["range"]) == (308, "bytes=0-262143")
    assert HTTP.put(session, content=b"", headers={"Content-Range": "bytes */*"}).headers["range"] == "bytes=0-262143"
    assert HTTP.put(session, content=b"x", headers={"Content-Range": "bytes 400000-400000/*"}).status_code == 400
    assert content(url, "res").status_code == 404
    answer = HTTP.put(session, content=data[200_000:], headers={"Content-Range": "bytes 200000-599999/600000"})
    assert answer.json()["size"] == "600000"
    again = HTTP.put(session, content=b"", headers={"Content-Range": "bytes */600000"})
    assert again.json()["generation"] == answer.json()["generation"]
    assert content(url, "res").content == data


def test_a_cancelled_upload_is_gone(url: str) -> None:
    session = start_resumable(url, "gone")
    assert HTTP.delete(session).status_code == 499
    assert HTTP.put(session, content=b"x").status_code == 404


def test_an_xml_multipart_upload(url: str) -> None:
    address = f"{url}/{BUCKET}/mp"
    upload_id = HTTP.post(f"{address}?uploads").text.split("<UploadId>")[1].split("<")[0]
    for number, text in ((2, b"world"), (1, b"hello ")):
        HTTP.put(address, params={"partNumber": number, "uploadId": upload_id}, content=text).raise_for_status()
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber></Part>" for n in (1, 2, 3))
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    assert HTTP.post(address, params={"uploadId": upload_id}, content=body).status_code == 400
    body = body.replace("<Part><PartNumber>3</PartNumber></Part>", "")
    assert HTTP.post(address, params={"uploadId": upload_id}, content=body).is_success
    assert HTTP.get(address).content == b"hello world"


def test_a_client_that_goes_away_in_mid_upload_leaves_nothing(url: str, tmp_path: Path) -> None:
    put(url, "partial", b"before")
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0)) as client:
        head = f"POST /upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=partial HTTP/1.1\r\n"
        client.sendall(f"{head}Host: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 300_000)
        time.sleep(0.2)
        assert len(list((tmp_path / "store" / "blobs").iterdir())) == 2, "the upload is under way"
    deadline = time.monotonic() + 10
    while len(list((tmp_path / "store" / "blobs").iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list((tmp_path / "store" / "blobs").iterdir())) == 1
    assert content(url, "partial").content == b"before"


# ---- being killed


class Server:
    """The stand-in as a process of its own."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "infra.local.storage", "--root", str(root), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = str(json.loads(self.process.stdout.readline())["url"])

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


def keep_writing(
    base: str, worker: int, stop: threading.Event, pending: dict[int, tuple[str, bytes]], acknowledged: dict[str, bytes]
) -> None:
    """Overwrite a few objects again and again until the server dies; `pending` is what may or may not have arrived."""
    while not stop.is_set():
        name, data = f"{worker}/{random.randrange(12)}", random.randbytes(random.randrange(400_000))
        pending[worker] = (name, hashlib.md5(data).digest())
        try:
            put(base, name, data).raise_for_status()
        except httpx.HTTPError:
            return
        acknowledged[name] = hashlib.md5(data).digest()


def test_a_kill_loses_nothing_acknowledged_and_shows_nothing_half(tmp_path: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    for round_number in range(2):
        server = Server(tmp_path)
        HTTP.post(f"{server.url}/storage/v1/b", json={"name": BUCKET})
        session = start_resumable(server.url, f"resumed-{round_number}")
        half = {"Content-Range": "bytes 0-524287/524289"}
        assert HTTP.put(session, content=b"r" * 524_288, headers=half).status_code == 308
        stop = threading.Event()
        pending: dict[int, tuple[str, bytes]] = {}

        jobs = [(server.url, worker, stop, pending, acknowledged) for worker in range(4)]
        threads = [threading.Thread(target=keep_writing, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        server.end(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join(20)

        server = Server(tmp_path)
        items = [item for item in listed(server.url)["items"] if "/" in item["name"]]
        in_doubt = dict(pending.values())
        assert set(acknowledged) <= {item["name"] for item in items} <= set(acknowledged) | set(in_doubt)
        for item in items:
            found = hashlib.md5(content(server.url, item["name"]).content).digest()
            assert base64.b64encode(found).decode() == item["md5Hash"]
            assert found in (acknowledged.get(item["name"]), in_doubt.get(item["name"]))
            acknowledged[item["name"]] = found
        session = session.replace(session.split("/upload")[0], server.url)
        rest = HTTP.put(session, content=b"r", headers={"Content-Range": "bytes 524288-524288/524289"})
        assert rest.json()["size"] == "524289"
        assert len(list((tmp_path / "blobs").iterdir())) == len(listed(server.url)["items"])
        server.end(signal.SIGTERM)
    assert len(acknowledged) > 8


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    with pytest.raises(StorageError, match="in use"):
        ObjectStore(tmp_path)
    command = [sys.executable, "-m", "infra.local.storage", "--root", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (second.returncode, second.stdout) == (2, "")
    assert len(second.stderr.splitlines()) == 1
    store.close()
    ObjectStore(tmp_path).close()


# ---- faults


def test_planted_faults_hit_the_requests_they_name_and_are_logged(url: str) -> None:
    put(url, "f", b"0123456789")
    fault = {"match": "/o/f$", "method": "GET", "status": 503, "count": 2, "headers": {"Retry-After": "1"}}
    assert HTTP.post(f"{url}/_standin/faults", json=fault).status_code == 204
    assert [content(url, "f").status_code for _ in range(3)] == [503, 503, 200]
    HTTP.post(f"{url}/_standin/faults", json={"match": "/o/f$", "cut_after": 4, "skip": 1, "delay_s": 0.05})
    assert content(url, "f").is_success
    with pytest.raises(httpx.RemoteProtocolError):
        content(url, "f")
    entries = [e for e in HTTP.get(f"{url}/_standin/log").json()["requests"] if e["path"].endswith("/o/f")]
    assert [e["fault"] for e in entries] == [True, True, False, False, True]
    assert [e["status"] for e in entries] == [503, 503, 200, 200, 200]
    assert HTTP.post(f"{url}/_standin/faults", json={"match": "("}).status_code == 400
    assert HTTP.post(f"{url}/_standin/faults", json={"statsu": 1, "match": "x"}).status_code == 400


def test_a_full_disk_is_said_in_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.local.storage.blobs import BlobWriter

    def full(self: BlobWriter, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlobWriter, "write", full)
    answer = put(url, "x", b"x")
    assert (answer.status_code, "No space is left" in answer.text) == (507, True)
    assert "items" not in listed(url)

"""The XML API: what GDAL's /vsigs/, obstore and icechunk speak."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.ElementTree import fromstring
from starlette.requests import Request
from starlette.responses import Response

from infra.local.standin import read_capped
from infra.local.storage.listing import MAX_RESULTS, ListRequest, Page, list_objects
from infra.local.storage.media import content_response
from infra.local.storage.model import Conditions, NewObject, ObjectMeta, StorageError
from infra.local.storage.resources import timestamp
from infra.local.storage.resumable import Uploads
from infra.local.storage.store import ObjectStore

MAX_XML_BYTES = 1 << 20
_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
_ERROR_CODES = {
    "notFound": "NoSuchKey",
    "conditionNotMet": "PreconditionFailed",
    "requestedRangeNotSatisfiable": "InvalidRange",
    "methodNotAllowed": "MethodNotAllowed",
    "invalidPart": "InvalidPart",
    "insufficientStorage": "InsufficientStorage",
}


class XmlApi:
    """Answers requests of the XML API, whose paths are `/BUCKET` and `/BUCKET/NAME`."""

    def __init__(self, store: ObjectStore, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads

    async def answer(self, request: Request, bucket: str, name: str) -> Response:  # noqa: PLR0911 - a table of routes
        """The answer to a request; raises `StorageError`."""
        if not name:
            return self._bucket(request, bucket)
        query = request.query_params
        match request.method:
            case "GET" | "HEAD":
                generation = int(query["generation"]) if query.get("generation", "").isdigit() else None
                conditions = Conditions.from_headers(request.headers)
                return content_response(request, *self._store.open(bucket, name, conditions, generation))
            case "PUT" if "uploadId" in query:
                number = int(query["partNumber"]) if query.get("partNumber", "").isdigit() else 0
                etag = await self._uploads.part(query["uploadId"], number, request.stream())
                return Response(headers={"ETag": f'"{etag}"'})
            case "PUT" if "x-goog-copy-source" in request.headers:
                return self._copy(request, bucket, name)
            case "PUT":
                return await self._put(request, bucket, name)
            case "POST" if "uploads" in query:
                new = _new_object(bucket, name, request.headers)
                upload_id = self._uploads.start(new, Conditions.from_headers(request.headers))
                return _xml("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": name, "UploadId": upload_id})
            case "POST" if "uploadId" in query:
                meta = await self._uploads.complete(query["uploadId"], await self._part_numbers(request))
                fields = {"Bucket": bucket, "Key": name, "ETag": f'"{meta.etag}"'}
                return _xml("CompleteMultipartUploadResult", fields, _write_headers(meta))
            case "DELETE" if "uploadId" in query:
                self._uploads.cancel(query["uploadId"])
                return Response(status_code=204)
            case "DELETE":
                self._store.delete(bucket, name, Conditions.from_headers(request.headers))
                return Response(status_code=204)
        raise StorageError(405, "methodNotAllowed", f"{request.method} is not possible on an object")

    async def _put(self, request: Request, bucket: str, name: str) -> Response:
        new = _new_object(bucket, name, request.headers)
        self._store.bucket_created(bucket)
        with self._store.writer() as writer:
            async for chunk in request.stream():
                writer.write(chunk)
            meta = self._store.put(new, writer.finish(), Conditions.from_headers(request.headers))
            writer.keep()
        return Response(headers=_write_headers(meta))

    def _copy(self, request: Request, bucket: str, name: str) -> Response:
        source_bucket, _, source_name = unquote(request.headers["x-goog-copy-source"]).lstrip("/").partition("/")
        source = self._store.get(source_bucket, source_name)
        meta = self._store.copy(
            source,
            NewObject(bucket, name, source.attributes, source.metadata),
            Conditions.from_headers(request.headers),
            Conditions.from_headers(request.headers, "x-goog-copy-source-if-"),
        )
        fields = {"LastModified": timestamp(meta.updated), "ETag": f'"{meta.etag}"'}
        return _xml("CopyObjectResult", fields, _write_headers(meta))

    def _bucket(self, request: Request, bucket: str) -> Response:
        if request.method == "HEAD":
            self._store.bucket_created(bucket)
            return Response()
        if request.method != "GET":
            raise StorageError(405, "methodNotAllowed", f"{request.method} is not possible on a bucket")
        query = request.query_params
        after = query.get("start-after") or query.get("marker") or ""
        page = list_objects(
            self._store,
            ListRequest(
                bucket=bucket,
                prefix=query.get("prefix", ""),
                delimiter=query.get("delimiter", ""),
                start=after + "\0" if after else "",
                token=query.get("continuation-token", ""),
                limit=int(query["max-keys"]) if query.get("max-keys", "").isdigit() else MAX_RESULTS,
            ),
        )
        return _listing(bucket, query, page)

    @staticmethod
    async def _part_numbers(request: Request) -> list[int]:
        try:
            root = fromstring(await read_capped(request, MAX_XML_BYTES))
            return [int(node.text or "") for node in root.iter() if node.tag.rpartition("}")[2] == "PartNumber"]
        except (ParseError, ValueError):
            raise StorageError(400, "invalid", "The list of parts is not readable XML.") from None


def error_response(error: StorageError) -> Response:
    """An error as the XML API writes it."""
    code = _ERROR_CODES.get(error.reason, "InvalidArgument")
    if error.reason == "notFound" and "bucket" in error.message:
        code = "NoSuchBucket"
    return _xml("Error", {"Code": code, "Message": error.message}, status=error.status)


def _new_object(bucket: str, name: str, headers: Mapping[str, str]) -> NewObject:
    attributes = {
        attribute: headers[header]
        for attribute, header in (
            ("contentType", "content-type"),
            ("contentEncoding", "content-encoding"),
            ("contentDisposition", "content-disposition"),
            ("contentLanguage", "content-language"),
            ("cacheControl", "cache-control"),
        )
        if header in headers
    }
    metadata = {
        key.removeprefix("x-goog-meta-"): value for key, value in headers.items() if key.startswith("x-goog-meta-")
    }
    hashes = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part)
    md5 = hashes.get("md5", headers.get("content-md5"))
    return NewObject(bucket, name, attributes, metadata, crc32c=hashes.get("crc32c"), md5=md5)


def _write_headers(meta: ObjectMeta) -> dict[str, str]:
    return {
        "ETag": f'"{meta.etag}"',
        "X-Goog-Generation": str(meta.generation),
        "X-Goog-Metageneration": str(meta.metageneration),
        "X-Goog-Hash": f"crc32c={meta.crc32c},md5={meta.md5}",
    }


def _listing(bucket: str, query: Mapping[str, str], page: Page) -> Response:
    root = Element("ListBucketResult", xmlns=_NAMESPACE)
    second_version = query.get("list-type") == "2"
    last = max([meta.name for meta in page.objects[-1:]] + list(page.prefixes[-1:]), default="")
    fields = {
        "Name": bucket,
        "Prefix": query.get("prefix", ""),
        "Delimiter": query.get("delimiter", ""),
        "IsTruncated": str(bool(page.next_token)).lower(),
    }
    if page.next_token:
        fields |= {"NextContinuationToken": page.next_token} if second_version else {"NextMarker": last}
    if second_version:
        fields["KeyCount"] = str(len(page.objects) + len(page.prefixes))
    _fill(root, fields)
    for meta in page.objects:
        _fill(
            SubElement(root, "Contents"),
            {
                "Key": meta.name,
                "Generation": str(meta.generation),
                "MetaGeneration": str(meta.metageneration),
                "LastModified": timestamp(meta.updated),
                "ETag": f'"{meta.etag}"',
                "Size": str(meta.size),
            },
        )
    for prefix in page.prefixes:
        _fill(SubElement(root, "CommonPrefixes"), {"Prefix": prefix})
    return _xml_response(root)


def _fill(parent: Element, fields: Mapping[str, str]) -> None:
    for tag, text in fields.items():
        SubElement(parent, tag).text = text


def _xml(tag: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    root = Element(tag)
    _fill(root, fields)
    return _xml_response(root, headers, status)


def _xml_response(root: Element, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    body = tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(body, status, dict(headers or {}), media_type="application/xml")

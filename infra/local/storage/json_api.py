"""The JSON API: what gcsfs and google-cloud-storage speak."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.local.standin import read_capped
from infra.local.storage.listing import MAX_RESULTS, ListRequest, list_objects
from infra.local.storage.media import content_response, not_modified
from infra.local.storage.model import Conditions, ObjectMeta, StorageError
from infra.local.storage.multipart import split_upload
from infra.local.storage.resources import (
    bucket_resource,
    new_object,
    object_resource,
    parse_json,
    patched,
    updated,
)
from infra.local.storage.resumable import ContentRange, Uploads
from infra.local.storage.store import ObjectStore

MAX_JSON_BYTES = 1 << 20
MAX_COMPOSE = 32


class JsonApi:
    """Answers requests of the JSON API. Paths arrive split at their slashes, each segment decoded."""

    def __init__(self, store: ObjectStore, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads

    async def answer(self, request: Request, segments: list[str]) -> Response:  # noqa: PLR0911 - a table of routes
        """The answer to a request below `/storage/v1/`; raises `StorageError`."""
        match (request.method, segments):
            case ("GET", ["b"]):
                return self._list_buckets(request)
            case ("POST", ["b"]):
                name = str(parse_json(await self._body(request)).get("name", ""))
                return JSONResponse(bucket_resource(name, self._store.create_bucket(name)))
            case ("GET", ["b", bucket]):
                return JSONResponse(bucket_resource(bucket, self._store.bucket_created(bucket)))
            case ("DELETE", ["b", bucket]):
                self._store.delete_bucket(bucket)
                return Response(status_code=204)
            case ("GET", ["b", bucket, "storageLayout"]):
                self._store.bucket_created(bucket)
                return JSONResponse(
                    {
                        "kind": "storage#storageLayout",
                        "bucket": bucket,
                        "location": "US",
                        "hierarchicalNamespace": {"enabled": False},
                    }
                )
            case ("GET", ["b", bucket, "o"]):
                return self._list_objects(request, bucket)
            case (_, ["b", bucket, "o", name]):
                return await self._object(request, bucket, name)
            case ("POST", ["b", bucket, "o", name, "compose"]):
                return await self._compose(request, bucket, name)
            case ("POST", ["b", bucket, "o", name, "moveTo", "o", target]):
                return await self._copy(request, (bucket, name), (bucket, target), "moveTo")
            case ("POST", ["b", bucket, "o", name, "copyTo" | "rewriteTo" as how, "b", target_bucket, "o", target]):
                return await self._copy(request, (bucket, name), (target_bucket, target), how)
        raise StorageError(404, "notFound", f"The stand-in knows no {request.method} {request.url.path}")

    async def upload(self, request: Request, bucket: str) -> Response:
        """The answer to a request at `/upload/storage/v1/b/BUCKET/o`; raises `StorageError`."""
        self._store.bucket_created(bucket)
        query = request.query_params
        if "upload_id" in query:
            return await self._resume(request, query["upload_id"])
        conditions = Conditions.from_query(query)
        match query.get("uploadType"):
            case "resumable":
                resource = parse_json(await self._body(request))
                kind = request.headers.get("x-upload-content-type")
                new = new_object(bucket, resource, name=query.get("name"), content_type=kind)
                session_id = self._uploads.start(new, conditions)
                location = f"{_base(request)}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
                location += f"?uploadType=resumable&name={quote(new.name, safe='')}&upload_id={session_id}"
                return Response(status_code=200, headers={"Location": location, "X-GUploader-UploadID": session_id})
            case "multipart":
                with self._store.writer() as writer:
                    kind = request.headers.get("content-type", "")
                    text, kind = await split_upload(request.stream(), kind, writer.write)
                    new = new_object(bucket, parse_json(text), name=query.get("name"), content_type=kind)
                    meta = self._store.put(new, writer.finish(), conditions)
                    writer.keep()
            case "media":
                new = new_object(bucket, {}, name=query.get("name"), content_type=request.headers.get("content-type"))
                with self._store.writer() as writer:
                    async for chunk in request.stream():
                        writer.write(chunk)
                    meta = self._store.put(new, writer.finish(), conditions)
                    writer.keep()
            case other:
                raise StorageError(400, "badRequest", f"Unknown uploadType: {other!r}")
        return self._resource(request, meta)

    async def _resume(self, request: Request, session_id: str) -> Response:
        if request.method == "DELETE":
            self._uploads.cancel(session_id)
            return Response(status_code=499)
        span = ContentRange.parse(request.headers.get("content-range"))
        progress = await self._uploads.append(session_id, span, request.stream())
        if progress.done is not None:
            return self._resource(request, progress.done)
        headers = {"Range": f"bytes=0-{progress.received - 1}"} if progress.received else {}
        return Response(status_code=308, headers=headers)

    def _list_buckets(self, request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")
        items = [bucket_resource(name, t) for name, t in self._store.buckets() if name.startswith(prefix)]
        return JSONResponse({"kind": "storage#buckets", "items": items})

    def _list_objects(self, request: Request, bucket: str) -> Response:
        query = request.query_params
        if "matchGlob" in query:
            raise StorageError(400, "invalid", "The stand-in does not evaluate matchGlob.")
        page = list_objects(
            self._store,
            ListRequest(
                bucket=bucket,
                prefix=query.get("prefix", ""),
                delimiter=query.get("delimiter", ""),
                start=query.get("startOffset", ""),
                stop=query.get("endOffset", ""),
                token=query.get("pageToken", ""),
                limit=_integer(query.get("maxResults")) or MAX_RESULTS,
                folders_as_objects=query.get("includeTrailingDelimiter", "").lower() == "true",
            ),
        )
        listing: dict[str, Any] = {"kind": "storage#objects"}
        if page.objects:
            listing["items"] = [object_resource(meta, _base(request)) for meta in page.objects]
        if page.prefixes:
            listing["prefixes"] = list(page.prefixes)
        if page.next_token:
            listing["nextPageToken"] = page.next_token
        return JSONResponse(listing)

    async def _object(self, request: Request, bucket: str, name: str) -> Response:
        query = request.query_params
        conditions = Conditions.from_query(query)
        generation = _integer(query.get("generation"))
        match request.method:
            case "GET" | "HEAD" if query.get("alt") == "media" or request.url.path.startswith("/download/"):
                return content_response(request, *self._store.open(bucket, name, conditions, generation))
            case "GET" | "HEAD":
                meta = self._store.get(bucket, name, conditions, generation)
                if not_modified(request, meta):
                    return Response(status_code=304)
                return self._resource(request, meta)
            case "DELETE":
                self._store.delete(bucket, name, conditions, generation)
                return Response(status_code=204)
            case "PATCH" | "PUT":
                resource = parse_json(await self._body(request))
                meta = self._store.get(bucket, name, generation=generation)
                fields = patched(meta, resource) if request.method == "PATCH" else updated(resource)
                return self._resource(request, self._store.patch(bucket, name, *fields, conditions))
        raise StorageError(405, "methodNotAllowed", f"{request.method} is not possible on an object")

    async def _copy(self, request: Request, source: tuple[str, str], target: tuple[str, str], how: str) -> Response:
        query = request.query_params
        meta = self._store.get(*source, generation=_integer(query.get("sourceGeneration")))
        resource = parse_json(await self._body(request))
        given = new_object(target[0], resource, name=target[1])
        keeps = not given.attributes and not given.metadata
        new = new_object(
            target[0],
            {**meta.attributes, "metadata": meta.metadata} if keeps else resource,
            name=target[1],
            content_type=meta.content_type,
        )
        copied = self._store.copy(
            meta,
            new,
            Conditions.from_query(query),
            Conditions.from_query(query, "Source"),
            move=how == "moveTo",
        )
        if how != "rewriteTo":
            return self._resource(request, copied)
        size = str(copied.size)
        return JSONResponse(
            {
                "kind": "storage#rewriteResponse",
                "done": True,
                "objectSize": size,
                "totalBytesRewritten": size,
                "resource": object_resource(copied, _base(request)),
            }
        )

    async def _compose(self, request: Request, bucket: str, name: str) -> Response:
        body = parse_json(await self._body(request))
        sources = body.get("sourceObjects")
        if not isinstance(sources, list) or not 1 <= len(sources) <= MAX_COMPOSE:
            raise StorageError(400, "invalid", f"compose takes 1 to {MAX_COMPOSE} sourceObjects")
        new = new_object(bucket, body.get("destination") or {}, name=name)
        with self._store.writer() as writer:
            for source in sources:
                conditions = Conditions.from_query(source.get("objectPreconditions") or {})
                generation = _integer(source.get("generation"))
                _, file = self._store.open(bucket, str(source.get("name", "")), conditions, generation)
                with file:
                    await run_in_threadpool(writer.append, file)
            meta = self._store.put(new, writer.finish(), Conditions.from_query(request.query_params))
            writer.keep()
        return self._resource(request, meta)

    def _resource(self, request: Request, meta: ObjectMeta) -> Response:
        return JSONResponse(object_resource(meta, _base(request)), headers={"ETag": meta.etag})

    @staticmethod
    async def _body(request: Request) -> bytes:
        try:
            return await read_capped(request, MAX_JSON_BYTES)
        except ValueError as error:
            raise StorageError(413, "uploadTooLarge", str(error)) from None


def _base(request: Request) -> str:
    return f"http://{request.headers.get('host', '127.0.0.1')}"


def _integer(value: object) -> int | None:
    if value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        raise StorageError(400, "invalid", f"{value!r} is not an integer") from None

"""The custom resources that are asked for, as their definitions describe them; what a definition does not name is refused.

Of Dask's operator 2026.3.0 and of Google's managed Prometheus 0.19, all fields but those that Kubernetes itself describes
(pods, services), which are held to its schemas. A server drops what it does not know without a word, so no more is allowed.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

POD_VERSION = "1.25"
"""The oldest schemas at hand: those of the pods within Dask's definitions are older still."""

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False
    }  # fmt: skip


_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_KUBERNETES: Schema = {"type": "object"}
_META = _object(labels=_LABELS, annotations=_LABELS)
_DURATION: Schema = {"type": "string", "pattern": r"^(\d+[hms])+$"}

_WORKER = _object(("spec",), replicas=_NUMBER, metadata=_META, spec=_KUBERNETES)
_SCHEDULER = _object(("spec", "service"), metadata=_META, spec=_KUBERNETES, service=_KUBERNETES)
_CLUSTER = _object(("scheduler", "worker"), idleTimeout=_NUMBER, scheduler=_SCHEDULER, worker=_WORKER)
_GROUP = _object(("cluster", "worker"), cluster=_TEXT, worker=_WORKER)

_ENDPOINT = _object(
    ("port", "interval"), port={"type": ["integer", "string"]}, path=_TEXT, interval=_DURATION, timeout=_DURATION,
    scheme={"enum": ["http", "https"]}, params={"type": "object"}, proxyUrl=_TEXT,
    metricRelabeling={"type": "array"}, tls=_KUBERNETES, authorization=_KUBERNETES, basicAuth=_KUBERNETES,
    oauth2=_KUBERNETES,
)  # fmt: skip
_SELECTOR = _object(
    (), matchLabels=_LABELS,
    matchExpressions={"type": "array", "items": _object(("key", "operator"), key=_TEXT, operator=_TEXT, values=_TEXTS)},
)  # fmt: skip
_PODS = _object(
    ("endpoints", "selector"), selector=_SELECTOR, filterRunning={"type": "boolean"},
    endpoints={"type": "array", "minItems": 1, "maxItems": 10, "items": _ENDPOINT},
    limits=_object((), samples=_NUMBER, labels=_NUMBER, labelNameLength=_NUMBER, labelValueLength=_NUMBER),
    targetLabels=_object((), metadata=_TEXTS, fromPod={"type": "array"}),
)  # fmt: skip

SPECS: dict[tuple[str, str], Schema] = {
    ("kubernetes.dask.org/v1", "DaskCluster"): _CLUSTER,
    ("kubernetes.dask.org/v1", "DaskWorkerGroup"): _GROUP,
    ("monitoring.googleapis.com/v1", "PodMonitoring"): _PODS,
}
"""By API version and kind."""


def is_custom(document: dict[str, Any]) -> bool:
    """Whether a document is of a kind that a definition adds to Kubernetes."""
    return (document["apiVersion"], document["kind"]) in SPECS


def validate(document: dict[str, Any]) -> None:
    """Raise `jsonschema.ValidationError`, or that of Kubernetes, when a definition does not take the document."""
    spec = SPECS[document["apiVersion"], document["kind"]]
    whole = _object(("apiVersion", "kind", "metadata", "spec"), apiVersion=_TEXT, kind=_TEXT, spec=spec)
    whole["properties"]["metadata"] = _object(
        ("name",), name=_TEXT, namespace=_TEXT, labels=_LABELS, annotations=_LABELS
    )
    jsonschema.validate(document, whole)
    for each in ("scheduler", "worker"):
        part = document["spec"].get(each, {})
        if "spec" in part:
            _within("v1", "Pod", part["spec"])
        if "service" in part:
            _within("v1", "Service", part["service"])


def _within(version: str, kind: str, spec: dict[str, Any]) -> None:
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(document, POD_VERSION, strict=True)

"""flows/asked_clusters.py: what is asked of a gateway or of the operator; neither runs here, so the wire is not tested."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows import asked_clusters
from flows.asked_clusters import cluster_spec, gpu_worker_spec
from flows.cluster import dask_client
from flows.errors import FlowError, ServiceError
from flows.serving import RESOURCE
from flows.settings import DaskSettings

OPERATOR = DaskSettings(namespace="quakeslide", image="r/cpu:1", gpu_image="r/gpu:1", workers=3, gpu_workers=2)


def missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


@pytest.mark.parametrize(
    ("settings", "package"),
    [(DaskSettings(gateway="http://127.0.0.1:9"), "dask_gateway"), (OPERATOR, "dask_kubernetes")],
)
def test_a_cluster_that_cannot_be_had_is_said_in_one_line(settings: DaskSettings, package: str) -> None:
    expected = FlowError if missing(package) else ServiceError
    words = package.replace("_", "-") if missing(package) else "gives no cluster"
    with pytest.raises(expected, match=words), dask_client(settings, threads=1):
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "tcp://a:1", "gateway": "http://b"},
        {"gateway": "http://b", "namespace": "c", "image": "i"},
        {"namespace": "c"},
        {"namespace": "c", "image": "i", "workers": 0},
        {"gpu_workers": 1},
        {"address": "tcp://a:1", "gpu_workers": 1},
        {"gateway": "http://b", "gpu_workers": 1},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DaskSettings.model_validate(wrong)


def test_only_a_cluster_of_other_processes_is_elsewhere() -> None:
    assert not DaskSettings().elsewhere
    assert all(one.elsewhere for one in (OPERATOR, DaskSettings(address="a"), DaskSettings(gateway="b")))


def test_every_pod_is_somebody_and_nobody_is_root() -> None:
    spec = cluster_spec("quakeslide-1", OPERATOR)["spec"]
    pods = [spec["worker"]["spec"], spec["scheduler"]["spec"], gpu_worker_spec(OPERATOR)["spec"]]
    for pod in pods:
        assert pod["serviceAccountName"] == "quakeslide-worker"
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["resources"]["limits"]["memory"]
            assert "latest" not in container["image"]
    assert (spec["worker"]["replicas"], spec["idleTimeout"]) == (3, 600)


def test_workers_with_a_gpu_beside_others_are_refused_of_a_gateway_with_what_to_do() -> None:
    with pytest.raises(
        ValidationError, match=r"gpu_workers is for dask\.namespace: have workers of the gateway .* offer GPU"
    ):
        DaskSettings(gateway="http://b", gpu_workers=2)


def test_the_images_and_numbers_of_the_settings_are_asked_for_and_one_image_does_for_both() -> None:
    spec = cluster_spec("quakeslide-1", OPERATOR)
    assert spec["metadata"]["name"] == "quakeslide-1"
    assert spec["metadata"]["namespace"] == "quakeslide"
    assert spec["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == "quakeslide-1"
    assert spec["spec"]["scheduler"]["spec"]["containers"][0]["image"] == "r/cpu:1"
    one_image = DaskSettings(namespace="q", image="r/both:1", gpu_workers=1)
    assert gpu_worker_spec(one_image)["spec"]["containers"][0]["image"] == "r/both:1"


@pytest.mark.parametrize("text", ["", "cluster: [1", "gpu: {}", "cluster: {name: '{{ no_such_setting }}'}"])
def test_a_template_that_was_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "dask-cluster.yaml"
    path.write_text(text)
    monkeypatch.setattr(asked_clusters, "TEMPLATE", path)
    with pytest.raises(FlowError, match=r"dask-cluster\.yaml is no template of a Dask cluster"):
        cluster_spec("c", OPERATOR)


def test_networks_go_to_workers_that_offer_what_the_tasks_ask_for() -> None:
    group = gpu_worker_spec(OPERATOR)
    (worker,) = group["spec"]["containers"]
    assert worker["args"][-2:] == ["--resources", f"{RESOURCE}=1"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert (group["replicas"], worker["image"]) == (2, "r/gpu:1")
    (puller,) = cluster_spec("c", OPERATOR)["spec"]["worker"]["spec"]["containers"]
    assert "--resources" not in puller["args"]
    assert "nvidia.com/gpu" not in puller["resources"]["limits"]

"""infra/kubernetes: every document is valid, nobody is root, nothing is open that need not be. No cluster is asked."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from fakes.custom_resources import is_custom, validate
from prefect.settings import Settings as PrefectSettings
from starlette.routing import Route

from flows.asked_clusters import cluster_spec, gpu_worker_spec
from flows.deploy import pool_template
from flows.errors import FlowError
from flows.monitoring import create_app
from flows.settings import DaskSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "infra" / "kubernetes"
VERSION = "1.32"
"""The version of Kubernetes whose schemas are held to."""
SETTINGS = yaml.safe_load((FOLDER / "settings.yaml").read_text())["data"]


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [one for name in listed for one in yaml.safe_load_all((FOLDER / name).read_text())]


DOCUMENTS = documents()


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata'].get('name', 'nameless')}"


def filled(template: dict[str, Any], **given: str) -> dict[str, Any]:
    """The job of a pool as Prefect makes it: placeholders replaced by the variables' defaults."""
    properties = template["variables"]["properties"]
    values = {name: each.get("default") for name, each in properties.items()} | {
        "command": ["prefect", "flow-run", "execute"], "env": [{"name": "A", "value": "b"}], "name": "run",
        "labels": {"a": "b"}, "annotations": {},
    } | given  # fmt: skip

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        if isinstance(value, list):
            return [fill(each) for each in value]
        if isinstance(value, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", value)):
            return values[whole[1]]
        return (
            re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), value) if isinstance(value, str) else value
        )

    return dict(fill(template["job_configuration"]["job_manifest"]))


JOBS = [filled(pool_template("kubernetes", pool, "r/quakeslide-{pool}:1") or {}) for pool in ("cpu", "gpu")]


@pytest.mark.parametrize("document", [*DOCUMENTS, *JOBS], ids=name_of)
def test_a_document_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    if is_custom(document):
        validate(document)
    else:
        kubernetes_validate.validate(document, VERSION, strict=True)


DASK = DaskSettings(namespace="quakeslide", image="r/cpu:1", gpu_image="r/gpu:1", workers=3, gpu_workers=2)


def dask_documents() -> list[dict[str, Any]]:
    """What a run asks of Dask's operator: its own resource, and what the operator's client makes of the group's spec."""
    group = {
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
        "metadata": {"name": "quakeslide-1-gpu", "namespace": "quakeslide"},
        "spec": {"cluster": "quakeslide-1", "worker": gpu_worker_spec(DASK)},
    }  # fmt: skip
    return [cluster_spec("quakeslide-1", DASK), group]


@pytest.mark.parametrize("document", dask_documents(), ids=name_of)
def test_what_is_asked_of_dasks_operator_is_what_its_definitions_describe(document: dict[str, Any]) -> None:
    validate(document)
    assert "{{" not in json.dumps(document), "a placeholder that no setting fills"
    wrong = {**document, "spec": {**document["spec"], "idletimeout": 600}}
    with pytest.raises(jsonschema.ValidationError, match="idletimeout"):
        validate(wrong)


def test_the_operator_is_of_the_clients_version_and_watches_the_namespace_of_the_runs() -> None:
    values = yaml.safe_load((FOLDER / "dask-operator-values.yaml").read_text())
    pins = (ROOT / "infra" / "docker" / "constraints-cluster.txt").read_text()
    (version,) = re.findall(r"^dask-kubernetes==(.*)$", pins, re.MULTILINE)
    assert values["image"]["tag"] == version
    assert f"--version {version}" in (ROOT / "infra" / "RUNBOOK.md").read_text()
    namespace = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["namespace"]
    assert values["kopfArgs"] == [f"--namespace={namespace}"]
    assert set(values) <= CHART_VALUES
    policies = {one["metadata"]["name"]: one["spec"] for one in DOCUMENTS if one["kind"] == "NetworkPolicy"}
    assert "dask-operator" in json.dumps(policies["dask"]["ingress"])


CHART_VALUES = {
    "image", "imagePullSecrets", "nameOverride", "fullnameOverride", "serviceAccount", "rbac", "podAnnotations",
    "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts", "extraEnv", "nodeSelector",
    "tolerations", "affinity", "priorityClassName", "livenessProbe", "kopfArgs", "metrics", "workerAllocation",
}  # fmt: skip
"""What the chart of the operator knows (2026.3.0); it passes over everything else without a word."""


def test_the_metrics_that_alerts_ask_for_are_read_by_the_managed_prometheus() -> None:
    (monitoring,) = (one for one in DOCUMENTS if one["kind"] == "PodMonitoring")
    wanted = monitoring["spec"]["selector"]["matchLabels"]
    (pod,) = (
        one["spec"]["template"] for one in DOCUMENTS
        if one["kind"] == "Deployment" and wanted.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    )  # fmt: skip
    (endpoint,) = monitoring["spec"]["endpoints"]
    (port,) = (
        each["containerPort"] for each in pod["spec"]["containers"][0]["ports"] if each["name"] == endpoint["port"]
    )
    assert port == Settings().metrics.port
    assert endpoint["path"] in {route.path for route in create_app(Settings()).routes if isinstance(route, Route)}
    assert int(endpoint["timeout"].rstrip("s")) <= int(endpoint["interval"].rstrip("s"))
    policies = {one["metadata"]["name"]: one["spec"] for one in DOCUMENTS if one["kind"] == "NetworkPolicy"}
    (allowed,) = policies["quakeslide-monitor"]["ingress"]
    assert policies["quakeslide-monitor"]["podSelector"]["matchLabels"] == wanted
    assert allowed["ports"] == [{"port": port}]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gmp-system"}}} in allowed["from"]
    assert "prometheus.io/" not in (FOLDER / "monitor.yaml").read_text(), (
        "the managed collection looks at no annotation"
    )


def pods() -> list[tuple[str, dict[str, Any]]]:
    """Every pod that is described anywhere: here, in pools, and what is asked of the Dask operator."""
    here = [
        (name_of(one), one["spec"]["template"]["spec"])
        for one in [*DOCUMENTS, *JOBS]
        if "template" in one.get("spec", {})
    ]
    spec = cluster_spec("c", DASK)["spec"]
    asked = (spec["worker"]["spec"], spec["scheduler"]["spec"], gpu_worker_spec(DASK)["spec"])
    return here + [(f"dask-{number}", pod) for number, pod in enumerate(asked)]


PODS = pods()


@pytest.mark.parametrize(("name", "pod"), PODS, ids=[name for name, _ in PODS])
def test_a_pod_is_nobody_in_particular_and_has_its_limits(name: str, pod: dict[str, Any]) -> None:
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}, VERSION, strict=True
    )
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 999
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"]
        assert container["resources"]["limits"]["memory"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]
    own = pod.get("serviceAccountName")
    assert own or pod.get("automountServiceAccountToken") is False


def test_a_gpu_is_asked_for_where_networks_run_and_nowhere_else() -> None:
    cpu, gpu = (job["spec"]["template"]["spec"] for job in JOBS)
    assert "nvidia.com/gpu" not in json.dumps(cpu)
    (container,) = gpu["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["image"] == "r/quakeslide-gpu:1"
    assert gpu["tolerations"][0]["key"] == "nvidia.com/gpu"
    with pytest.raises(FlowError, match="--image"):
        pool_template("kubernetes", "cpu", "")


def test_no_secret_stands_in_a_file() -> None:
    for document in DOCUMENTS:
        assert document["kind"] != "Secret"
    for path in FOLDER.glob("*.yaml"):
        assert not re.search(
            r"(?i)(password|token|secret|auth_string)\S*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}", path.read_text()
        )
    server = next(one for one in DOCUMENTS if name_of(one) == "Deployment-prefect-server")
    env = {one["name"]: one for one in server["spec"]["template"]["spec"]["containers"][0]["env"]}
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_DATABASE_CONNECTION_URL"):
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == "prefect"
        assert "value" not in env[name]


def test_nothing_is_reached_from_outside_and_everything_else_is_named() -> None:
    services = [one for one in DOCUMENTS if one["kind"] == "Service"]
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in services)
    assert not [one for one in DOCUMENTS if one["kind"] in ("Ingress", "ClusterRole", "ClusterRoleBinding")]
    policies = {one["metadata"]["name"]: one["spec"] for one in DOCUMENTS if one["kind"] == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, _ in PODS:
        labels = _labels(name)
        if labels is not None:
            assert any(
                _selects(policy, labels)
                for key, policy in policies.items()
                if key != "nobody" and policy["podSelector"]
            )


def _labels(name: str) -> dict[str, str] | None:
    for one in [*DOCUMENTS, *JOBS]:
        if name_of(one) == name:
            return dict(one["spec"]["template"]["metadata"]["labels"])
    return None


def _selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = policy["podSelector"].get("matchLabels")
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def test_roles_allow_verbs_and_resources_by_name() -> None:
    for role in (one for one in DOCUMENTS if one["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"]


def test_the_settings_are_settings_and_the_selectors_find_their_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.alerts.blocks == ("slack-webhook/ops",)
    assert (settings.mode, settings.log) == ("cloud", "json")
    for one in DOCUMENTS:
        if one["kind"] in ("Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
        if one["kind"] == "Service":
            assert any(
                one["spec"]["selector"].items() <= other["spec"]["template"]["metadata"]["labels"].items()
                for other in DOCUMENTS if other["kind"] in ("Deployment", "StatefulSet")
            )  # fmt: skip
    accounts = {one["metadata"]["name"] for one in DOCUMENTS if one["kind"] == "ServiceAccount"}
    assert {pod["serviceAccountName"] for _, pod in PODS if "serviceAccountName" in pod} <= accounts


def test_prefect_takes_the_settings_that_are_given_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in SETTINGS.items() if name.startswith("PREFECT_")}
    for one in DOCUMENTS:
        for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            given |= {each["name"]: each.get("value", "x:y") for each in container.get("env", [])}
    for name, value in given.items():
        if name.startswith("PREFECT_") and name != "PREFECT_HOME":
            monkeypatch.setenv(name, value)
    settings = PrefectSettings()
    assert settings.server.services.db_vacuum.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert settings.server.services.db_vacuum.retention_period == dt.timedelta(days=30)
    assert settings.server.events.retention_period == dt.timedelta(days=7)
    assert settings.flows.heartbeat_frequency == 30
    assert settings.worker.webserver.port == 8080
    assert settings.server.api.auth_string is not None


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)
    made = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert len(made) == len(DOCUMENTS)
    images = re.findall(r"image: (\S+)", done.stdout)
    assert images
    assert all(re.search(r":\d+\.\d+", image) for image in images), "no image without a version"

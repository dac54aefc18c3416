"""infra/terraform: it parses, refers to what is there, and gives nobody more than needed. No provider checks it here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "infra" / "terraform"
FILES = sorted(FOLDER.glob("*.tf"))
TOO_MUCH = (
    "roles/owner",
    "roles/editor",
    "roles/viewer",
    "roles/storage.admin",
    "roles/iam.serviceAccountTokenCreator",
)


def plain(value: Any) -> Any:
    """What the parser found, without its quotes and remarks."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not str(key).startswith("__")}
        return {plain(key): plain(each) for key, each in kept.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def blocks(kind: str) -> list[dict[str, Any]]:
    return [one for path in FILES for one in plain(hcl2.loads(path.read_text())).get(kind, [])]


RESOURCES = [
    (kind, name, body) for one in blocks("resource") for kind, named in one.items() for name, body in named.items()
]


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {name: body for each, name, body in RESOURCES if each == kind}


def test_every_reference_is_to_something_that_is_there() -> None:
    text = "\n".join(re.sub(r"#.*", "", path.read_text()) for path in FILES)
    variables = {name for one in blocks("variable") for name in one}
    used = set(re.findall(r"\bvar\.(\w+)", text))
    assert used == variables, "each variable is used, and each that is used is declared"
    there = {(kind, name) for kind, name, _ in RESOURCES}
    named = set(re.findall(r"(?<![\w.\"/])(google_\w+)\.(\w+)(?=[.\[\]\s)}])", text))
    assert named <= there
    assert len(there) == len(RESOURCES), "no name twice"


def test_every_variable_and_output_says_what_it_is() -> None:
    for one in [*blocks("variable"), *blocks("output")]:
        for body in one.values():
            assert body["description"]


def test_the_bucket_is_uniform_versioned_and_not_public_by_itself() -> None:
    (bucket,) = of("google_storage_bucket").values()
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == '${var.public ? "inherited" : "enforced"}'
    assert bucket["force_destroy"] is False
    assert bucket["versioning"] == [{"enabled": True}]
    rules = bucket["lifecycle_rule"]
    assert "AbortIncompleteMultipartUpload" in [rule["action"][0]["type"] for rule in rules]
    for rule in rules:
        if rule["action"][0]["type"] == "Delete":
            assert "days_since_noncurrent_time" in rule["condition"][0], "what is current is never deleted by a rule"


def test_nobody_has_more_than_needed_and_no_key_is_made() -> None:
    text = "".join(path.read_text() for path in FILES)
    assert not [role for role in TOO_MUCH if f'"{role}"' in text]
    assert not of("google_service_account_key")
    assert not re.search(r"secret_data\s*=", text), "values of secrets are in no state"
    own = [body for kind, _, body in RESOURCES if kind.endswith("_iam_member")]
    assert own
    everyone = [body for body in own if body.get("member") == "allUsers"]
    assert all(body.get("count") == "${var.public ? 1 : 0}" for body in everyone)


def test_workload_identity_binds_the_accounts_of_kubernetes() -> None:
    accounts = [
        one for one in yaml.safe_load_all((ROOT / "infra/kubernetes/accounts.yaml").read_text())
        if one["kind"] == "ServiceAccount" and "annotations" in one["metadata"]
    ]  # fmt: skip
    google = {body["account_id"] for body in of("google_service_account").values()}
    bound = " ".join(str(body["member"]) for body in of("google_service_account_iam_member").values())
    assert len(accounts) == 2
    for account in accounts:
        assert account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"].split("@")[0] in google
        assert f"/{account['metadata']['name']}]" in bound


def test_machines_are_private_and_those_with_a_gpu_go_away() -> None:
    (cluster,) = of("google_container_cluster").values()
    assert cluster["private_cluster_config"][0]["enable_private_nodes"] is True
    assert "workload_pool" in cluster["workload_identity_config"][0]
    assert "master_authorized_networks_config" in cluster
    pools = of("google_container_node_pool")
    assert pools["gpu"]["autoscaling"][0]["total_min_node_count"] == 0
    assert pools["gpu"]["node_config"][0]["taint"][0]["key"] == "nvidia.com/gpu"
    for pool in pools.values():
        assert pool["node_config"][0]["workload_metadata_config"] == [{"mode": "GKE_METADATA"}]
        assert "service_account" in pool["node_config"][0]


def test_the_alerts_ask_for_metrics_that_the_monitor_has() -> None:
    import datetime as dt

    from flows.monitoring import Picture, metrics
    from flows.settings import Settings

    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    served = {one.name for one in metrics(Picture(now, polled=now), Settings())}
    asked = set(re.findall(r"quakeslide_\w+", (FOLDER / "budget.tf").read_text()))
    assert asked
    assert asked <= served


def test_there_is_a_budget_and_somebody_hears_of_it() -> None:
    (budget,) = of("google_billing_budget").values()
    assert "monitoring_notification_channels" in budget["all_updates_rule"][0]
    assert of("google_monitoring_alert_policy")


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_would_write_it_so() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-no-color", str(FOLDER)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")

# Who may do what. Each pod acts as one of these by workload identity: there is no key of a service account anywhere.

locals {
  namespace = "quakeslide"
}

resource "google_service_account" "worker" {
  account_id   = "quakeslide-worker"
  display_name = "quakeslide: runs (Earth Engine, the bucket)"
}

resource "google_service_account" "monitor" {
  account_id   = "quakeslide-monitor"
  display_name = "quakeslide: metrics (reads the bucket)"
}

resource "google_service_account" "nodes" {
  account_id   = "quakeslide-nodes"
  display_name = "quakeslide: machines of the cluster (logs, metrics, images)"
}

# Runs read and write objects of the one bucket, and nothing of the project's other buckets.
resource "google_storage_bucket_iam_member" "worker" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

# The bucket itself is looked at (`quakeslide doctor`), never changed.
resource "google_storage_bucket_iam_member" "worker_bucket" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "monitor" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.monitor.member
}

# Earth Engine: compute, and write assets. Not its administration.
resource "google_project_iam_member" "worker_earthengine" {
  project = var.project
  role    = "roles/earthengine.writer"
  member  = google_service_account.worker.member
}

# Requests are counted against this project's quota.
resource "google_project_iam_member" "worker_quota" {
  project = var.project
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = google_service_account.worker.member
}

resource "google_project_iam_member" "nodes" {
  for_each = toset([
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/monitoring.viewer",
    "roles/stackdriver.resourceMetadata.writer",
  ])
  project = var.project
  role    = each.value
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}

# The accounts of Kubernetes (infra/kubernetes/accounts.yaml) that may act as these.
resource "google_service_account_iam_member" "worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${local.namespace}/quakeslide-worker]"
  depends_on         = [google_container_cluster.main]
}

resource "google_service_account_iam_member" "monitor" {
  service_account_id = google_service_account.monitor.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${local.namespace}/quakeslide-monitor]"
  depends_on         = [google_container_cluster.main]
}

resource "google_project_iam_member" "operators" {
  for_each = toset(var.operators)
  project  = var.project
  role     = "roles/container.developer"
  member   = each.value
}

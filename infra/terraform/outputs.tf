output "bucket" {
  description = "For QUAKESLIDE_STORAGE__BUCKET."
  value       = google_storage_bucket.data.name
}

output "images" {
  description = "Where images are pushed to."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "cluster" {
  description = "How to reach the cluster."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.main.name} --region ${var.region} --project ${var.project}"
}

output "worker" {
  description = "Whom runs act as; register it with Earth Engine's project if the project is another one."
  value       = google_service_account.worker.email
}

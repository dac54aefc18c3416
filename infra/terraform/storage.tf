# One bucket for everything of an event. Access is uniform (no object has readers of its own) and never public by accident.
resource "google_storage_bucket" "data" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = var.public ? "inherited" : "enforced"
  force_destroy               = false

  # A version list that was overwritten by mistake, or a product deleted by hand, can be brought back.
  versioning {
    enabled = true
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.keep_versions_days
    }
    action {
      type = "Delete"
    }
  }

  # Uploads that were begun and never finished: no listing shows them, and so no janitor does.
  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  # The ledger of requests writes a small object every few seconds and tidies up after itself; noncurrent ones are nothing.
  lifecycle_rule {
    condition {
      matches_prefix             = ["quota/", "watch/cursor.json", "metrics/"]
      days_since_noncurrent_time = 1
    }
    action {
      type = "Delete"
    }
  }

  # Products that nobody has changed for a year are read seldom.
  lifecycle_rule {
    condition {
      age                   = 365
      matches_prefix        = ["events/"]
      matches_storage_class = ["STANDARD"]
    }
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
  }

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "public" {
  count  = var.public ? 1 : 0
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectViewer"
  member = "allUsers"
}

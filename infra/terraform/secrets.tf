# Names of secrets, never their values: those are put in by a person (infra/RUNBOOK.md), and are in no file and no state.
resource "google_secret_manager_secret" "names" {
  for_each = toset([
    "prefect-auth-string",
    "prefect-postgres-password",
  ])
  secret_id = each.value

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.used]
}

# Only operators read them, to make the Secret in the cluster; runs do not.
resource "google_secret_manager_secret_iam_member" "operators" {
  for_each = {
    for pair in setproduct(keys(google_secret_manager_secret.names), var.operators) : "${pair[0]} ${pair[1]}" => pair
  }
  secret_id = google_secret_manager_secret.names[each.value[0]].id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value[1]
}

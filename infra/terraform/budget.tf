# What is told when money or quota runs out. The program's own budgets (campaign.budget_*) stop work; these tell people.
data "google_project" "this" {
  project_id = var.project
}

resource "google_monitoring_notification_channel" "email" {
  display_name = "quakeslide operators"
  type         = "email"
  labels = {
    email_address = var.alert_email
  }
  depends_on = [google_project_service.used]
}

resource "google_billing_budget" "month" {
  count           = var.billing_account == "" ? 0 : 1
  billing_account = var.billing_account
  display_name    = "quakeslide, a month"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }
}

# The monitor's own metrics (quakeslide monitor), scraped by the managed Prometheus of the cluster.
resource "google_monitoring_alert_policy" "watch" {
  display_name = "quakeslide: the watch is silent"
  combiner     = "OR"

  conditions {
    display_name = "no feed worked off for half an hour"
    condition_prometheus_query_language {
      query    = "max(quakeslide_watch_age_seconds) > 1800 or absent(quakeslide_up) or min(quakeslide_up) == 0"
      duration = "600s"
    }
  }

  notification_channels = [google_monitoring_notification_channel.email.id]
  alert_strategy {
    auto_close = "86400s"
  }
}

resource "google_monitoring_alert_policy" "overdue" {
  display_name = "quakeslide: a campaign waits for a step"
  combiner     = "OR"

  conditions {
    display_name = "due for three hours"
    condition_prometheus_query_language {
      query    = "max(quakeslide_campaigns_oldest_due_seconds) > 10800"
      duration = "600s"
    }
  }

  notification_channels = [google_monitoring_notification_channel.email.id]
  alert_strategy {
    auto_close = "86400s"
  }
}

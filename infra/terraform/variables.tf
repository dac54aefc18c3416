variable "project" {
  description = "Google Cloud project, registered for Earth Engine, that everything lies in and that is billed."
  type        = string
}

variable "region" {
  description = "Region of buckets, images and machines."
  type        = string
  default     = "europe-west4"
}

variable "gpu_zone" {
  description = "Zone of the machines with a GPU; it must offer `gpu_type`."
  type        = string
  default     = "europe-west4-a"
}

variable "gpu_type" {
  description = "Kind of GPU."
  type        = string
  default     = "nvidia-l4"
}

variable "gpu_machine" {
  description = "Kind of machine that carries it."
  type        = string
  default     = "g2-standard-8"
}

variable "gpu_most" {
  description = "Machines with a GPU at the same time; at least none."
  type        = number
  default     = 2
}

variable "bucket" {
  description = "Name of the bucket for cubes, products and campaigns; unique in the whole of Cloud Storage."
  type        = string
}

variable "public" {
  description = "Whether anyone may read published products."
  type        = bool
  default     = false
}

variable "keep_versions_days" {
  description = "How long an overwritten or deleted object can be brought back."
  type        = number
  default     = 30
}

variable "operators" {
  description = "Who may deploy and look into the cluster: user:…, group:…."
  type        = list(string)
  default     = []
}

variable "admin_networks" {
  description = "Address ranges from which the cluster's control plane may be reached; none but Google's own when empty."
  type        = map(string)
  default     = {}
}

variable "billing_account" {
  description = "Billing account of the budget; empty for no budget."
  type        = string
  default     = ""
}

variable "monthly_budget" {
  description = "What a month may cost, in the billing account's currency, before people are told."
  type        = number
  default     = 500
}

variable "alert_email" {
  description = "Whom Google's own alerts go to."
  type        = string
}

"""The event-to-map pipeline: the only package that joins the others and imports `prefect`."""

"""One earthquake, or one sequence of them, from the first record in the feed to its last version: kept beside its products."""

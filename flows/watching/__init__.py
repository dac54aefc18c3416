"""From the feed to campaigns: which records tell of one earthquake, which earthquakes are mapped, and what was decided."""

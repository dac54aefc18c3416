"""How good a map is: scores, landslides found, calibration, intervals."""

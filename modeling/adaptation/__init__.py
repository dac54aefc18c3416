"""Making a model fit ground that it was not trained on: without labels of that ground, or with few."""

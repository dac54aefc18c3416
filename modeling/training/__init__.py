"""From a recipe and data to weights with a card."""

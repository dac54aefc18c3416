"""Arrays in, arrays out: simulator, networks, training, prediction, inventory."""

"""What networks learn from: patches with truth, made, stored, imported, augmented and normalised."""

"""What a network looks at: heat maps, channel attention, bands taken away."""

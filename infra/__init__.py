"""How quakeslide is deployed, and the local stand-ins that need no account."""

"""Stand-ins that work."""

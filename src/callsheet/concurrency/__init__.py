"""Limits on how many runs do something at once. Not available yet."""

"""Processes that run what is left to them. Not available yet."""

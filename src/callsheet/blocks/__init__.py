"""Stored documents. Not available yet."""

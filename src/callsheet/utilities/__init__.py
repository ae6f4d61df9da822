"""Helpers under the names that programs import them by."""

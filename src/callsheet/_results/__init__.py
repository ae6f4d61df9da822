"""Results: how values become bytes, where these are kept, and how they come back."""

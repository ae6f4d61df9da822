"""What a transaction does, apart from what users see of it."""

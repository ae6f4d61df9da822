"""Types of arguments of the client. Not available yet."""

"""The mark of arguments that were left out, in a module of its own: definitions need it, and nothing else so early."""


class NotSet:
    """Stands for an argument that was left out, where `None` means something."""

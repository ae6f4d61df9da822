"""Locks by name, so that two runs of one key are not at work at once: in this process, or across processes."""

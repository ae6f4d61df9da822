"""The same work for several engines, side by side: each in a virtual environment and a process of its own, turn by turn."""

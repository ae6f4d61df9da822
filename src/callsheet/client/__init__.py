"""Reading and changing what the history holds, from programs."""

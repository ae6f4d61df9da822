"""The command `callsheet`: to look at flow runs, and to give them orders, from a shell."""

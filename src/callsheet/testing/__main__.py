"""``python -m callsheet.testing``: repeat a simulation, or run many."""

from callsheet.testing.command import main

if __name__ == "__main__":
    main()

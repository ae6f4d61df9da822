"""``python -m callsheet``: the command, also where no script of that name is on the path."""

from __future__ import annotations

import sys

from callsheet._command.main import main

if __name__ == "__main__":
    sys.exit(main())

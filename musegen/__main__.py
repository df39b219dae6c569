"""`python -m musegen` is `musegen`."""

from __future__ import annotations

from musegen.cli.main import main

if __name__ == "__main__":
    main()

"""``python -m mattn.masks FOLDER-or-config.json``: who sees whom in that model.

Chapter 2 derives the rules, chapter 5 says what a cache must keep.
"""

from __future__ import annotations

import argparse
import sys

from mattn.masks.configs import describe


def main(arguments: list[str] | None = None) -> int:
    """Print the layers; exit status 0, or 2 for a configuration that is refused."""
    parser = argparse.ArgumentParser("python -m mattn.masks", description=__doc__)
    parser.add_argument("config", help="a folder with config.json, or that file")
    parser.add_argument("--length", type=int, default=32_768, help="tokens to count")
    options = parser.parse_args(arguments)
    try:
        print(describe(options.config, length=options.length))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m mattn.masks``: who sees whom in a model, and the atlas as data.

Chapter 2 derives the rules, chapter 5 says what a cache must keep.
"""

from __future__ import annotations

import argparse
import sys

__all__ = ["main"]

_TOLD = """\
A folder with config.json, or that file: the layers, their windows, their caches.
--export DIR: the cases of the atlas, one JSON file a mask, and their schema.
Exit codes: 0 done · 2 refused.
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the layers of a model, or write the cases of the atlas."""
    parser = argparse.ArgumentParser(
        "python -m mattn.masks",
        description="Who sees whom?",
        epilog=_TOLD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", nargs="?", help="a folder with config.json, or that file"
    )
    parser.add_argument("--length", type=int, default=32_768, help="tokens to count")
    parser.add_argument("--export", metavar="DIR", help="write the atlas there")
    asked = parser.parse_args(arguments)
    if (asked.config is None) is (asked.export is None):
        parser.error("expected a configuration, or --export DIR, and not both")

    # After the arguments: --help need not wait for torch.
    from mattn.masks import describe, export

    try:
        if asked.export is not None:
            print(f"{len(export(asked.export))} files in {asked.export}")
        else:
            print(describe(asked.config, length=asked.length))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Say where a page is, as an address that every browser takes.

python -m book.site.address "The book is built." _build/html/index.html
python -m book.site.address --open "The book is built." _build/html/index.html

A folder's name may hold a space or an accent; in the address they are percent-
encoded. Only the standard library is used.
"""

import argparse
import webbrowser
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", help="what comes before the address")
    parser.add_argument("page", type=Path)
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    options = parser.parse_args(arguments)
    address = options.page.absolute().as_uri()
    asked = "Open it: " if not options.open else "No browser was found. Open it: "
    if options.open and webbrowser.open(address):
        asked = "It opens in a browser: "
    print(options.words, asked + address, sep=" ")


if __name__ == "__main__":
    main()

"""The built book as one file, to be unpacked and read without a server.

python -m book.site.archive [FILE]        default: _build/mattn.zip
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from book import ROOT

HTML = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "mattn.zip"
DATE = (1980, 1, 1, 0, 0, 0)  # the same pages make the same file


def write(out: Path = OUT, html: Path = HTML) -> None:
    """Pack ``html`` into ``out``, everything under one folder, ``mattn``."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(html.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                name = Path("mattn", path.relative_to(html)).as_posix()
                info = zipfile.ZipInfo(name, DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, path.read_bytes())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    write(target)
    print(f"Unpack it and open mattn/index.html: {target.resolve().as_uri()}")

"""The Chinese characters of the book as a small font of its own.

    python -m book.site.chinese_font SOURCE        the regular weight of Noto Sans SC

Not every reader's machine has a Chinese font, and the one that prints the PDF
may have none. ``SOURCE`` is a WOFF file: ``npm pack @fontsource/noto-sans-sc@5.3.0``
brings ``files/noto-sans-sc-chinese-simplified-400-normal.woff``. Run again when
a test says that a character is missing; the result stays in the tree.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from book import ROOT

FONT = ROOT / "book" / "static" / "fonts" / "noto-sans-sc-mattn.woff2"
SOURCES = ("chapters/*.ipynb", "chapters/*.md", "exercises/*.ipynb", "mattn/**/*.py")
# Chinese characters, their punctuation, and letters as wide as they are; in
# mattn.css the same, as a unicode-range.
CHINESE = re.compile("[\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef]")


def characters(root: Path = ROOT) -> set[str]:
    """Every Chinese character that the sources of the book hold."""
    found: set[str] = set()
    for pattern in SOURCES:
        for path in root.glob(pattern):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":  # where it may be written as an escape
                text = json.dumps(json.loads(text), ensure_ascii=False)
            found |= set(CHINESE.findall(text))
    return found


def write(source: Path, out: Path = FONT) -> None:
    """Keep of ``source`` what the book needs: shapes and their widths."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    font = TTFont(source, recalcTimestamp=False)
    wanted = characters()
    if missing := wanted - set(map(chr, font.getBestCmap() or ())):
        raise SystemExit(f"{source} lacks {''.join(sorted(missing))}")
    options = Options(hinting=False, layout_features=[], notdef_outline=True)
    subsetter = Subsetter(options)
    subsetter.populate(text="".join(wanted))
    subsetter.subset(font)
    font.flavor = out.suffix.removeprefix(".")
    font.save(out)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"{FONT}: {len(characters())} characters, {FONT.stat().st_size} bytes")

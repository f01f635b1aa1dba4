"""The site as it is pushed: the book, and every edition that was published.

    python -m book.site.publish PUBLISHED SITE

``PUBLISHED`` holds what is on the site now (empty the first time), ``SITE`` is
written. A build of ``main`` replaces the pages; a build of a tag only adds the
edition of its release. An edition of a release, once there, never changes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from book import ROOT

BUILD = ROOT / "_build"


def is_release(folder: Path) -> bool:
    return folder.is_dir() and folder.name != "latest"


def assemble(published: Path, built: Path, site: Path) -> None:
    """Write ``site`` from what is ``published`` and what was ``built``."""
    old = published / "colab"
    new = [folder for folder in (built / "colab").glob("*") if folder.is_dir()]
    release = any(map(is_release, new)) and any(published.glob("*.html"))
    shutil.rmtree(site, ignore_errors=True)
    hidden = shutil.ignore_patterns(".*", "colab")
    shutil.copytree(published if release else built, site, ignore=hidden)
    for folder in (*old.glob("*"), *new):
        target = site / "colab" / folder.name
        if is_release(folder) and target.exists():
            continue
        shutil.copytree(folder, target, dirs_exist_ok=True)


def main() -> int:
    published, site = Path(sys.argv[1]), Path(sys.argv[2])
    assemble(published, BUILD / "html", site)
    for name in ("mattn.pdf", "mattn.zip"):
        if (BUILD / name).is_file() and not (site / name).is_file():
            shutil.copy(BUILD / name, site / name)
    editions = sorted(path.name for path in (site / "colab").glob("*"))
    print(f"{site}: editions {', '.join(editions) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

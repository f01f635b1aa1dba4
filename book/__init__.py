"""What turns the chapters and exercises into pages, files and a class's marks.

    notebooks    executed and brought into their form
    site/        pages, editions for Colab, PDF, archive
    classroom/   assignments given out, submissions graded

Programs are run from the top of the tree, as `make` does it:
``python -m book.site.pdf``.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The top of the tree."""

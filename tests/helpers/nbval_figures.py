"""nbval compares figures as tests/stored_figures.py does, not letter for letter."""

from __future__ import annotations

from collections.abc import Sequence

import nbformat
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell
from stored_figures import differences, svg_of

from book.notebooks import FIGURE

compare_all = IPyNbCell.compare_outputs


def compare(
    cell: IPyNbCell,
    drawn: Sequence[NotebookNode],
    stored: Sequence[NotebookNode],
    skip_compare: Sequence[str] | None = None,
) -> bool:
    """nbval's comparison of all else, once every figure is found to be the stored one.

    The n-th figure is compared with the n-th, as nbval does it.
    """
    figures = iter([svg for output in stored if (svg := svg_of(output))])
    alike = []
    for output in drawn:
        svg = svg_of(output)
        if old := next(figures, None) if svg else None:
            if found := list(differences(old, svg)):
                cell.comparison_traceback = [" mismatch in a figure", *found]
                return False
            data = {**output["data"], FIGURE: old}
            output = nbformat.from_dict({**output, "data": data})
        alike.append(output)
    return compare_all(cell, alike, stored, skip_compare)


IPyNbCell.compare_outputs = compare

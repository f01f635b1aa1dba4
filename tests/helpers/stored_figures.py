"""What a stored figure must be, and whether one that is drawn again is the same.

A figure is SVG that `mattn.plotting` wrote and `make notebooks` signed. nbval would
compare it letter for letter, which no other version of matplotlib survives: here
numbers may differ by a little. Where training or a machine decides what is drawn
(`plotting.measured`), only what stands around it is compared: the words, and the
colours that have a meaning.
"""

from __future__ import annotations

import ast
import base64
import io
import re
from collections.abc import Iterator
from itertools import zip_longest
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
from nbformat import NotebookNode

from book.notebooks import FIGURE, SAID_INSIDE, digest, shows

MAX_BYTES = 60_000
MAX_WIDTH, MAX_HEIGHT = 620, 440  # pixels
LEAST_TEXT, PHONE = 11, 358  # pixels; the width of the text on a phone of 390
CLOSE = 0.75  # points: two versions of matplotlib place a label so much apart
STEPS = 8  # of 255 in a colour channel are as close as a point
COLOUR = re.compile("#" + 3 * "([0-9a-f]{2})", re.IGNORECASE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
MEASURED = re.compile(r"<(?:svg|table)\b[^>]* data-measured\b|\AAs measured:")
PICTURES = ("image/png", "image/jpeg")


def svg_of(output: NotebookNode) -> str | None:
    return output.get("data", {}).get(FIGURE)


def pictures(outputs: list[NotebookNode]) -> list[str]:
    """The kinds of all pictures that a cell put out."""
    kinds = (FIGURE, *PICTURES)
    return [k for output in outputs for k in output.get("data", {}) if k in kinds]


def stored_pictures(cell: NotebookNode) -> Iterator[str]:
    """Faults of what one cell shows: unsigned, exchanged, not SVG, too big."""
    said = cell.metadata.get("mattn", {})
    if shows(cell) and said.get("shown") != digest(cell):
        yield "its output is not what its source put out: `make notebooks`"
    for output in cell.outputs:
        for kind in set(PICTURES) & set(output.get("data", {})):
            if not said.get("why-not-svg"):
                yield f"stores {kind}; figures are SVG, or `why-not-svg` says why"
        if svg := svg_of(output):
            yield from svg_faults(svg)


def svg_faults(svg: str) -> Iterator[str]:
    """Not drawn by mattn, too many bytes, too large, text too small."""
    if len(svg.encode()) > MAX_BYTES:
        yield f"figure of {len(svg.encode())} bytes; at most {MAX_BYTES}"
    root = ElementTree.fromstring(svg)
    if root.get("class") != "mattn-figure":
        yield "figure not drawn by mattn.plotting.svg: call start() first"
        return
    width, height = int(root.get("width")), int(root.get("height"))
    if width > MAX_WIDTH or height > MAX_HEIGHT:
        yield f"figure of {width}×{height} pixels; at most {MAX_WIDTH}×{MAX_HEIGHT}"
    if (least := smallest_text(root, PHONE)) < LEAST_TEXT - 0.05:
        yield f"text of {least:.1f} pixels on a phone; at least {LEAST_TEXT}"


def smallest_text(root: ElementTree.Element, room: float) -> float:
    """The height in pixels of the smallest text where there is so much room."""
    least = float(re.search(r"--mattn-least: ([\d.]+)px", root.get("style"))[1])
    shown = max(min(float(root.get("width")), room), least)
    scale = shown / float(root.get("viewBox").split()[2])
    sizes = [float(e.get("font-size")) for e in root.iter() if e.get("font-size")]
    return min(sizes, default=np.inf) * scale


def unguarded(cell: NotebookNode) -> Iterator[str]:
    """What nbval is told not to compare, without an assert in its cell."""
    for output in cell.outputs:
        data = output.get("data", {})
        marked = [MEASURED.search(str(text)) for text in data.values()]
        if output.output_type == "stream" and MEASURED.search(output.text):
            yield "prints what nbval would take for a mark of measured output"
        if any(marked) and not any(map(says_something, asserts(cell.source))):
            yield "shows what was measured, and no assert in it says what must hold"


def asserts(source: str) -> list[ast.expr]:
    nodes = ast.walk(ast.parse(source))
    return [node.test for node in nodes if isinstance(node, ast.Assert)]


def says_something(test: ast.expr) -> bool:
    """A comparison of something that has a name."""
    parts = list(ast.walk(test))
    compares = any(isinstance(part, ast.Compare) for part in parts)
    return compares and any(isinstance(part, ast.Name) for part in parts)


def differences(stored: str, drawn: str) -> Iterator[str]:
    """Where a figure that is drawn again is not the stored one."""
    try:
        a, b = (ElementTree.fromstring(SAID_INSIDE.sub("", s)) for s in (stored, drawn))
    except ElementTree.ParseError as error:
        yield f"stored or drawn is no SVG: {error}"
        return
    if "data-measured" in a.attrib and "data-measured" in b.attrib:
        for name, call in (("words", words), ("colours", meanings)):
            if call(a) != call(b):
                yield f"{name}: stored {sorted(call(a))}, now {sorted(call(b))}"
        return
    for old, new in zip_longest(a.iter(), b.iter()):
        if old is None or new is None:
            yield f"stored {len([*a.iter()])} elements, now {len([*b.iter()])}"
            return
        texts = [f"{e.tag} {e.text or ''}" for e in (old, new)]
        given = [str(sorted(e.attrib.items())) for e in (old, new)]
        if texts[0] != texts[1] or not alike(*map(written, given)):
            yield f"stored {texts[0]} {given[0]}, now {texts[1]} {given[1]}"
            return


def words(root: ElementTree.Element) -> set[str]:
    """Texts without a digit: what stands at the axes and in the legend."""
    texts = (
        "".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("text")
    )
    return {text for text in texts if text and not re.search(r"\d", text)}


def meanings(root: ElementTree.Element) -> set[str]:
    return set(
        re.findall(r"--mattn-[a-z]+(?=,)", ElementTree.tostring(root, "unicode"))
    )


def written(attributes: str) -> tuple[str, np.ndarray]:
    """Attributes as words and numbers; of an id only that there is one."""
    text = re.sub(r"mattn-[0-9a-f]{8}-\d+", "ID", attributes)
    pixels = np.empty(0)
    if image := re.search(r"data:image/png;base64,([^']*)", text):
        file = io.BytesIO(base64.b64decode(image[1].replace("\\n", "")))
        pixels = matplotlib.image.imread(file, "png").ravel() * 100
        text = text.replace(image[1], "")
    text = COLOUR.sub(lambda m: str([int(n, 16) / STEPS for n in m.groups()]), text)
    numbers = np.array([float(n) for n in NUMBER.findall(text)])
    return NUMBER.sub("0", text), np.concatenate([numbers, pixels])


def alike(old: tuple[str, np.ndarray], new: tuple[str, np.ndarray]) -> bool:
    """The same words, and numbers of which none is far from the other."""
    (words_a, a), (words_b, b) = old, new
    return (
        words_a == words_b and a.shape == b.shape and bool((abs(a - b) < CLOSE).all())
    )

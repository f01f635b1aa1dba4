"""A figure as SVG that is at home on its page: its ink is the ink of the text.

Whatever matplotlib draws in black becomes ``currentColor``; a colour that has a
meaning becomes a variable of the page with the colour itself behind it,
``var(--mattn-allowed, #0072B2)``; the ground is left out. So one file does for a
light and a dark page. Where no page speaks for it, as in JupyterLab, which shows
it as an image, its ink is a grey that can be read on white and on black. It does
not ask for the system's own dark mode: the page may have been switched.

Text is text, in the page's font where the page says so.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from html import escape
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mattn.plotting.style import INK, MEANINGS

__all__ = ["show_as_svg", "svg"]

ALONE = "#6F7782"  # 4.5 to 1 on white and 4.1 to 1 on the black of JupyterLab
LEAST = 11.0  # pixels: the smallest text that a phone shows
FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
COLOURS = {c.lower(): f"var(--mattn-{name}, {c})" for c, name in MEANINGS.items()}
COLOURS[INK] = "currentColor"
PAINT = re.compile(r"#[0-9a-f]{6}\b")
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
TURNED = re.compile(r"rotate\(-?0(?:\.0)? [^)]*\)")
SHARED = {"id", "clip-path"}  # attributes whose value is, or leads to, an id
NO_SUCH = {"Date": None, "Creator": None, "Format": None, "Type": None}


def svg(figure: Figure) -> str:
    """The figure as SVG, one element a line; the same figure, the same text.

    Its size is such that no text is smaller than 11 pixels; ``--mattn-least``
    on its root says from which width on that holds.
    """
    given: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "mattn",
        "svg.image_inline": True,
    }
    file = io.StringIO()
    with mpl.rc_context(given):
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.04,
            metadata=NO_SUCH,
        )
    root = ElementTree.fromstring(file.getvalue())
    width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])
    body = [line for part in root for line in _lines(part)]
    sizes = [float(n) for n in re.findall(r'font-size="([\d.]+)', "\n".join(body))]
    least = width * LEAST / min(sizes, default=LEAST)
    wide = max(width * 4 / 3, least)
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "mattn-figure",
        **({"data-measured": ""} if figure.get_gid() == "measured" else {}),
        "role": "img",
        "width": f"{wide:.0f}",
        "height": f"{wide * height / width:.0f}",
        "viewBox": f"0 0 {_short(width)} {_short(height)}",
        "style": f"--mattn-least: {least:.0f}px",
        "color": ALONE,
        "fill": "currentColor",
        "font-family": FONT,
        "overflow": "visible",
        "stroke-linejoin": "round",
    }
    return _own_ids("\n".join([f"<svg{_written(attributes)}>", *body, "</svg>"])) + "\n"


def show_as_svg() -> bool:
    """In a notebook, show every figure as SVG from here on; elsewhere nothing.

    Says whether there is a notebook. What ``%config InlineBackend`` says later
    comes first.
    """
    # A notebook has loaded it; where nobody has, there is none.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return False
    # Where it is loaded, and perhaps once more after this cell, the backend of
    # notebooks asks for PNG: load it now, and come after it.
    plt.switch_backend(mpl.get_backend())

    def register() -> None:
        formatters = shell.display_formatter.formatters
        for formatter in formatters.values():
            formatter.type_printers.pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, svg)

    def once_more(*_: object) -> None:
        register()
        shell.events.unregister("post_run_cell", once_more)

    register()
    shell.events.register("post_run_cell", once_more)
    return True


def _lines(node: ElementTree.Element) -> Iterator[str]:
    """An element without what no reader sees, its children below it."""
    tag = node.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return
    attributes = _attributes(tag, node.attrib)
    unseen = attributes.get("fill") == "none" and "stroke" not in attributes
    if attributes.get("opacity") == "0" or (tag == "path" and unseen):
        return
    inside = [line for part in node for line in _lines(part)]
    if tag in ("g", "defs") and not inside:
        return
    text = escape(node.text or "", quote=False) if tag in ("text", "tspan") else ""
    if tag == "g" and not attributes.keys() - {"id"}:
        yield from inside
    elif tag == "text":
        yield f"<text{_written(attributes)}>{text}{''.join(inside)}</text>"
    elif inside or text:
        joined = "" if tag == "tspan" else "\n"
        parts = [f"<{tag}{_written(attributes)}>{text}", *inside, f"</{tag}>"]
        yield joined.join(parts)
    else:
        yield f"<{tag}{_written(attributes)}/>"


def _attributes(tag: str, given: dict[str, str]) -> dict[str, str]:
    """The attributes of one element: short, with the colours of the page."""
    found: dict[str, str] = {}
    for name, value in given.items():
        name = name.rpartition("}")[2]
        if name == "style":
            for part in filter(None, map(str.strip, value.split(";"))):
                key, _, said = part.partition(":")
                found |= _property(key.strip(), said.strip())
        elif name in SHARED or (name == "href" and value.startswith("data:")):
            found[name] = value
        elif name in ("fill", "stroke"):
            found |= _property(name, value)
        elif name == "d":
            found[name] = _path(value)
        else:
            found[name] = NUMBER.sub(lambda m: _short(float(m[0])), value)
    if tag in ("text", "tspan") and TURNED.fullmatch(given.get("transform", "")):
        del found["transform"]
    if found.get("text-anchor") == "start":
        del found["text-anchor"]
    return found


def _property(key: str, value: str) -> dict[str, str]:
    """One declaration of a style as attributes."""
    if key == "font":  # as matplotlib wrote it up to 3.9: italic 700 8px 'DejaVu'
        said = re.match(r"(italic |oblique )?(bold |\d+ )?([\d.]+)px (.*)", value)
        style, weight, size, family = said.groups() if said else [None] * 4
        parts = {"font-style": style, "font-weight": weight, "font-size": size}
        found = {name: part.strip() for name, part in parts.items() if part}
        return found | _property("font-family", family or "")
    if key == "font-family":
        return {key: MONO} if "Mono" in value else {}
    if key == "font-size":
        value = value.removesuffix("px")
    if key in ("stroke-linejoin", "stroke-linecap") and value in ("miter", "butt"):
        return {}
    value = PAINT.sub(lambda m: COLOURS.get(m[0], m[0]), value)
    if (key, value) == ("fill", "currentColor"):
        return {}
    if "var(" not in value:
        value = NUMBER.sub(lambda m: _short(float(m[0])), value)
    return {key: value}


def _path(drawn: str) -> str:
    """The commands of a path, lines along an axis as ``H`` and ``V``."""
    short, x, y = [], "", ""
    for command, *numbers in re.findall(r"[A-Za-z][^A-Za-z]*", drawn):
        found = [_short(float(n)) for n in "".join(numbers).split()]
        if command == "L" and found[1] == y and found[0] != x:
            short.append(f"H{found[0]}")
        elif command == "L" and found[0] == x:
            short.append(f"V{found[1]}")
        else:
            short.append(command + " ".join(found))
        if found:
            x, y = found[-2:]
    return "".join(short)


def _short(number: float) -> str:
    """Two decimals at most, and no zero behind them."""
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _written(attributes: dict[str, str]) -> str:
    """Attributes as text. What has a variable is a style: all browsers know it."""
    styled = {k: v for k, v in attributes.items() if "var(" in v}
    plain = {k: v for k, v in attributes.items() if k not in styled}
    if styled:
        plain["style"] = "; ".join(f"{k}: {v}" for k, v in styled.items())
    return "".join(f' {k}="{escape(v)}"' for k, v in plain.items())


def _own_ids(text: str) -> str:
    """The text with ids that no other figure of a page has; none without use."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    used = dict.fromkeys(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
    new = {a or b: f"mattn-{digest}-{n}" for n, (a, b) in enumerate(used)}
    text = re.sub(
        r' id="([^"]+)"', lambda m: f' id="{new[m[1]]}"' if m[1] in new else "", text
    )
    text = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{new[m[1]]})", text)
    return re.sub(r'href="#([^"]+)"', lambda m: f'href="#{new[m[1]]}"', text)

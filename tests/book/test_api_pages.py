"""The API pages name what the package gives, in one order with it."""

import re

from roots import ROOT

import mattn


def test_the_table_has_every_name_of_mattn_in_the_order_of_the_chapters():
    page = (ROOT / "chapters" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) [^|]*\| ([^|]*) \|$", page, flags=re.M)
    chapters = [int(chapter) for chapter, _ in rows]
    assert chapters == sorted(chapters)
    names = [name for _, cell in rows for name in re.findall(r"`(\w+)`", cell)]
    assert names == mattn.__all__


def test_every_module_stands_on_one_page():
    """A module that nobody can look up is one that only its authors know."""
    pages = "".join(
        p.read_text(encoding="utf-8") for p in ROOT.glob("chapters/api*.md")
    )
    documented = re.findall(r"^\.\. automodule:: (\S+)$", pages, flags=re.M)
    assert len(documented) == len(set(documented))
    public = {m for m in documented if m.count(".") == 1}
    modules = {f"mattn.{path.stem}" for path in (ROOT / "mattn").glob("[a-z]*.py")}
    # Between the parts, for the parts: nobody calls these from outside.
    inner = {f"mattn.{m}" for m in ("files", "inputs", "optional", "reader", "shares")}
    assert modules - public == inner

"""What a stored notebook must be where nbval is blind.

nbval runs the cells and compares their text. It does not see a cell that was
never run, a missing image, a shuffled order, stored warnings, a path of
somebody's machine, or a number in prose that no cell ever printed. Each check
here takes a notebook and yields one sentence for each fault it finds.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from roots import ROOT
from stored_figures import pictures, stored_pictures, unguarded

from book.notebooks import canonical, to_text

TAGS = {"hide-output", "hide-input", "raises-exception"}
FOLDS = {"hide-output": "outputs_hidden", "hide-input": "source_hidden"}
FIRST = "index"  # the one page whose code is not what it is about
MAX_CODE_CELLS, MAX_LINES, MAX_COLUMNS, MAX_WORDS = 40, 30, 79, 120
MAX_MEDIAN_LINES, MAX_MOST_LINES = 8, 18  # "most": 90 % of the cells

MACHINE = re.compile(
    r"""(?<![\w.:/-])/(?:home|Users|root|tmp|var|usr|opt|mnt|srv|work|private
        |content|workspace|builds?)/\w
    | \b[A-Za-z]:\\+\w
    | (?:site|dist)-packages
    | file://
    | ipykernel_\d
    | \b0x[0-9a-f]{6,}""",
    re.VERBOSE,
)
NUMBER = r"[+−-]?\d+(?:[.,]\d+)*(?:e[+−-]?\d+)?"
# A mark of the rule in nbval_sanitize.cfg, and what it stands before.
MEASURED = re.compile(rf"≈[ \xa0]*({NUMBER})")
MARK = re.compile(r"[≈±][ \xa0]*[+−-]?\Z")
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
# A bold number, perhaps with a unit: **1.284**, **≈ 3 %**, **1.284 nats**.
BOLD_NUMBER = re.compile(rf"[≈~<>≤≥=]?\s*({NUMBER})(?:\s*[%×])?(?:\s+[^\W\d]\w*)?")
SCRIPT = re.compile(r"<script>.*?</script>", re.DOTALL)
SLUG = re.compile(r"\S*")
FILE = re.compile(r"\.(?:png|svg|jpe?g|gif|webp)\b|[\\/]\w+[\\/]", re.IGNORECASE)


def listed_in_toc(toc: Path = ROOT / "_toc.yml") -> set[str]:
    """The files that ``_toc.yml`` names, without suffix: ``chapters/index``."""

    def files(entry: object) -> Iterator[str]:
        if isinstance(entry, dict):
            yield from (v for k, v in entry.items() if k in ("file", "root"))
            entry = list(entry.values())
        if isinstance(entry, list):
            for part in entry:
                yield from files(part)

    return set(files(yaml.safe_load(toc.read_text(encoding="utf-8"))))


def faults(text: str, name: str, toc: set[str]) -> list[str]:
    """Every fault of the notebook ``text``, stored as ``chapters/<name>.ipynb``."""
    notebook = nbformat.reads(text, as_version=4)
    found = [fault for check in CHECKS for fault in check(notebook)]
    if name != FIRST:
        found += [
            f"{where(cell)}: hide-input is for {FIRST}; a chapter shows its code"
            for cell in notebook.cells
            if "hide-input" in cell.metadata.get("tags", [])
        ]
    if f"chapters/{name}" not in toc:
        found.append(f"chapters/{name} is not in _toc.yml")
    if to_text(canonical(deepcopy(notebook))) != text:
        found.append("not in canonical form: `make tidy` repairs it")
    return [f"{name}: {fault}" for fault in found]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def where(cell: NotebookNode) -> str:
    """How a message names a cell: its id and how it begins."""
    first = cell.source.strip().split("\n")[0]
    return f"cell {cell.id} ({first[:40]!r})"


def text_of(output: NotebookNode) -> str:
    """All text of one output, whatever its form; a script is no output."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    return "\n".join(
        SCRIPT.sub("", value if isinstance(value, str) else str(value))
        for kind, value in output.data.items()
        if not kind.startswith("image/") or kind == "image/svg+xml"
    )


def executed(notebook: NotebookNode) -> Iterator[str]:
    """Every code cell was run, once, from the top: counts exactly 1…n."""
    for expected, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count is None:
            yield f"{where(cell)} was never executed: `make notebooks`"
        elif cell.execution_count != expected:
            yield (
                f"{where(cell)} has execution count {cell.execution_count}, "
                f"expected {expected}: `make notebooks`"
            )


def tags(notebook: NotebookNode) -> Iterator[str]:
    """Tags can hide a cell from the reader or from nbval: few are allowed."""
    for cell in notebook.cells:
        for tag in set(cell.metadata.get("tags", [])) - TAGS:
            yield f"{where(cell)} has the tag {tag!r}; allowed: {sorted(TAGS)}"
        folded = set(cell.metadata.get("jupyter", {}).items())
        named = FOLDS.keys() & set(cell.metadata.get("tags", []))
        if folded != {(FOLDS[tag], True) for tag in named}:
            pairs = [f"{tag} and jupyter.{name}" for tag, name in FOLDS.items()]
            yield f"{where(cell)}: {', '.join(pairs)} go together"


def clean_outputs(notebook: NotebookNode) -> Iterator[str]:
    """No error but a stated one, nothing on stderr, no trace of a machine."""
    for cell in code_cells(notebook):
        raises = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            if output.output_type == "error" and not raises:
                yield f"{where(cell)} stores an error: {output.ename}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"{where(cell)} stores stderr: {output.text[:60]!r}"
            if match := MACHINE.search(text_of(output)):
                yield f"{where(cell)} prints a path or address: {match[0]!r}"


def is_sentence(text: str) -> bool:
    """Words for a person: not empty, not a slug, not a path."""
    words = text.split()
    return len(words) >= 4 and not SLUG.fullmatch(text) and not FILE.search(text)


def figures(notebook: NotebookNode) -> Iterator[str]:
    """Every figure is there, with caption, alt text and name."""
    names: list[str] = []
    for cell in code_cells(notebook):
        mystnb = cell.metadata.get("mystnb", {})
        figure, image = mystnb.get("figure", {}), mystnb.get("image", {})
        images = pictures(cell.outputs)
        promised = bool(mystnb) or any(
            "<Figure size" in text_of(output) for output in cell.outputs
        )
        if promised and not images:
            yield f"{where(cell)} has no figure: `make notebooks`"
        if len(images) > 1:
            yield f"{where(cell)} stores {len(images)} images; one figure a cell"
        if not (promised or images):
            continue
        alt, caption = image.get("alt", ""), figure.get("caption", "")
        if not is_sentence(alt):
            yield f"{where(cell)}: alt text is no description: {alt!r}"
        if not is_sentence(caption) or not caption.rstrip().endswith((".", "?")):
            yield f"{where(cell)}: caption is no sentence: {caption!r}"
        if alt and alt == caption:
            yield f"{where(cell)}: alt text only repeats the caption"
        if not re.fullmatch(r"fig-[a-z0-9-]+", figure.get("name", "")):
            yield f"{where(cell)}: figure name is {figure.get('name')!r}, not fig-…"
        names.append(figure.get("name", ""))
    for name in {name for name in names if names.count(name) > 1}:
        yield f"figure name {name!r} is used twice"
    for cell in prose_cells(notebook):
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", cell.source):
            if not is_sentence(alt):
                yield f"{where(cell)}: image {target} has no alt text: {alt!r}"
        if "<img" in cell.source:
            yield f"{where(cell)}: image as raw HTML; write ![…](…)"


def shown(notebook: NotebookNode) -> Iterator[str]:
    """Pictures and tables are what the cell put out, and guarded if measured."""
    for cell in code_cells(notebook):
        for check in (stored_pictures, unguarded):
            yield from (f"{where(cell)}: {fault}" for fault in check(cell))


def numbers_in_prose(notebook: NotebookNode) -> Iterator[str]:
    """Every **bold** number in prose was printed by a cell of this notebook.

    One that was printed with ≈ may be repeated with fewer decimals.
    """
    printed = "\n".join(
        text_of(output) for cell in code_cells(notebook) for output in cell.outputs
    ).replace("−", "-")
    printed += "\n" + "\n".join(rounded(printed))
    for cell in prose_cells(notebook):
        for bold in BOLD.findall(cell.source):
            if not (match := BOLD_NUMBER.fullmatch(bold.strip())):
                continue
            number = re.escape(match[1].replace("−", "-"))
            if not re.search(rf"(?<![\w.]){number}(?!\d|[.,]\d|\w)", printed):
                yield f"{where(cell)}: no cell prints the **{bold}** of the prose"


def rounded(printed: str) -> Iterator[str]:
    """Each measured number of a text with fewer decimals than it was printed with."""
    for number in MEASURED.findall(printed):
        value = float(number.replace(",", ""))
        n_decimals = len(number.partition(".")[2])
        yield from (f"{value:.{n}f}" for n in range(n_decimals))


def measured(notebook: NotebookNode) -> Iterator[str]:
    """Each ≈ is written by an f-string whose value its cell bounds from both sides.

    nbval does not compare such a number (nbval_sanitize.cfg says the rule), so an
    assert must hold it.
    """
    for cell in code_cells(notebook):
        printed = "\n".join(map(text_of, cell.outputs))
        if "≈" not in cell.source + printed:
            continue
        tree = ast.parse(cell.source)
        nodes = list(ast.walk(tree))
        literals = [node.value for node in nodes if isinstance(node, ast.Constant)]
        n_loose = sum(text.count("≈") for text in literals if isinstance(text, str))
        for string in (node for node in nodes if isinstance(node, ast.JoinedStr)):
            for mark, value in marked(string):
                n_loose -= mark == "≈"
                if not variables(value) or variables(value) not in held(tree, value):
                    yield (
                        f"{where(cell)}: ≈ {{{ast.unparse(value.value)}}} has no "
                        "assert in its cell that bounds it from both sides"
                    )
            printed = re.sub(template(string), "", printed)
        if n_loose or "≈" in printed:
            yield f"{where(cell)}: a ≈ that no f-string puts right before a value"


def marked(string: ast.JoinedStr) -> Iterator[tuple[str, ast.FormattedValue]]:
    """The values of an f-string that stand right after ≈, or after its ±."""
    if any("≈" in p.value for p in string.values if isinstance(p, ast.Constant)):
        for before, value in pairwise(string.values):
            if isinstance(before, ast.Constant) and (m := MARK.search(before.value)):
                yield m[0][0], value


def held(tree: ast.Module, value: ast.AST) -> set[frozenset[str]]:
    """What asserts bound from both sides where ``value`` is written.

    A loop sets its names anew in every round: an assert outside sees the last one
    only and does not count for them.
    """
    names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    scope: ast.AST = tree
    for loop in ast.walk(tree):
        if isinstance(loop, ast.For | ast.While) and value in (
            parts := [*ast.walk(loop)]
        ):
            stores = (
                n for n in parts if isinstance(getattr(n, "ctx", None), ast.Store)
            )
            if names & {n.id for n in stores if isinstance(n, ast.Name)}:
                scope = loop
    asserts = (n.test for n in ast.walk(scope) if isinstance(n, ast.Assert))
    return {names for test in asserts for names in two_sided(test)}


def template(string: ast.JoinedStr) -> str:
    """A pattern of what an f-string writes, up to its last measured value."""
    measured = [value for _, value in marked(string)]
    if not measured:
        return r"(?!)"
    return "".join(
        re.escape(part.value) if isinstance(part, ast.Constant) else ".*?"
        for part in string.values[: string.values.index(measured[-1])]
    )


def two_sided(test: ast.expr) -> Iterator[frozenset[str]]:
    """The variables of each value that a condition bounds from both sides.

    ``low < value < high``, also with ``and``, in ``all(…)`` and with more than
    one value in the middle, and ``abs(value - expected) < tolerance``. A bound
    that is made of the value itself is none.
    """
    match test:
        case ast.BoolOp(op=ast.And(), values=parts):
            for part in parts:
                yield from two_sided(part)
        case ast.Call(
            func=ast.Name(id="all"),
            args=[ast.GeneratorExp(elt=part, generators=[ast.comprehension(ifs=[])])],
        ):
            yield from two_sided(part)
        case ast.Compare(
            left=ast.Call(
                func=ast.Name(id="abs"),
                args=[ast.BinOp(left=value, op=ast.Sub(), right=expected)],
            ),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[tolerance],
        ):
            if not variables(value) & (variables(expected) | variables(tolerance)):
                yield variables(value)
        case ast.Compare(left=low, ops=ops, comparators=[*values, high]):
            up = all(isinstance(op, ast.Lt | ast.LtE) for op in ops)
            down = all(isinstance(op, ast.Gt | ast.GtE) for op in ops)
            ends = variables(low) | variables(high)
            for value in values if up or down else ():
                if not variables(value) & ends:
                    yield variables(value)


def variables(node: ast.AST) -> frozenset[str]:
    """What an expression is made of, as it is written: ``loss.mean``, ``gaps[name]``.

    Not the functions that are called, nor numbers.
    """
    match node:
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return frozenset({ast.unparse(node)})
        case ast.Call(func=func, args=args, keywords=keywords):
            owner = [func.value] if isinstance(func, ast.Attribute) else []
            parts = [*owner, *args, *(keyword.value for keyword in keywords)]
        case ast.FormattedValue(value=value):
            parts = [value]
        case _:
            parts = ast.iter_child_nodes(node)
    return frozenset().union(*map(variables, parts))


def plain_markdown(notebook: NotebookNode) -> Iterator[str]:
    """Nothing that shows as source text in Jupyter or Colab; nothing hidden."""
    for cell in prose_cells(notebook):
        if match := re.search(r"(?:```|:::)\{\w|\{[\w:-]+\}`", cell.source):
            yield f"{where(cell)}: MyST shows raw in Jupyter and Colab: {match[0]!r}"
    for cell in code_cells(notebook):
        if re.search(r"^\s*[!%]", cell.source, re.MULTILINE):
            yield f"{where(cell)}: a shell or magic line"


def title(notebook: NotebookNode) -> Iterator[str]:
    """One title, in the first cell; its number comes from the book."""
    first = notebook.cells[0].source
    if not re.match(r"# [^\W\d]", first):
        yield f"does not begin with an unnumbered title: {first[:40]!r}"
    for cell in prose_cells(notebook)[1:]:
        if re.search(r"^# ", cell.source, re.MULTILINE):
            yield f"{where(cell)}: a second title"


def limits(notebook: NotebookNode) -> Iterator[str]:
    """Short cells, short lines, short paragraphs."""
    cells = code_cells(notebook)
    lengths = [sum(bool(line.strip()) for line in c.source.split("\n")) for c in cells]
    if len(cells) > MAX_CODE_CELLS:
        yield f"{len(cells)} code cells; at most {MAX_CODE_CELLS}"
    for cell, length in zip(cells, lengths, strict=True):
        if length == 0:
            yield f"{where(cell)} is empty"
        if length > MAX_LINES:
            yield f"{where(cell)} has {length} lines; at most {MAX_LINES}"
        for line in cell.source.split("\n"):
            if len(line) > MAX_COLUMNS:
                yield f"{where(cell)}: line of {len(line)} columns; at most 79"
    if lengths and statistics.median(lengths) > MAX_MEDIAN_LINES:
        yield f"median cell of {statistics.median(lengths)} lines; at most 8"
    if sum(length > MAX_MOST_LINES for length in lengths) > 0.1 * len(lengths):
        long = sorted(length for length in lengths if length > MAX_MOST_LINES)
        yield f"more than 10 % of the cells have over 18 lines: {long}"
    for cell in prose_cells(notebook):
        if (words := n_words(cell.source)) > MAX_WORDS:
            yield f"{where(cell)} has {words} words; at most {MAX_WORDS}"


def n_words(source: str) -> int:
    """Words of running text: no formulas, code blocks, tags, link targets."""
    patterns = (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]*\$", r"<[^>]+>", r"\]\([^)]*\)")
    for pattern in patterns:
        source = re.sub(pattern, " ", source, flags=re.DOTALL)
    return sum(any(c.isalnum() for c in word) for word in source.split())


CHECKS = (
    executed,
    tags,
    clean_outputs,
    figures,
    shown,
    numbers_in_prose,
    measured,
    plain_markdown,
    title,
    limits,
)

"""Each fault that a stored notebook can have is planted, and must be caught.

The notebook is a copy of a real chapter. A planted fault must be the *only*
kind of fault found, so that no check hides behind another.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns
from roots import ROOT
from stored_figures import pictures
from stored_state import (
    BOLD,
    BOLD_NUMBER,
    code_cells,
    faults,
    measured,
    n_words,
    prose_cells,
)

from book.notebooks import to_text

NAME = "chapter"
SANITIZE = ROOT / "tests/nbval_sanitize.cfg"
TOC = {f"chapters/{NAME}"}


def bold_numbers(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Every bold number in prose, with the cell that it stands in."""
    for cell in prose_cells(notebook):
        for bold in BOLD.findall(cell.source):
            if BOLD_NUMBER.fullmatch(bold.strip()):
                yield cell, bold


def figure_cell(notebook: NotebookNode) -> NotebookNode:
    return next(c for c in code_cells(notebook) if pictures(c.outputs))


@pytest.fixture(scope="module")
def chapter() -> NotebookNode:
    """The first chapter that has both a figure and a bold number in prose."""
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        images = any(pictures(c.outputs) for c in code_cells(notebook))
        if images and any(bold_numbers(notebook)):
            return notebook
    pytest.fail("no chapter has a figure and a bold number")


def unexecuted_cell(notebook: NotebookNode) -> None:
    cell = code_cells(notebook)[-1]
    cell.execution_count, cell.outputs = None, []


def cleared_notebook(notebook: NotebookNode) -> None:
    for cell in code_cells(notebook):
        cell.execution_count, cell.outputs = None, []


def swapped_order(notebook: NotebookNode) -> None:
    cells = notebook.cells
    i, j = [i for i, cell in enumerate(cells) if cell.cell_type == "code"][1:3]
    cells[i], cells[j] = cells[j], cells[i]


def executed_twice(notebook: NotebookNode) -> None:
    code_cells(notebook)[-1].execution_count += 1


def missing_picture(notebook: NotebookNode) -> None:
    for output in figure_cell(notebook).outputs:
        output.get("data", {}).pop("image/svg+xml", None)


def missing_output_of_figure(notebook: NotebookNode) -> None:
    figure_cell(notebook).outputs = []


def slug_as_alt(notebook: NotebookNode) -> None:
    figure_cell(notebook).metadata.mystnb.image.alt = "fig-causal-mask"


def path_as_alt(notebook: NotebookNode) -> None:
    path = "the file ../_images/figure causal mask.png"
    figure_cell(notebook).metadata.mystnb.image.alt = path


def no_alt(notebook: NotebookNode) -> None:
    del figure_cell(notebook).metadata.mystnb["image"]


def no_caption(notebook: NotebookNode) -> None:
    figure_cell(notebook).metadata.mystnb.figure.caption = ""


def no_figure_name(notebook: NotebookNode) -> None:
    del figure_cell(notebook).metadata.mystnb.figure["name"]


def figure_without_metadata(notebook: NotebookNode) -> None:
    del figure_cell(notebook).metadata["mystnb"]


def stored_stderr(notebook: NotebookNode) -> None:
    warning = new_output("stream", name="stderr", text="UserWarning: slow\n")
    code_cells(notebook)[-1].outputs.append(warning)


def stored_error(notebook: NotebookNode) -> None:
    error = new_output("error", ename="ValueError", evalue="no", traceback=["no"])
    code_cells(notebook)[-1].outputs.append(error)


def printed(text: str) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        output = new_output("stream", name="stdout", text=text)
        code_cells(notebook)[0].outputs = [output]

    return plant


def path_in_result(notebook: NotebookNode) -> None:
    data = {"text/plain": "PosixPath('/home/ada/book/data.txt')"}
    output = new_output("execute_result", data=data, execution_count=1)
    code_cells(notebook)[0].outputs = [output]


def measured_without_bound(notebook: NotebookNode) -> None:
    cell = code_cells(notebook)[0]
    cell.source = 'share = 0.8\nassert share > 0.6\nprint(f"≈ {share:.2f}")'
    cell.outputs = [new_output("stream", name="stdout", text="≈ 0.80\n")]


def tagged(tag: str) -> Callable[[NotebookNode], None]:
    def plant(notebook: NotebookNode) -> None:
        code_cells(notebook)[-1].metadata["tags"] = [tag]

    return plant


def wrong_digit_in_prose(notebook: NotebookNode) -> None:
    cell, bold = next(bold_numbers(notebook))
    last = re.findall(r"\d", bold)[-1]
    at = bold.rindex(last)
    outputs = str([cell.outputs for cell in code_cells(notebook)])
    for digit in "0123456789":
        wrong = bold[:at] + digit + bold[at + 1 :]
        if wrong not in outputs:
            cell.source = cell.source.replace(f"**{bold}**", f"**{wrong}**")
            return
    pytest.fail(f"every number like {bold} is printed somewhere")


def myst_in_markdown(notebook: NotebookNode) -> None:
    prose_cells(notebook)[-1].source = "See {ref}`fig-causal`."


def numbered_title(notebook: NotebookNode) -> None:
    first = notebook.cells[0]
    first.source = first.source.replace("# ", "# 1 ", 1)


def shell_line(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].source = "!pip install mattn"


def long_line(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].source = "x = 1  # " + "x" * 80


def long_cell(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].source = "\n".join(["x = 1"] * 31)


def long_prose(notebook: NotebookNode) -> None:
    prose_cells(notebook)[0].source = "word " * 120 + "word"


def not_canonical(notebook: NotebookNode) -> None:
    notebook.metadata["widgets"] = {"state": 1}


PLANTS = [
    (unexecuted_cell, "never executed"),
    (cleared_notebook, "never executed"),
    (swapped_order, "execution count"),
    (executed_twice, "execution count"),
    (missing_picture, "no figure"),
    (missing_output_of_figure, "no figure"),
    (slug_as_alt, "alt text"),
    (path_as_alt, "alt text"),
    (no_alt, "alt text"),
    (no_caption, "caption"),
    (no_figure_name, "figure name"),
    (figure_without_metadata, "alt text"),
    (stored_stderr, "stderr"),
    (stored_error, "stores an error"),
    (printed("saved to /tmp/figure.png\n"), "path"),
    (printed("File '/Users/ada/book/x.py'\n"), "path"),
    (printed("C:\\Users\\ada\\book\n"), "path"),
    (printed(".venv/lib/python3.11/site-packages/torch\n"), "path"),
    (printed("<object at 0x7f3a5c2b1d90>\n"), "address"),
    (path_in_result, "path"),
    (measured_without_bound, "bounds it from both sides"),
    (tagged("nbval-ignore-output"), "tag"),
    (tagged("remove-input"), "tag"),
    (tagged("hide-output"), "outputs_hidden"),
    (tagged("hide-input"), "source_hidden"),
    (tagged("hide-input"), "shows its code"),
    (wrong_digit_in_prose, "of the prose"),
    (myst_in_markdown, "MyST"),
    (numbered_title, "title"),
    (shell_line, "shell"),
    (long_line, "columns"),
    (long_cell, "lines"),
    (long_prose, "words"),
    (not_canonical, "make tidy"),
]


def test_the_chapter_itself_has_no_fault(chapter: NotebookNode) -> None:
    assert not faults(to_text(chapter), NAME, TOC)


@pytest.mark.parametrize(
    ("plant", "message"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}") for case in PLANTS],
)
def test_planted_fault_is_caught(
    chapter: NotebookNode, plant: Callable[[NotebookNode], None], message: str
) -> None:
    broken = deepcopy(chapter)
    plant(broken)
    assert to_text(broken) != to_text(chapter)
    assert any(message in fault for fault in faults(to_text(broken), NAME, TOC))


def test_notebook_missing_from_toc_is_caught(chapter: NotebookNode) -> None:
    (fault,) = faults(to_text(chapter), NAME, TOC - {f"chapters/{NAME}"})
    assert "_toc.yml" in fault


@pytest.mark.parametrize(
    ("printed", "prose", "tied"),
    [
        ("H = 1.284", "**1.284**", True),
        ("H = 1.2841", "**1.284**", False),
        ("H = 11.284", "**1.284**", False),
        ("-0.5", "**−0.5**", True),
        ("0.5", "**−0.5**", False),
        ("36 of 64", "**36**", True),
        ("360", "**36**", False),
        ("1.284", "**1.284 nats**", True),
        ("1.285", "**≈ 1.284 nats**", False),
        ("3 %", "**3 %**", True),
        ("v3", "**3**", False),
        ("(1020.0,", "**1020.0**", True),
        ("nothing", "**1. Count the pairs** ●○○", True),
        ("nothing", "**True** means may attend", True),
        ("≈ 0.84", "**0.8**", True),
        ("≈ 0.84", "**≈ 0.84**", True),
        ("≈ 0.84", "**0.9**", False),
        ("≈ −1,234.5", "**−1234**", True),
        ("0.84", "**0.8**", False),
    ],
)
def test_bold_number_is_tied_to_an_output(
    chapter: NotebookNode, printed: str, prose: str, tied: bool
) -> None:
    small = deepcopy(chapter)
    code, text = code_cells(small)[0], prose_cells(small)[0]
    code.outputs = [new_output("stream", name="stdout", text=printed)]
    text.source = prose
    small.cells = [text, code]
    found = faults(to_text(small), NAME, TOC)
    assert any("of the prose" in fault for fault in found) is not tied


@pytest.mark.parametrize(
    "source",
    [
        "assert 0.6 < share < 0.9",
        "assert 0.9 >= share > 0.6",
        "assert abs(share - 0.8) < 0.1",
        "assert abs(share - usual) <= 2 * error",
        "assert other > 0 and 0.6 < share < 0.9",
        "for share in shares:\n    assert 0.6 < share < 0.9",
        "assert all(0.6 < share < 0.9 for share in shares)",
        "assert 0.1 < other < share < 0.9",
    ],
)
def test_a_measured_number_with_a_bound_from_both_sides(source: str) -> None:
    assert not faults_of_measured(f'{source}\nprint(f"≈ {{share:.2f}}")')


@pytest.mark.parametrize(
    "source",
    [
        "share = 0.8",
        "assert share > 0.6",
        "assert 0.6 < share",
        "assert 0.6 < share, share < 0.9",
        "assert 0.6 < share > 0.5",
        "assert 0.6 < share != 0.9",
        "assert 0.6 < other < 0.9",
        "assert 0.6 < other < share",
        "assert share - 1 < share < share + 1",
        "assert 0.6 < share < 0.9 or share",
        "assert not 0.6 < share < 0.9",
        "assert any(0.6 < share < 0.9 for share in shares)",
        "assert all(0.6 < share < 0.9 for share in shares if share > 0.7)",
        "assert abs(share - share) < 0.1",
        "assert abs(share - 0.8) > 0.1",
        "assert [0.6 < share < 0.9]",
        "0.6 < share < 0.9",
        "# assert 0.6 < share < 0.9",
        'print("assert 0.6 < share < 0.9")',
    ],
)
def test_a_measured_number_without_one(source: str) -> None:
    (fault,) = faults_of_measured(f'{source}\nprint(f"≈ {{share:.2f}}")')
    assert "≈ {share} has no assert in its cell" in fault


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ('print(f"≈ {100 * a:.0f} %")', True),
        ('print(f"≈ {gaps[name]:.2f}, ≈ {a:.2f}")', True),
        ('print(f"{name} {n}: ≈ −{abs(a):.2f}, {n} of {n}")', True),
        ('print(f"≈ {a:.2f} ± {a:.2f}")', True),
        ('print(f"≈ {a:.2f} ± {b:.2f}")', False),
        ('print(f"≈ {gaps[other]:.2f}")', False),
        ('print(f"≈ {a - b:.2f}")', False),
        ('print(f"≈ {a:.2f}, ≈ {b:.2f}")', False),
        ('print(f"≈ {0.8}")', False),
        ('for n in x:\n    print(f"{n}: ≈ {a:.2f}")', True),
        ('for name in x:\n    print(f"≈ {gaps[name]:.2f}")', False),
        ('for c in x:\n    a = f(c)\n    print(f"≈ {a:.2f}")', False),
        ('for a in x:\n    assert 0 < a < 1\n    print(f"≈ {a:.2f}")', True),
    ],
)
def test_each_value_needs_its_own_bound(line: str, held: bool) -> None:
    source = f"assert 0 < a < 1\nassert 0 < gaps[name] < 1\n{line}"
    assert (not faults_of_measured(source)) is held


@pytest.mark.parametrize(
    "line",
    [
        'print("≈ 0.80")',
        'print("≈", a)',
        'print("≈ " + str(a))',
        'print("≈ {:.2f}".format(a))',
        'print(f"≈ about {a:.2f}, ≈ {a:.2f}")',
        'print(f"≈ 0.80, {a:.2f}")',
        "show(a)",
    ],
)
def test_a_mark_stands_right_before_a_value(line: str) -> None:
    """Else the sanitiser does not find the number, or no assert can be matched."""
    source = f'assert 0 < a < 1\n{line}\nprint(f"share ≈ {{a:.2f}}")'
    found = faults_of_measured(source, printed="≈ 0.80\nshare ≈ 0.80\n")
    assert ["right before a value" in fault for fault in found] == [True]


def faults_of_measured(source: str, printed: str = "") -> list[str]:
    output = new_output("stream", name="stdout", text=printed)
    cell = new_code_cell(source, outputs=[output], execution_count=1)
    return list(measured(new_notebook(cells=[cell])))


def test_a_mark_that_another_cell_writes_is_caught() -> None:
    output = new_output("stream", name="stdout", text="≈ 0.80\n")
    cells = [
        new_code_cell('a = 0.8\nassert 0 < a < 1\ntext = f"≈ {a:.2f}"'),
        new_code_cell("print(text)", outputs=[output]),
    ]
    (fault,) = measured(new_notebook(cells=cells))
    assert "print(text)" in fault


@pytest.mark.parametrize(
    ("stored", "came", "same"),
    [
        ("≈ 0.80 of 5", "≈ 0.79 of 5", True),
        ("≈ 0.80 of 5", "≈ 0.80 of 6", False),
        ("≈ 0.80", "0.80", False),
        ("0.80", "0.79", False),
        ("≈ 38 %", "≈ 9 %", True),
        ("≈ 38 %", "≈ 38 ms", False),
        ("≈ −0.41 nats", "≈ 0.02 nats", True),
        ("≈ 1.2 ± 0.3.", "≈ 1.25 ± 1.", True),
        ("≈ 1.2 (0.3)", "≈ 1.2 (0.4)", False),
        ("≈ 12,345 or 1.0", "≈ 9,876,543.2 or 1.0", True),
        ("≈ 12,345 or 1.0", "≈ 12,345 or 1.1", False),
        ("≈ 1.2e-05", "≈ 0.9", True),
        ("≈ 0.80, ≈ 0.70", "≈ 0.81,   ≈ 0.6", False),
        ("≈  0.80, ≈ 0.70", "≈ 10.81, ≈ 0.6", True),
        ("≈ 0.80,0.75", "≈ 0.80,0.76", False),
        ("≈ 0.80", "≈ nan", False),
        ("≈ 0.80", "≈ inf", False),
        ("≈ 0.80\n1", "≈ 0.80\n2", False),
    ],
)
def test_nbval_compares_all_but_the_measured_number(
    stored: str, came: str, same: bool
) -> None:
    for pattern, replacement in get_sanitize_patterns(SANITIZE.read_text("ascii")):
        stored, came = (re.sub(pattern, replacement, text) for text in (stored, came))
    assert (stored == came) is same


def test_words_are_those_of_running_text() -> None:
    source = "Two words $x + y = z$ [and a link](https://x.y/z w)\n$$a b c$$ (eq)"
    assert n_words(source) == 6


def test_wrong_digit_in_an_output_is_caught_by_nbval(
    chapter: NotebookNode, tmp_path: Path
) -> None:
    """nbval's to catch: a chapter cut after the first number that it prints.

    A measured number beside it may differ.
    """
    small = deepcopy(chapter)
    last, output = next(
        (i, output)
        for i, cell in enumerate(small.cells)
        if cell.cell_type == "code" and len(cell.outputs) == 1  # no figure beside it
        for output in cell.outputs
        if output.output_type == "stream" and re.search(r"\d", output.text)
    )
    small.cells = small.cells[: last + 1]
    small.cells[-1].source += '\nprint(f"≈ {0.8:.2f}")'
    output.text += "≈ 0.79\n"
    (tmp_path / "right.ipynb").write_text(to_text(small), encoding="utf-8")
    digit = re.search(r"\d", output.text)
    wrong = str((int(digit[0]) + 1) % 10)
    output.text = output.text[: digit.start()] + wrong + output.text[digit.end() :]
    (tmp_path / "wrong.ipynb").write_text(to_text(small), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rf",
        "--nbval",
    ]
    command += ["--nbval-current-env", "--nbval-sanitize-with", str(SANITIZE)]
    done = subprocess.run(
        [*command, "--rootdir", ".", "right.ipynb", "wrong.ipynb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.findall(r"^FAILED (\S+)::", done.stdout, re.M) == ["wrong.ipynb"]
    n_cells = len(code_cells(small))
    assert f"1 failed, {2 * n_cells - 1} passed" in done.stdout

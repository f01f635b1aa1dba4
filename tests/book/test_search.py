"""What the search looks through, and what it finds first, without a browser.

The script of the page is one file; Node, which comes with Playwright, reads what
does not touch the page as a module.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import playwright
import pytest
from browsers import BUILT
from lxml import html
from roots import ROOT
from stored_state import listed_in_toc

from book.site import search

NODE = Path(playwright.__file__).parent / "driver" / "node"
LIBRARY = ROOT / "book" / "static" / "minisearch" / "minisearch.js"
SCRIPT = ROOT / "book" / "static" / "search.js"
DRIVER = """
const [library, script] = process.argv.slice(1).map((file) => require(file));
const [index, queries] = JSON.parse(require("fs").readFileSync(0, "utf8"));
script.build(library, index).then((engine) => {
  const answers = queries.map((query) => {
    const { close, found } = script.find(engine, query);
    return { close, found: found.map((f) => {
      return { place: `${f.name}#${f.anchor}`, ...script.snippet(f, query) };
    }) };
  });
  process.stdout.write(JSON.stringify(answers));
});
"""
PAGE = """<article class="bd-article"><section id="top"><h1>
<span class="section-number">2. </span>The mask matrix: who sees?<a class="headerlink"
href="#top">#</a></h1><p>A <em>mask</em> is a
rule. So is <span class="math">\\(T_q \\le T_k\\)</span>.</p><script>var x;</script>
<div class="toctree-wrapper"><ul><li>Contents</li></ul></div>
<ul><li><p>an item;</p></li><li>another <a href="x">item</a></li></ul>
<div class="math">\\[ e^{x} \\]</div><svg><text>drawn</text></svg>
<section id="code"><h2>In code</h2><div class="cell_input"><pre>torch.tril(x)
</pre></div><div class="cell_output"><pre>tensor(1)</pre></div>
<table><caption>Three</caption><tr><th>one</th><td></td><td>two <b>three</b></td></tr>
</table></section></section></article>"""
GLOSSARY = """<article class="bd-article"><section id="glossary"><h1>Glossary</h1>
<dl class="simple glossary"><dt id="term-a">empty row<a class="headerlink">#</a></dt>
<dt id="term-0">空行†</dt><dd><p>A query that may see no key.</p></dd>
<dt id="term-b">head</dt><dd><p>One of several attentions.</p></dd></dl>
<dl class="py class"><dt class="sig sig-object py" id="mattn.Mask"><span
class="sig-name">Mask</span>(<span>f</span>)</dt><dd><p>A rule.</p>
<dl class="py method"><dt class="sig" id="mattn.Mask.matrix">matrix</dt>
<dd><p>All cells.</p></dd></dl></dd></dl></section></article>"""


def sections(page: str) -> list[tuple[str, str, list[str], list[str]]]:
    found = search.sections(html.fromstring(page))
    return [(s.anchor, s.heading, s.text, s.code) for s in found]


def test_the_library_is_the_one_that_was_published() -> None:
    text = (LIBRARY.parent / "README.md").read_text(encoding="utf-8")
    (stated,) = re.findall(r"SHA-256: (\w{64})", text)
    assert hashlib.sha256(LIBRARY.read_bytes()).hexdigest() == stated
    licence = (LIBRARY.parent / "LICENSE").read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in licence


def test_a_section_is_what_stands_under_its_heading() -> None:
    first, second = sections(PAGE)
    assert first == (
        "top",
        "2. The mask matrix: who sees?",
        ["A mask is a rule.", "So is T_q ≤ T_k.", "an item;", "another item"],
        [],
    )
    text = ["Three", "one · two three"]
    assert second == ("code", "In code", text, ["torch.tril(x)", ""])


def test_terms_and_functions_are_sections() -> None:
    assert [
        (anchor, heading, text) for anchor, heading, text, _ in sections(GLOSSARY)
    ] == [
        ("glossary", "Glossary", []),
        ("term-a", "empty row · 空行†", ["A query that may see no key."]),
        ("term-b", "head", ["One of several attentions."]),
        ("mattn.Mask", "mattn.Mask", ["A rule."]),
        ("mattn.Mask.matrix", "mattn.Mask.matrix", ["All cells."]),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        (
            "A loss of 0.5 nats. 3 of 4 saw it.",
            ["A loss of 0.5 nats.", "3 of 4 saw it."],
        ),
        ("Vaswani et al. Nets of T. Mikolov.", ["Vaswani et al. Nets of T. Mikolov."]),
        ("It said “no.” He left.", ["It said “no.”", "He left."]),
        ("注意力。掩码？", ["注意力。", "掩码？"]),
        ("See mattn.masks. causal is one.", ["See mattn.masks. causal is one."]),
    ],
)
def test_sentences_are_whole(text: str, parts: list[str]) -> None:
    assert search.sentences(text) == parts


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\(d_k\)", "d_k"),
        (r"\(\sqrt{d_k} \cdot \lambda\)", "√d_k · λ"),
        (r"\(q_i \cdot k_j \le \Omega\)", "q_i · k_j ≤ Ω"),
        (r"\(\mathrm{softmax}(s)\)", "softmax(s)"),
    ],
)
def test_a_formula_in_a_sentence_is_readable(formula: str, text: str) -> None:
    assert search.spoken(formula) == text


def stored() -> list[list]:
    """The index of the built book."""
    file = BUILT / "_static" / search.INDEX
    if not file.is_file():
        pytest.fail("the book is not built: `make book` first")
    text = file.read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.mattnIndex = ").removesuffix(";\n"))


def test_every_page_is_looked_through_and_every_place_is_there() -> None:
    pages, rows = stored()
    names = [name for name, _, _ in pages]
    assert set(names) == set(listed_in_toc()) | {"chapters/index"}
    texts = [(BUILT / f"{name}.html").read_text(encoding="utf-8") for name in names]
    anchors = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    lost = [row[1] for row in rows if row[1] not in anchors[row[0]]]
    assert lost == []
    assert all(heading for _, _, heading, _, _ in rows)
    assert len(rows) > 500
    kinds = {kind for _, kind, _ in pages}
    assert kinds == set(search.KINDS.values())


def test_no_page_begins_with_the_index_and_nothing_is_left_of_the_old_one() -> None:
    assert not [name for name in search.REPLACED if (BUILT / name).exists()]
    late = ("minisearch", search.INDEX, *search.REPLACED)
    for path in [*BUILT.glob("chapters/**/*.html"), BUILT / "search.html"]:
        text = path.read_text(encoding="utf-8")
        asked = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert any("_static/search.js" in address for address in asked)
        assert not [a for a in asked if any(name in a for name in late)]


PAGES = [
    ["chapters/01_a", "chapter", "1. Softmax: what for?"],
    ["chapters/glossary", "glossary", "Glossary"],
    ["chapters/exercises/01_a", "exercise", "Exercises: Softmax"],
    ["chapters/api", "api", "API reference"],
]
ROWS = [
    [0, "softmax", PAGES[0][2], "It begins.\nRows sum to 1.\nA softmax sums to 1.", ""],
    [0, "mask", "Masks", "A causal rule.\nEvery causal mask hides.", "x\n  tril(x)"],
    [1, "glossary", "Glossary", "All terms.", ""],
    [1, "term-m", "causal mask · 因果掩码†", "Query i may see j ≤ i.", ""],
    [1, "term-s", "masked softmax · 掩蔽softmax", "Softmax of what is allowed.", ""],
    [2, "exercises", PAGES[2][2], "Six softmax softmax softmax exercises.", ""],
    [3, "api", "API reference", "All functions.", ""],
    [
        3,
        "m.masked_softmax",
        "m.masked_softmax",
        "Weights of a mask that is causal.",
        "",
    ],
    [3, "m.KVCache", "m.KVCache", "Keys, kept.", ""],
]


def found(*queries: str) -> list[dict]:
    done = subprocess.run(
        [NODE, "-e", DRIVER, LIBRARY, SCRIPT],
        input=json.dumps([[PAGES, ROWS], queries]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout)


def places(answer: dict) -> list[str]:
    return [hit["place"].partition("#")[2] for hit in answer["found"]]


def test_what_bears_the_name_comes_first() -> None:
    names = {
        **{"softmax": "softmax", "Softmax": "softmax", "causal mask": "term-m"},
        **{"因果掩码": "term-m", "掩码": "term-m", "masked softmax": "term-s"},
        **{"masked_softmax": "m.masked_softmax", "KVCache": "m.KVCache"},
        **{"kv cache": "m.KVCache", "tril": "mask", "glossary": "glossary"},
    }
    answers = found(*names)
    assert [places(answer)[0] for answer in answers] == list(names.values())
    assert not any(answer["close"] for answer in answers)
    softmax = places(answers[0])
    assert softmax.index("term-s") < softmax.index("exercises")


def test_phrases_plurals_and_misspellings() -> None:
    phrase, quoted, nothing, plural, spelled, none = found(
        "causal rule", '"mask hides"', '"hides mask"', "keys", "sofmax", "xylophone"
    )
    assert places(phrase)[0] == "mask"
    assert places(quoted) == ["mask"]
    assert places(nothing) == []
    assert places(plural) == ["m.KVCache"]
    assert spelled["close"]
    assert places(spelled)[0] == "softmax"
    assert none == {"close": False, "found": []}


def test_a_snippet_is_a_whole_sentence_with_its_hits() -> None:
    softmax, mask, chinese, code = found("softmax", "causal masks", "掩码", "tril")
    assert softmax["found"][0]["sentence"] == [
        ["A ", False],
        ["softmax", True],
        [" sums to 1.", False],
    ]
    (hit,) = [h for h in mask["found"] if h["place"].endswith("#mask")]
    assert [text for text, marked in hit["sentence"] if marked] == ["causal", "mask"]
    assert chinese["found"][0]["heading"][1] == ["掩码", True]
    assert not chinese["found"][0]["code"]
    assert code["found"][0]["code"]
    assert code["found"][0]["sentence"] == [["tril", True], ["(x)", False]]


def test_an_empty_query_finds_nothing() -> None:
    assert [places(answer) for answer in found("", "  ", "?!")] == [[], [], []]

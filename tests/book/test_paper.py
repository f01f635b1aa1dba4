"""The book as a PDF and as a zip: whole, linked, readable where they land."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import BUILT
from bs4 import BeautifulSoup

from book.site import archive, pdf
from book.site.chinese_font import CHINESE

pytestmark = pytest.mark.long


def squeezed(text: str) -> str:
    """Letters and digits only: lines and ligatures differ in print."""
    return re.sub(r"[\W_]+", "", text.replace("ﬁ", "fi").replace("ﬂ", "fl"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    from pypdf import PdfReader

    if pdf.find_browser() is None:
        pytest.skip("no browser: the PDF was not printed; install chromium")
    out = tmp_path_factory.mktemp("print") / "mattn.pdf"
    prints = pdf.write(out)
    assert 2 <= prints <= 3
    return PdfReader(out)


@pytest.fixture(scope="module")
def texts(printed) -> list[str]:
    return [page.extract_text() for page in printed.pages]


def test_contents_name_the_page_where_each_chapter_begins(texts) -> None:
    entries = [entry for entry in pdf.contents() if entry.page]
    front = next(i for i, text in enumerate(texts) if text.startswith("Contents"))
    lines = texts[front] + texts[front + 1]
    listed = [int(n) for n in re.findall(r" (\d+)$", lines, re.MULTILINE)]
    listed = listed[: len(entries)]
    assert len(listed) == len(entries)
    assert listed == sorted(listed)
    for entry, number in zip(entries, listed, strict=True):
        begins = squeezed(texts[number - 1])[:200]
        assert squeezed(entry.title) in begins, entry.title


def test_every_page_has_its_number(texts) -> None:
    for number, text in enumerate(texts, start=1):
        lines = text.split()
        assert str(number) in (lines[0], lines[-1])


def test_links_lead_somewhere_in_the_document_or_on_the_web(printed) -> None:
    names = {name.removeprefix("/") for name in printed.named_destinations}
    inside = 0
    for page in printed.pages:
        for annotation in page.get("/Annots") or []:
            link = annotation.get_object()
            if link.get("/Subtype") != "/Link":
                continue
            if "/Dest" in link:
                assert str(link["/Dest"]).removeprefix("/") in names
                inside += 1
            else:
                assert re.match(r"https?://", link["/A"]["/URI"])
    assert inside > 100


def test_folded_answers_are_open(texts) -> None:
    text = squeezed("".join(texts))
    for name in ("02_mask_matrix", "04_softmax"):
        page = BeautifulSoup((BUILT / f"chapters/{name}.html").read_bytes(), "lxml")
        answers = page.select("article details > p")
        assert answers
        for answer in answers:
            for gone in answer.select(".math"):
                gone.replace_with("\n")
            words = max(answer.get_text().split("\n"), key=len)
            words = max(words.split("  "), key=len).strip()
            assert squeezed(words) in text, words


def test_every_figure_is_printed(texts) -> None:
    """What a figure says stands on the page where its caption ends, or before it."""
    pages = [squeezed(text) for text in texts]
    figures = 0
    for entry in pdf.contents():
        if not entry.page:
            continue
        page = BeautifulSoup((BUILT / entry.page).read_bytes(), "lxml")
        for figure in page.select("article figure:has(svg.mattn-figure)"):
            says = {squeezed(text.get_text()) for text in figure.select("svg text")}
            begins = squeezed(figure.select_one("figcaption").get_text())[:40]
            on = [i for i, text in enumerate(pages) if begins in text]
            assert on, begins
            assert any(
                all(word in pages[i - 1] + pages[i] for word in says) for i in on
            ), (entry.title, begins)
            figures += 1
    assert figures > 20


def glyphs(page: object) -> Iterator[int]:
    """The glyphs that a page draws, from fonts that number them in two bytes.

    The text layer has the right characters even where a box is drawn for each:
    glyph 0 is what a font has for a character that it lacks.
    """
    fonts = page["/Resources"]["/Font"]
    font = None
    for operands, operator in page.get_contents().operations:
        if operator == b"Tf":
            font = fonts[operands[0]]
        if operator in (b"Tj", b"TJ") and font["/Subtype"] == "/Type0":
            for part in operands[0] if operator == b"TJ" else operands:
                if isinstance(part, (str, bytes)):
                    raw = getattr(part, "original_bytes", part)
                    yield from (code for (code,) in struct.iter_unpack(">H", raw))


def test_every_chinese_character_is_drawn(printed, texts) -> None:
    chinese = [
        p for p, t in zip(printed.pages, texts, strict=True) if CHINESE.search(t)
    ]
    assert len(chinese) > 10
    for page in chinese:
        assert 0 not in set(glyphs(page)), page.page_number + 1
    names = {
        str(font.get_object()["/BaseFont"])
        for page in chinese
        for font in page["/Resources"]["/Font"].values()
        if "/BaseFont" in font.get_object()
    }
    assert any("NotoSansSC" in name for name in names)


def test_a_character_that_no_font_has_is_seen(browser, tmp_path: Path) -> None:
    from pypdf import PdfReader

    drawn = []
    for character in ("a", "\U0010fffd"):
        page = browser.new_page()
        page.set_content(f"<p>{character}</p>")
        page.pdf(path=str(tmp_path / "one.pdf"))
        page.close()
        drawn.append(0 in set(glyphs(PdfReader(tmp_path / "one.pdf").pages[0])))
    assert drawn == [False, True]


def test_no_page_ends_with_a_term_and_not_what_it_means(printed, texts) -> None:
    name = "chapters-glossary"
    begins = page_of(printed, name)
    others = {page_of(printed, e.slug) for e in pdf.contents() if e.page}
    ends = min(page for page in others if page > begins)
    page = BeautifulSoup((BUILT / "chapters/glossary.html").read_bytes(), "lxml")
    for link in page.select("article dt a.headerlink"):
        link.decompose()
    terms = {squeezed(term.get_text()) for term in page.select("article dt")}
    assert len(terms) > 50
    for text in texts[begins:ends]:
        lines = [squeezed(line) for line in text.splitlines() if line.strip()]
        assert lines[-1].isdigit(), "the number of the page"
        assert lines[-2] not in terms


def page_of(printed: object, name: str) -> int:
    place = printed.named_destinations[f"/{name}"]
    return printed.get_destination_page_number(place)


def test_outline_has_the_chapters(printed) -> None:
    def titles(items: list) -> Iterator[str]:
        for item in items:
            if isinstance(item, list):
                yield from titles(item)
            else:
                yield item.title

    assert {entry.title for entry in pdf.contents() if entry.page} <= set(
        titles(printed.outline)
    )


def test_what_is_wider_than_the_paper_is_seen(browser) -> None:
    page = browser.new_page(viewport={"width": pdf.WIDTH, "height": 900})
    page.set_content("<article><p>narrow</p></article>")
    assert page.evaluate(pdf.HANGS_OUT) == []
    page.set_content("<article><p style='width: 900px'>wide</p></article>")
    assert len(page.evaluate(pdf.HANGS_OUT)) == 1
    page.close()


def test_zip_opens_from_a_folder(browser, tmp_path: Path) -> None:
    packed = tmp_path / "mattn.zip"
    archive.write(packed)
    zipfile.ZipFile(packed).extractall(tmp_path)
    failed: list[str] = []
    page = browser.new_page()
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((tmp_path / "mattn" / "index.html").as_uri())
    page.wait_for_url("**/chapters/index.html")
    page.locator("article a[href='01_concept.html']").first.click()
    page.wait_for_url("**/01_concept.html")
    page.wait_for_selector("mjx-container")
    assert page.locator("article svg.mattn-figure").first.bounding_box()["width"] > 100
    assert failed == []
    page.close()


def test_zip_is_the_same_for_the_same_pages(tmp_path: Path) -> None:
    archive.write(tmp_path / "a.zip")
    archive.write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()

"""Bibliography, citations and glossary: well-formed, complete, consistent."""

import re

import pytest
from pybtex.database import parse_file
from roots import ROOT

CHAPTERS = ROOT / "chapters"
ENTRIES = dict(parse_file(CHAPTERS / "references.bib").entries)
PAGES = sorted([*CHAPTERS.glob("*.md"), *CHAPTERS.glob("*.ipynb")])
MODULES = sorted((ROOT / "mattn").rglob("*.py"))

DOI = re.compile(r"10\.\d{4,9}/[^\s{}]+")
ARXIV = re.compile(r"(\d{2})(0[1-9]|1[0-2])\.\d{4,5}")


def is_isbn(text):
    digits = [int(d) for d in text.replace("-", "")]
    check = sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits))
    return len(digits) == 13 and check % 10 == 0


def years(entry):
    """The year of publication, and that of the arXiv version where there is one."""
    found = {int(entry.fields["year"])}
    if "eprint" in entry.fields:
        found.add(2000 + int(ARXIV.fullmatch(entry.fields["eprint"])[1]))
    return found


@pytest.mark.parametrize("key", ENTRIES)
def test_entry_can_be_found(key):
    entry, fields = ENTRIES[key], ENTRIES[key].fields
    assert {"title", "year"} <= set(fields)
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    family = "".join(entry.persons["author"][0].last_names).lower()
    assert re.fullmatch(rf"{family}{fields['year']}[a-z]+", key)
    if "doi" in fields:
        assert DOI.fullmatch(fields["doi"])
    if "eprint" in fields:
        assert ARXIV.fullmatch(fields["eprint"])
        assert fields["archiveprefix"] == "arXiv"
        assert 0 <= max(years(entry)) - min(years(entry)) <= 3
        assert int(fields["year"]) == max(years(entry))
    if "isbn" in fields:
        assert is_isbn(fields["isbn"])
    if "doi" not in fields and "eprint" not in fields:
        assert "isbn" in fields
        assert fields.get("url", "").startswith("https://")


def test_entries_are_sorted_and_differ():
    assert list(ENTRIES) == sorted(ENTRIES)
    for field in ("doi", "eprint", "title"):
        values = [
            e.fields[field].lower() for e in ENTRIES.values() if field in e.fields
        ]
        assert len(values) == len(set(values))


def cited(text):
    return {
        key.strip()
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in keys.split(",")
    }


def links(text):
    """Links to papers: (their text, their identifier)."""
    found = re.findall(
        r"\[([^\[\]]+)\]\(https://(?:arxiv\.org/abs|doi\.org)/([^\s)]+)\)", text
    )
    return [(" ".join(words.replace("\\n", " ").split()), to) for words, to in found]


def entry_of(identifier):
    identifier = re.sub(r"^(\d{4}\.\d{4,5})v\d+$", r"\1", identifier).lower()
    for entry in ENTRIES.values():
        if identifier in (
            entry.fields.get("doi", "").lower(),
            entry.fields.get("eprint", ""),
        ):
            return entry
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_cites_is_in_the_bibliography(page):
    text = page.read_text(encoding="utf-8")
    assert cited(text) <= set(ENTRIES)
    for words, identifier in links(text):
        entry = entry_of(identifier)
        assert entry is not None, f"{words}: {identifier} is not in references.bib"
        if words.startswith(("arXiv:", "doi:")):
            continue
        for year in re.findall(r"\b(?:19|20)\d\d\b", words):
            assert int(year) in years(entry), f"{words}: {identifier}"
            family = " ".join(entry.persons["author"][0].last_names)
            assert family in words, f"{words}: {identifier} is by {family}"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(ROOT)))
def test_what_a_module_cites_is_in_the_bibliography(module):
    text = module.read_text(encoding="utf-8")
    for identifier in re.findall(r"arXiv:(\d{4}\.\d{4,5})", text):
        assert entry_of(identifier) is not None, f"{identifier} is not in the .bib"


def test_the_checks_of_links_see_a_wrong_one():
    text = "[Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)"
    assert links(text) == [("Vaswani et al. 2017", "1706.03762")]
    assert entry_of("1706.03762").fields["title"] == "Attention Is All You Need"
    assert entry_of("1706.03763") is None
    assert cited("{cite}`a2020b, c2021d` and {cite:t}`e2022f`") == {
        "a2020b",
        "c2021d",
        "e2022f",
    }


def glossary_entries(text):
    """The entries of a glossary page: (terms, definition)."""
    body = re.search(r"^```\{glossary\}\n(.*?)^```$", text, re.M | re.S)[1]
    entries = []
    for block in re.split(r"\n\s*\n", body.strip("\n")):
        lines = block.splitlines()
        terms = [line for line in lines if not line.startswith(" ")]
        definition = [line for line in lines if line.startswith(" ")]
        assert lines == terms + definition, block
        entries.append((terms, " ".join(line.strip() for line in definition)))
    return entries


GLOSSARY = glossary_entries((CHAPTERS / "glossary.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("terms", "definition"), GLOSSARY, ids=lambda v: str(v)[:30])
def test_term_has_english_chinese_and_a_definition(terms, definition):
    english, chinese = terms
    assert re.fullmatch(r"[A-Za-z–-]+( [A-Za-z–-]+)*", english)
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert re.fullmatch(r"[\u4e00-\u9fffa-z-]+†?", chinese)
    assert definition.endswith(".")
    assert len(definition.split()) >= 6
    assert len(re.findall(r"[.!?](?= |$)", definition)) <= 2


def test_terms_differ_and_are_sorted():
    english = [terms[0].lower() for terms, _ in GLOSSARY]
    chinese = [terms[1] for terms, _ in GLOSSARY]
    assert english == sorted(english)
    assert len(set(english)) == len(set(chinese)) == len(GLOSSARY)


def test_terms_used_are_defined():
    known = {term for terms, _ in GLOSSARY for term in terms}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"\{term\}`([^`<]+)`", text)) <= known

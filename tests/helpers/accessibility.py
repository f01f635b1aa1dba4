"""axe-core on a page: what breaks a rule."""

from __future__ import annotations

from roots import HELPERS

AXE = HELPERS / "axe" / "axe.min.js"
# Rule → reason. Empty: there is nothing to excuse.
EXCEPTED: dict[str, str] = {}
# What can differ between light and dark is what depends on colour.
COLOURS = ["color-contrast", "link-in-text-block"]


def violations(page, *, only: list[str] = (), without: list[str] = ()) -> list[str]:
    """One line for each element that breaks a rule.

    Rules of colour leave code out: see test_every_colour_of_code_is_legible.
    """
    options: dict = {"resultTypes": ["violations"]}
    if only:
        options["runOnly"] = {"type": "rule", "values": only}
    if without:
        options["rules"] = {rule: {"enabled": False} for rule in without}
    context = {"exclude": [[".highlight pre"]]} if only == COLOURS else None
    found = page.evaluate(
        "([context, options]) => axe.run(context ?? document, options)",
        [context, options],
    )
    return [
        f"{rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["id"] not in EXCEPTED
        for node in rule["nodes"]
    ]


def load_axe(page) -> None:
    page.evaluate(AXE.read_text(encoding="utf-8"))

"""``python -m mattn.judge FILE.py:function``: a verdict, and an exit code.

The command of the judge, which exercises of chapters 2 and 3 put to work.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]

_TOLD = """\
A rule is written in the names of mattn: "causal & window(4)", "full".
Exit codes: 0 right, within limits that are told · 1 named or wrong · 2 could not run.
"""


def main(arguments: list[str] | None = None) -> int:
    """Judge one function, and print what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m mattn.judge",
        description="Is this attention, or this mask, right?",
        epilog=_TOLD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target",
        metavar="FILE.py:NAME",
        help="a function of (q, k, v), a module, or a class of modules",
    )
    parser.add_argument("--mask", action="store_true", help="NAME gives a mask")
    parser.add_argument(
        "--rule", default="causal", help="what it is to follow (default: causal)"
    )
    parser.add_argument(
        "--layout", choices=["BHTD", "BTHD"], help="of four axes (default: either)"
    )
    asked = parser.parse_args(arguments)
    file, _, name = asked.target.rpartition(":")
    if not Path(file).is_file() or not name:
        parser.error(
            f"expected FILE.py:NAME of a file that is there; got {asked.target}"
        )
    given = _loaded(parser, Path(file), name)

    from mattn import judge  # after the arguments: --help need not wait for torch

    rule = _rule(parser, asked.rule)
    if asked.mask:
        verdict = judge.mask(given, rule)
    else:
        verdict = judge.attention(given, mask=rule, layout=asked.layout)
    print(verdict)
    return 0 if verdict.ok else 2 if verdict.kind == "could not run" else 1


def _loaded(parser: argparse.ArgumentParser, file: Path, name: str) -> Any:
    """What the file calls by that name; of a class, one of it."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        parser.error(f"{file}: expected a function or class {name}; it has none")
    found = getattr(module, name)
    return found() if isinstance(found, type) else found


def _rule(parser: argparse.ArgumentParser, text: str) -> Any:
    from mattn import masks

    names = {n: getattr(masks, n) for n in masks.__all__}
    try:
        rule = eval(text, {"__builtins__": {}}, names)  # the caller's own words
    except Exception as error:  # whatever was written
        parser.error(f"--rule {text!r}: {error}")
    if not isinstance(rule, masks.Mask):
        parser.error(f"--rule {text!r}: expected a rule such as 'causal & window(4)'")
    return rule


if __name__ == "__main__":
    raise SystemExit(main())

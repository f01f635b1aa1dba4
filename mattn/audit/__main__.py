"""``mattn-audit package.module:factory``: audit from the shell.

``python -m mattn.audit`` is the same. What takes long to import is imported when the
arguments are known to be right.

Chapter 9 reads such a report.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Print the report; exit status 0: no leak found, 1: a leak, 2: nothing shown."""
    options = _options(arguments)
    from mattn import masks
    from mattn.audit.run import audit

    expected = {"causal": None, "full": masks.full}.get(options.expected)
    try:
        if options.expected == "window":
            expected = masks.causal & masks.window(options.window)
        model, x = _load(options)
        report = audit(
            model,
            x,
            expected=expected,
            n_layers=options.layers,
            strict=options.strict,
            budget=options.budget,
        )
    except Exception as error:  # a status of its own: 1 means a leak
        print(f"mattn-audit: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(report)
    if not report.ok:
        return 1
    return 2 if report.nothing_shown else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for; a wrong argument ends the program."""
    parser = argparse.ArgumentParser(
        prog="mattn-audit",
        description="Ask a model whether its outputs see the future. The factory is "
        "called without arguments and returns the model, or (model, input).",
    )
    parser.add_argument("factory", help="package.module:factory")
    parser.add_argument("--length", type=int, default=32, help="tokens T (default 32)")
    parser.add_argument("--batch", type=int, default=2, help="rows B (default 2)")
    parser.add_argument(
        "--expected",
        choices=["causal", "full", "window"],
        default="causal",
        help="what may be seen end to end (default causal)",
    )
    parser.add_argument("--window", type=int, help="keys that a layer's window shows")
    parser.add_argument("--layers", type=int, default=1, help="layers of that window")
    parser.add_argument("--strict", action="store_true", help="missing links fail too")
    parser.add_argument("--budget", type=float, help="seconds after which to stop")
    options = parser.parse_args(arguments)
    if options.expected == "window" and options.window is None:
        parser.error("--expected window needs --window W")
    return options


def _load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its input."""
    import torch
    from torch import nn

    module_name, _, attribute = options.factory.partition(":")
    if not attribute:
        raise ValueError(f"expected package.module:factory; got {options.factory!r}.")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    made = getattr(importlib.import_module(module_name), attribute)()
    if isinstance(made, tuple):
        return made
    tables = []
    if isinstance(made, nn.Module):
        tables = [m for m in made.modules() if isinstance(m, nn.Embedding)]
    if not tables:
        raise ValueError(
            f"{options.factory} returns a model without an embedding, so its input "
            "cannot be guessed. Let the factory return (model, input)."
        )
    generator = torch.Generator().manual_seed(0)
    size = (options.batch, options.length)
    return made, torch.randint(tables[0].num_embeddings, size, generator=generator)


if __name__ == "__main__":
    sys.exit(main())

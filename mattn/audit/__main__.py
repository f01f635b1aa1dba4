"""``python -m mattn.audit package.module:factory``: audit from the shell."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

import torch
from torch import nn

from mattn import masks
from mattn.audit.run import audit


def main(arguments: list[str] | None = None) -> int:
    """Print the report; exit status 0: no leak found, 1: a leak, 2: bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m mattn.audit",
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
    try:
        model, x = _load(options)
        rules = {"causal": None, "full": masks.full}
        expected = (
            masks.causal & masks.window(options.window)
            if options.expected == "window"
            else rules[options.expected]
        )
        report = audit(
            model,
            x,
            expected=expected,
            n_layers=options.layers,
            strict=options.strict,
            budget=options.budget,
        )
    except (ValueError, ImportError, AttributeError) as error:
        print(f"python -m mattn.audit: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0 if report.ok else 1


def _load(options: argparse.Namespace):
    module_name, _, attribute = options.factory.partition(":")
    if not attribute:
        raise ValueError(f"expected package.module:factory; got {options.factory!r}.")
    sys.path.insert(0, os.getcwd())
    made = getattr(importlib.import_module(module_name), attribute)()
    if isinstance(made, tuple):
        return made
    tables = (
        [m for m in made.modules() if isinstance(m, nn.Embedding)]
        if isinstance(made, nn.Module)
        else []
    )
    if not tables:
        raise ValueError(
            f"{options.factory} returns a model without an embedding, so its input "
            "cannot be guessed. Let the factory return (model, input)."
        )
    generator = torch.Generator().manual_seed(0)
    n_symbols = tables[0].num_embeddings
    size = (options.batch, options.length)
    return made, torch.randint(0, n_symbols, size, generator=generator)


if __name__ == "__main__":
    sys.exit(main())

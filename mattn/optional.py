"""What is not always installed: the module, or an error that says how to get it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["needed"]


def needed(module: str, extra: str, by: str = "mattn") -> ModuleType:
    """Import ``module`` for ``by``; ``extra`` is the extra of mattn that brings it.

    needed("safetensors.torch", "pretrained", "load_pretrained")

    Raises ``ImportError``, with the line that installs it, where its package is
    absent. One that is there and broken raises what it raises.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f'{by} needs {package}: python -m pip install "mattn[{extra}]"',
            name=package,
        ) from None

"""Does it see the future? An auditor for any model.

    from mattn.audit import audit, assert_causal

    report = audit(model, tokens)
    print(report)                   # the first offending pair, the likely bug
    assert_causal(model, tokens)    # in a test file

It measures which inputs reach which outputs, in several independent ways,
and compares with what is expected. It never says that a model is causal: it
says "no leak found under …" and what it could not cover. Of mattn it knows
only masks, checks and plotting; the models of the book are nothing special
to it. Derived in chapters 5 and 9.

The rooms; each imports from those below it only:

    7  __main__ · pytest_plugin
    6  layers · language
    5  run
    4  probes
    3  hygiene
    2  session
    1  findings · asked
    0  report · subject
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mattn.audit.language import audit_beam, audit_labels
    from mattn.audit.layers import audit_layers
    from mattn.audit.probes import PROBES
    from mattn.audit.report import Leak, Report
    from mattn.audit.run import assert_causal, audit
    from mattn.audit.subject import Adapter

__all__ = [
    "PROBES",
    "Adapter",
    "Leak",
    "Report",
    "assert_causal",
    "audit",
    "audit_beam",
    "audit_labels",
    "audit_layers",
]

_HOMES = ("run", "layers", "language", "probes", "report", "subject")


def __getattr__(name: str) -> Any:
    """One of the names, or a module, on first use: the command need not wait."""
    if name in _HOMES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        modules = (import_module(f"{__name__}.{home}") for home in _HOMES)
        home = next(module for module in modules if name in module.__all__)
        value = globals()[name] = getattr(home, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

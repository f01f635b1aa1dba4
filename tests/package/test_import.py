"""`import mattn` is light, changes nothing, and gives the same in every order."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mattn

PACKAGE = Path(mattn.__file__).parent
MODULES = sorted(
    ".".join(("mattn", *file.relative_to(PACKAGE).with_suffix("").parts))
    for file in PACKAGE.rglob("*.py")
    if file.name != "__init__.py"
)


def python(program: str, **environment: str) -> str:
    """What a program prints in a Python of its own, which warns of nothing."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def for_type_checkers() -> dict[str, list[str]]:
    """Module → names, of the imports that only type checkers run."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found: dict[str, list[str]] = {}
    for node in block.body:
        found.setdefault(node.module, []).extend(a.name for a in node.names)
    return found


def test_the_package_alone_loads_nothing_but_python():
    printed = python(
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import mattn\n"
        "assert 'attention' in dir(mattn)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    new = {name.split(".")[0] for name in json.loads(printed)}
    assert new <= {"mattn"} | sys.stdlib_module_names


def test_type_checkers_see_the_names_that_there_are():
    imported = for_type_checkers()
    modules = {name.split(".")[1] for name in MODULES}
    assert set(imported.pop("mattn")) == modules - {"attention"}
    names = [name for several in imported.values() for name in several]
    assert sorted(names) == sorted(mattn.__all__)
    homes = [import_module(f"mattn.{home}") for home in mattn._HOMES]
    for module, several in imported.items():
        for name in several:
            (home,) = (home for home in homes if name in home.__all__)
            assert home.__name__ == module, name
            assert getattr(mattn, name) is getattr(home, name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mattn' has no attribute 'nothing'"):
        _ = mattn.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from mattn import nothing  # noqa: F401


ORDERS = [
    "import mattn.attention",
    "import mattn.attention; from mattn import attention",
    "from mattn.attention import attention",
    "from mattn import attention",
    "import mattn; mattn.attention",
    "import mattn.masks; import mattn.attention",
    "import mattn.models; import mattn.masks",
    "import mattn.flash",
    "import mattn.plotting",
    "import mattn.audit.run",
    "import mattn.data.stories; from mattn import Decoder",
    "from mattn import *",
    "from mattn import masks, softmax",
    "import importlib; importlib.import_module('mattn.attention')",
    "import mattn; import importlib; importlib.reload(mattn)",
    "import mattn.attention, importlib, sys; "
    "importlib.reload(sys.modules['mattn.attention'])",
]
SAME_IN_EVERY_ORDER = """
import copy, importlib, pickle, sys
from types import FunctionType, ModuleType

import numpy, torch

for order in {orders}:
    for name in [n for n in sys.modules if n.partition(".")[0] == "mattn"]:
        del sys.modules[name]
    exec(order, {{}})
    import mattn
    from mattn import attention

    assert type(mattn.attention) is FunctionType, order
    assert mattn.attention is attention, order
    assert type(sys.modules["mattn.attention"]) is ModuleType, order
    for name in mattn.__all__:
        assert not isinstance(getattr(mattn, name), ModuleType), (order, name)
    for name in {modules}:
        module = getattr(mattn, name)
        assert name in mattn.__all__ or isinstance(module, ModuleType), (order, name)
    if "reload" not in order:
        assert pickle.loads(pickle.dumps(attention)) is attention, order
    config = mattn.Config(5, 4, n_layers=1, n_heads=2)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    importlib.reload(mattn)
    assert mattn.attention is attention, order
"""


def test_every_order_of_imports_gives_the_same():
    top = sorted({name.split(".")[1] for name in MODULES})
    python(SAME_IN_EVERY_ORDER.format(orders=ORDERS, modules=top))


CHANGES_NOTHING = """
import importlib, os, random, sys, warnings
import jaxtyping, matplotlib.pyplot, numpy, pytest, torch


def state():
    return {{
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "random": random.getstate(),
        "numpy": repr(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "gradient": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "printing": (vars(torch._tensor_str.PRINT_OPTS), numpy.get_printoptions()),
        "errors": numpy.geterr(),
        # The backend as it is written, not as it would be found.
        "figures": dict.items(matplotlib.rcParams),
        "path": list(sys.path),
    }}


random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
before = {{name: repr(value) for name, value in state().items()}}
for module in {modules}:
    importlib.import_module(module)
for name in importlib.import_module("mattn").__all__:
    getattr(sys.modules["mattn"], name)
for name, value in state().items():
    assert repr(value) == before[name], name
"""


@pytest.mark.parametrize("progress", ["0", "1"])
def test_what_belongs_to_the_user_is_as_it_was(progress):
    python(
        CHANGES_NOTHING.format(modules=MODULES),
        MATTN_PROGRESS=progress,
        OMP_NUM_THREADS="3",
    )

"""What every test stands on: checked shapes, one thread, fixed randomness."""

import atexit
import os
import shutil
import sys
import tempfile
from importlib.abc import MetaPathFinder
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

import torch
from beartype.claw import beartype_package
from checker import TYPES
from jaxtyping import install_import_hook
from roots import HELPERS, ROOT


class AsWritten(MetaPathFinder):
    """The kernels without the checks of shapes: Triton reads them as written."""

    def find_spec(self, name, path=None, target=None):
        if name == "mattn.flash.kernels":
            return spec_from_file_location(name, Path(path[0], "kernels.py"))
        return None


# A home may be closed to writing. What libraries keep there goes to a folder of this
# run, before any of them is imported.
if not os.access(Path.home(), os.W_OK):
    scratch = tempfile.mkdtemp(prefix="mattn-home-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    for name in ("IPYTHONDIR", "MPLCONFIGDIR", "TRITON_CACHE_DIR"):
        os.environ.setdefault(name, f"{scratch}/{name.lower()}")

# Without a GPU, Triton's kernels run in its interpreter, which must be asked for
# before anything imports Triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The package `book` is that of the tree. Last: mattn is the one that is installed.
sys.path.append(str(ROOT))

# From here on every type in a signature of mattn is enforced and, in the modules
# that name any, every shape and dtype: looking for shapes makes a call ten times as
# slow, and grammars and numerals have none.
PACKAGE = Path(find_spec("mattn").origin).parent
SHAPED = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if "jaxtyping" in file.read_text(encoding="utf-8")
]
beartype_package("mattn", conf=TYPES)
install_import_hook(SHAPED, "checker.check")
sys.meta_path.insert(0, AsWritten())

import matplotlib  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from package_only import (  # noqa: E402, F401
    pytest_addoption,
    pytest_ignore_collect,
    pytest_report_header,
)

if find_spec("nbval"):  # of a notebook's figures the numbers are compared
    import nbval_figures  # noqa: F401

# What a helper asserts says as much as what a test asserts.
pytest.register_assert_rewrite(
    *({file.stem for file in HELPERS.glob("*.py")} - sys.modules.keys())
)
matplotlib.use("Agg")
torch.set_num_threads(1)

settings.register_profile(
    "mattn", derandomize=True, deadline=None, database=None, max_examples=60
)
settings.load_profile("mattn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a busy machine an output comes late; nbval itself gives it five seconds."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 600

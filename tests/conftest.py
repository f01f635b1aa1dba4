"""What every test stands on: checked shapes, one thread, fixed randomness."""

import os
import sys
from pathlib import Path

import torch
from jaxtyping import install_import_hook

# Without a GPU, Triton's kernels run in its interpreter, which must be asked for
# before anything imports Triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The package `book` is that of the tree. Last: mattn is the one that is installed.
sys.path.append(str(Path(__file__).resolve().parent.parent))

# From here on every shape and dtype in a signature of mattn is enforced.
install_import_hook("mattn", "checker.check")

import matplotlib  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from package_only import (  # noqa: E402, F401
    pytest_addoption,
    pytest_ignore_collect,
    pytest_report_header,
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

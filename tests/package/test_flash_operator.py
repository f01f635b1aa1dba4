"""The kernel as an operator of PyTorch: schema, grid, compilation, errors.

What needs a process of its own (errors without the shape checks, no Triton,
machine code for GPUs that are not there) is this file, executed as a program.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from flash_cases import DEVICE, GPU, both_passes, draw
from refusals import messages, with_helpers
from roots import ROOT

from mattn import attention, causal, documents, padding, prefix, window
from mattn.checks import same
from mattn.flash import flash_attention, launch, operator, stretches, tune, tuning

pytest.importorskip("triton")


def test_opcheck():
    q, k, v = draw(B=1, H=2, Tq=9, Tk=9, D=16)
    s = stretches(causal & documents([0] * 4 + [1] * 5), 9, device=DEVICE)
    arguments = (q, k, v, s.by_query, s.by_key, True, 0, 0.25)
    torch.library.opcheck(torch.ops.mattn.flash_attention.default, arguments)
    out, lse = (t.detach() for t in operator._flash(*arguments))
    torch.library.opcheck(
        torch.ops.mattn.flash_attention_backward.default,
        (
            torch.randn_like(out),
            *(t.detach() for t in (q, k, v)),
            out,
            lse,
            *arguments[3:],
        ),
    )


def graph_breaks() -> str:
    """In a process without the shape checks, which Dynamo cannot read."""
    q, k, v = draw(B=1, Tq=9, Tk=9, D=16)
    grad = torch.randn_like(q)
    rule = causal & window(4)
    listed = stretches(rule & documents([0] * 4 + [1] * 5), 9, device=DEVICE)
    for mask in (rule, listed):

        def layer(q, k, v, mask=mask):
            return flash_attention(q * 2, k, v, mask).relu()

        one_graph = torch.compile(layer, fullgraph=True, backend="eager")
        for a, b in zip(
            both_passes(one_graph, q, k, v, grad),
            both_passes(layer, q, k, v, grad),
            strict=True,
        ):
            assert torch.equal(a, b)
    return "none"


@pytest.mark.parametrize("sizes", [(1, 1, 16), (4096, 131_072, 64), (33, 70_000, 32)])
def test_a_grid_fits_every_gpu(sizes):
    """Batch × heads may pass 65,535, where all axes but the first end."""
    n_rows, n_heads, block = sizes
    launched = {}

    class Kernel:
        def __getitem__(self, grid):
            launched["grid"] = grid
            return dict

    launch._launch(Kernel(), n_rows, n_heads, block, {})
    first, *others = launched["grid"]
    assert first <= 2**31 - 1
    assert all(n <= 65_535 for n in others)
    assert math.prod(launched["grid"]) == -(-n_rows // block) * n_heads


@pytest.mark.skipif(GPU, reason="with the interpreter, programs are counted")
def test_every_program_of_a_grid_has_work_of_its_own(monkeypatch):
    grids, launched = [], launch._launch

    def counted(kernel, n_rows, n_heads, block, arguments):
        grids.append((n_rows, n_heads, block))
        return launched(kernel, n_rows, n_heads, block, arguments)

    monkeypatch.setattr(launch, "_launch", counted)
    q, k, v = draw(B=3, H=4, Hkv=2, Tq=19, Tk=35, D=8)
    out = flash_attention(q, k, v, causal)
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    # (queries or keys, batch × heads, block): forward, delta, keys, queries.
    tiles = tuning.INTERPRETER["forward"]
    assert grids[0] == (19, 12, tiles.block_q)
    assert [(n, heads) for n, heads, _ in grids[1:]] == [(19, 12), (35, 6), (19, 12)]
    group = [t.repeat_interleave(2, dim=1) for t in (k, v)]
    expected = attention(q, *group, causal)[0]
    same(out, expected, atol=1e-5)
    for a, b in zip(grads, torch.autograd.grad(expected.sum(), (q, k, v)), strict=True):
        same(a, b, atol=1e-5)


def child(program: str, **environment: str | None) -> subprocess.CompletedProcess:
    """This file as a program, or another, with variables set or (None) removed."""
    env = with_helpers() | {k: v for k, v in environment.items() if v is not None}
    for name in (k for k, v in environment.items() if v is None):
        env.pop(name, None)
    command = [
        sys.executable,
        *((__file__, program) if program.isalpha() else ("-c", program)),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def call(
    mask=None, q=(2, 4, 5, 8), k=(2, 2, 5, 8), v=None, dtype=torch.float32, **options
):
    v = k if v is None else v
    return lambda: flash_attention(
        *(zeros(*s, dtype=dtype) for s in (q, k, v)), mask, **options
    )


CASES = {
    "a gap": (
        call(causal & (window(2) | prefix(1))),
        ["one stretch", "(window(2) | prefix(1))", "on both sides", "FlexAttention"],
    ),
    "matrix": (call(torch.ones(5, 5).bool()), ["got Tensor", "fused_attention"]),
    "ids again": (
        call(documents([0, 1, 1, 0, 0])),
        ["one stretch", "documents", "FlexAttention"],
    ),
    "ids too few": (call(documents([0, 1])), ["for each of 5 slots", "got 2 ids"]),
    "rows": (call(padding([1, 2, 3])), ["3 rows", "q (2, 4, 5, 8)", "same batch"]),
    "sizes": (call(stretches(causal, 4)), ["4 queries and 4 keys", "for these sizes"]),
    "three axes": (call(q=(4, 5, 8)), ["(B, H, Tq, D)", "(4, 5, 8)"]),
    "features": (
        call(k=(2, 2, 5, 9)),
        ["(2, 4, 5, 8), (2, 2, 5, 9)", "fused_attention"],
    ),
    "values": (call(v=(2, 2, 5, 9)), ["(2, 2, 5, 9)", "fused_attention"]),
    "heads": (call(k=(2, 3, 5, 8)), ["dividing H", "(2, 3, 5, 8)"]),
    "batch": (call(k=(1, 2, 5, 8)), ["(1, 2, 5, 8)"]),
    "large heads": (
        call(q=(1, 1, 5, 257), k=(1, 1, 5, 257)),
        ["256", "257", "more heads"],
    ),
    "float64": (
        call(dtype=torch.float64),
        ["float32", "got torch.float64", ".to(dtype)"],
    ),
    "integers": (call(dtype=torch.int64), ["got torch.int64", ".to(dtype)"]),
    "scale": (call(scale=0.0), ["scale > 0", "got 0.0"]),
    "meta": (
        lambda: flash_attention(
            zeros(1, 1, 2, 4), *(zeros(1, 1, 2, 4).to("meta"),) * 2
        ),
        ["on one device", "meta", ".to(device)"],
    ),
}
if not GPU:
    CASES["bfloat16"] = (
        call(causal, dtype=torch.bfloat16),
        ["interpreter", "float16 or float32", "GPU"],
    )
    CASES["tune"] = (lambda: tune(*(zeros(1, 1, 2, 4),) * 3), ["on a GPU", "got cpu"])


@pytest.fixture(scope="module")
def unchecked():
    done = child("unchecked")
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_no_graph_break_under_compile(unchecked):
    assert unchecked["graph breaks"] == "none"


@pytest.mark.parametrize("name", CASES)
def test_message(unchecked, name):
    kind, message = unchecked["messages"][name]
    assert kind == "ValueError", message
    rest = message
    for part in CASES[name][1]:
        assert part in rest, message
        rest = rest.partition(part)[2]


CALL = """
import torch
from mattn import causal
from mattn.flash import flash_attention
x = torch.zeros(1, 1, 2, 16)
try:
    flash_attention(x, x, x, causal)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_triton_importing_works_and_calling_says_what_is_missing():
    done = child(f"import sys\nsys.modules['triton'] = None\n{CALL}")
    assert done.stdout.startswith("ImportError")
    assert 'pip install "mattn[gpu]"' in done.stdout
    assert "fused_attention" in done.stdout


def test_on_a_cpu_without_the_interpreter_calling_says_what_to_do():
    done = child(CALL, TRITON_INTERPRET=None)
    assert done.stdout.startswith("ValueError")
    assert "GPU" in done.stdout
    assert "fused_attention" in done.stdout
    assert "TRITON_INTERPRET=1" in done.stdout


def test_importing_the_module_imports_no_triton():
    done = child("import sys, mattn.flash\nprint('triton' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_the_table_of_tiles_fits_what_it_is_keyed_by():
    for (capability, dtype, columns), passes in tuning.TILES.items():
        assert capability >= (7, 0)
        assert dtype in (torch.float16, torch.bfloat16, torch.float32)
        assert columns == launch.columns(columns)
        assert set(passes) == set(launch.PASSES)


def test_the_kernels_compile_for_a_gpu_that_is_not_there():
    """Triton's compiler accepts them, and gives them Hopper's matrix unit."""
    done = child("compiled", TRITON_INTERPRET=None)
    assert not done.returncode, done.stderr[-2000:]
    for name, found in json.loads(done.stdout).items():
        assert found["wgmma"] > 0, name
        assert found["local"] == 0, name  # memory for registers that did not fit


def compiled(name: str) -> dict:
    """Machine code of one kernel for compute capability 9.0."""
    import re

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import compiled

    made = compiled.compiled(name, 64, launch.Tiles(64, 64, 4, 2), dtype="fp16")
    ptx = made.asm["ptx"]
    return {
        "wgmma": len(re.findall(r"wgmma\.mma_async", ptx)),
        "local": len(re.findall(r"\.local", ptx)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "unchecked":
        calls = {name: run for name, (run, _) in CASES.items()}
        found = {"messages": messages(calls), "graph breaks": graph_breaks()}
    else:
        found = {name: compiled(name) for name in launch.PASSES}
    print(json.dumps(found))

"""Compile mattn's kernels for a GPU that need not be there: what do they take?

    python benchmarks/compiled.py

Writes mattn/records/kernel_compiled.json: for each pass and head size, with the
tiles that compute capability 9.0 gets (bf16, causal), the registers of a thread
and the bytes that did not fit into them, shared memory, and whether the assembler
made the matrix products wait for each other. Needs Triton, but no GPU; it says
nothing about speed. Half a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # also where not installed

import measure
import torch

from mattn.flash import Tiles
from mattn.flash.launch import PASSES, columns, kernels
from mattn.flash.tuning import tiles_on

CAPABILITY = (9, 0)
HEAD_SIZES = (64, 128)
SERIAL = re.compile(r"\(C75\d\d\)")  # ptxas: "wgmma … instructions are serialized"


def compiled(name: str, D: int, tiles: Tiles, dtype: str = "bf16") -> Any:
    """One kernel under a causal mask, as Triton compiles it for 9.0."""
    import triton
    from triton.backends.compiler import GPUTarget

    function = getattr(kernels(), f"{name}_kernel")
    fixed = {
        "GROUP": 1, "D": D, "COLUMNS": columns(D), "BLOCK_Q": tiles.block_q,
        "BLOCK_K": tiles.block_k, "CAUSAL": True, "WINDOW": False, "LISTED": False,
    }  # fmt: skip
    others = {"lse_ptr": "*fp32", "delta_ptr": "*fp32", "spans_ptr": "*i32"}
    signature: dict[str, Any] = {}
    constants, aligned = {}, {}
    for index, argument in enumerate(function.arg_names):
        kind: Any = "i32"
        if argument in fixed:
            kind, constants[(index,)] = "constexpr", fixed[argument]
        elif argument.endswith("_ptr"):
            kind = others.get(argument, f"*{dtype}")
            aligned[(index,)] = [["tt.divisibility", 16]]
        elif argument.endswith("_stride") and argument != "spans_stride":
            kind = ("i32",) * 3
            aligned |= {(index, n): [["tt.divisibility", 16]] for n in range(3)}
        elif argument.startswith("scale"):
            kind = "fp32"
        signature[argument] = kind
    return triton.compile(
        triton.compiler.ASTSource(function, signature, constants, aligned),
        target=GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32),
        options={"num_warps": tiles.n_warps, "num_stages": tiles.n_stages},
    )


def facts(name: str, D: int) -> dict:
    """A row of the record: what this pass takes with the tiles that it gets."""
    tiles = tiles_on(CAPABILITY, torch.bfloat16, D)[name]
    made = compiled(name, D, tiles)
    said = assembled(made.asm["ptx"])

    def number(pattern: str) -> int:
        return int(re.findall(pattern, said)[0])

    return {
        "pass": name,
        "D": D,
        **tiles._asdict(),
        "registers": number(r"Used (\d+) registers"),
        "spilled_bytes": number(r"(\d+) bytes spill stores"),
        "shared_bytes": made.metadata.shared,
        "serial": bool(SERIAL.search(said)),
    }


def assembled(ptx: str) -> str:
    """What the assembler in Triton's wheel says of it."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [knobs.nvidia.ptxas.path, "-v", "--gpu-name=sm_90a", source.name]
        done = subprocess.run(
            [*command, "-o", "kernel.o"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return done.stderr


def main() -> None:
    args = measure.arguments(__doc__, "kernel_compiled").parse_args()
    import triton

    if kernels().INTERPRETED:
        sys.exit("unset TRITON_INTERPRET: nothing is compiled with it")
    head = measure.header(note=args.note)
    head["versions"]["triton"] = triton.__version__
    rows = [facts(name, D) for D in HEAD_SIZES for name in PASSES]
    capability = "{}.{}".format(*CAPABILITY)
    what = {"what": "the kernels, compiled", "capability": capability}
    measure.write(what | head | {"dtype": "bfloat16", "kernels": rows}, args.to)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()

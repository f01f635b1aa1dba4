"""What was found, for a terminal."""

from __future__ import annotations

import math


def print_tables(found: dict) -> None:
    """TFLOP/s by method and length; ours over the fastest of the others."""
    rows = [r for r in found["attention"] if r["status"] == "measured"]
    for which, mask, D in sorted({(r["pass"], r["mask"], r["D"]) for r in rows}):
        own = [r for r in rows if (r["pass"], r["mask"], r["D"]) == (which, mask, D)]
        lengths = sorted({r["T"] for r in own})
        print(f"\n{which}, {mask}, D = {D}: TFLOP/s of allowed pairs")
        print(f"{'T':18}" + "".join(f"{T:9}" for T in lengths))
        table = {(r["method"], r["T"]): r["tflops"] for r in own}
        for method in dict.fromkeys(r["method"] for r in own):
            cells = (table.get((method, T), math.nan) for T in lengths)
            print(f"{method:18}" + "".join(f"{c:9.1f}" for c in cells))
        shares = []
        for T in lengths:
            others = [x for (m, t), x in table.items() if t == T and m != "mattn"]
            ours = table.get(("mattn", T), math.nan)
            shares.append(ours / max(others, default=math.nan))
        print(f"{'mattn ÷ best other':18}" + "".join(f"{s:9.2f}" for s in shares))
    apart = [abs(r["again_ms"] / r["ms"] - 1) for r in rows if "again_ms" in r]
    if apart:
        print(f"\nagain: {len(apart)} numbers, at most {100 * max(apart):.1f} % apart")

"""Ways to break a mask, a softmax, a cache, a beam or a loss.

Each is a list of exact replacements in the package. ``auditor`` says that the
auditor itself must see it; for the others ``test`` names the ordinary test
that must fail.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One mutation: what it does, and (file, old text, new text) to apply."""

    number: str
    name: str
    edits: tuple[tuple[str, str, str], ...]
    test: str = ""

    @property
    def auditor(self) -> bool:
        """Whether the auditor must see it; else an ordinary test must."""
        return not self.test


CAUSAL = 'lambda b, q, k: k <= q,\n    "causal"'
FILL = """        scores = scores.masked_fill(~allowed, -torch.inf)
    # softmax of a row"""
LAST = "weights.masked_fill(empty if allowed is None else empty | ~allowed, 0.0)"
SOFT = "torch.softmax(scores.masked_fill(empty, 0.0), dim=-1)"
BARE = "weights"
BODY = """        scores = scores.masked_fill(~allowed, -torch.inf)
    # softmax of a row of −∞ is 0/0; an empty row is kept finite, then zeroed.
    empty = (scores == -torch.inf).all(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(empty, 0.0), dim=-1)
    return weights.masked_fill(empty if allowed is None else empty | ~allowed, 0.0)
"""


def filled(value: str) -> str:
    return f"        scores = {value}\n    # softmax of a row"


MUTANTS = (
    Mutant(
        "1",
        "causal: k <= q + 1",
        (("masks/named.py", CAUSAL, CAUSAL.replace("k <= q", "k <= q + 1")),),
    ),
    Mutant(
        "2",
        "causal: k < q",
        (("masks/named.py", CAUSAL, CAUSAL.replace("k <= q", "k < q")),),
    ),
    Mutant(
        "3",
        "causal: triu",
        (("masks/named.py", CAUSAL, CAUSAL.replace("k <= q", "k >= q")),),
    ),
    Mutant(
        "4",
        "fill what is kept",
        (
            ("softmax.py", FILL, filled("scores.masked_fill(allowed, -torch.inf)")),
            ("softmax.py", LAST, LAST.replace("~", "")),
        ),
    ),
    Mutant(
        "5",
        "offset 0: top-left alignment",
        (
            (
                "masks/algebra.py",
                "return slots[len(slots) - n_queries :], ",
                "return slots[:n_queries], ",
            ),
        ),
    ),
    Mutant(
        "6",
        "offset + 1",
        (
            (
                "masks/algebra.py",
                "return slots[len(slots) - n_queries :], ",
                "return slots[len(slots) - n_queries :] + 1, ",
            ),
        ),
    ),
    Mutant(
        "7",
        "window: q − k <= w",
        (("masks/named.py", "b, q, k: k > q - w,", "b, q, k: k >= q - w,"),),
    ),
    Mutant(
        "8",
        "a & b: b alone",
        (
            (
                "masks/algebra.py",
                "        return _JOIN[self.sign](left, right)\n\n    def _hull",
                "        return right if self.sign == '&' else left | right\n\n"
                "    def _hull",
            ),
        ),
    ),
    Mutant(
        "9",
        "causal OR padding",
        (
            (
                "models.py",
                "{id(rule): rule & mask for",
                "{id(rule): rule | mask for",
            ),
        ),
    ),
    Mutant(
        "10",
        "padding on the query axis",
        (
            (
                "masks/named.py",
                "[b] <= k) & (k < end",
                "[b] <= q) & (q < end",
            ),
        ),
    ),
    Mutant(
        "11",
        "documents: >=",
        (
            (
                "masks/named.py",
                "looked_up(table, b, q) == looked_up(table, b, k)",
                "looked_up(table, b, q) >= looked_up(table, b, k)",
            ),
        ),
    ),
    Mutant(
        "12",
        "first batch row's mask for all",
        (
            (
                "attention.py",
                "return allowed.reshape(B, *(1,)",
                "return allowed[:1].reshape(1, *(1,)",
            ),
        ),
    ),
    Mutant(
        "13",
        "mask on head 0 only",
        (
            (
                "attention.py",
                "weights = softmax.masked_softmax(scores, allowed)",
                "weights = softmax.masked_softmax(scores, allowed "
                "| (torch.arange(q.shape[-3]) > 0)[:, None, None]"
                ".expand(*q.shape[:-2], 1, 1))",
            ),
        ),
    ),
    Mutant(
        "14",
        "fill −10",
        (
            ("softmax.py", FILL, filled("scores.masked_fill(~allowed, -10.0)")),
            ("softmax.py", LAST, BARE),
        ),
    ),
    Mutant(
        "15",
        "add −1e9, in float16 too",
        (
            (
                "masks/matrices.py",
                "return zeros.masked_fill(~allowed, -torch.inf)",
                "return zeros + (~allowed).to(dtype) * -1e9",
            ),
        ),
        test="tests/package/test_masks.py",
    ),
    Mutant(
        "16",
        "scores × keep",
        (
            ("softmax.py", FILL, filled("scores * allowed")),
            ("softmax.py", LAST, BARE),
        ),
    ),
    Mutant("17", "softmax, then × keep", (("softmax.py", FILL, filled("scores")),)),
    Mutant(
        "18",
        "softmax over queries",
        (("softmax.py", SOFT, SOFT.replace("dim=-1", "dim=-2")),),
    ),
    Mutant(
        "19",
        "no scaling",
        (
            (
                "attention.py",
                "q / math.sqrt(q.shape[-1]) if scale is None",
                "q if scale is None",
            ),
        ),
        test="tests/package/test_attention.py",
    ),
    Mutant(
        "20",
        "no maximum subtracted",
        (
            (
                "softmax.py",
                "maximum = scores.detach().amax(dim=-1, keepdim=True)",
                "maximum = torch.zeros_like(scores[..., :1])",
            ),
        ),
        test="tests/package/test_softmax.py",
    ),
    Mutant(
        "21",
        "online softmax without rescaling",
        (
            (
                "softmax.py",
                "shrink_a * a.total + shrink_b * b.total",
                "a.total + b.total",
            ),
            (
                "softmax.py",
                "shrink_a * a.weighted + shrink_b * b.weighted",
                "a.weighted + b.weighted",
            ),
        ),
        test="tests/package/test_softmax.py",
    ),
    Mutant(
        "22",
        "empty row → mean of v",
        (
            ("softmax.py", LAST, LAST.replace("empty | ~allowed", "~allowed & ~empty")),
            (
                "attention.py",
                "sdpa(attn_mask=allowed | empty).masked_fill(empty, 0.0)",
                "sdpa(attn_mask=allowed | empty)",
            ),
        ),
        test="tests/package/test_attention.py",
    ),
    Mutant(
        "23",
        "two finite minima added",
        (
            (
                "softmax.py",
                BODY,
                "        low = torch.where(allowed, 0, torch.finfo(scores.dtype).min)\n"
                "        scores = scores + low + low\n"
                "    return torch.softmax(scores, dim=-1)\n",
            ),
        ),
        test="tests/package/test_softmax.py",
    ),
    Mutant(
        "24",
        "dropout in eval mode",
        (
            (
                "models.py",
                "        x = self.dropout(x)\n",
                "        x = F.dropout(x, self.config.dropout)\n",
            ),
        ),
        test="tests/package/test_models.py",
    ),
    Mutant(
        "25",
        "cache does not count on",
        (
            (
                "slots.py",
                "max(self._n_read, int(slots.max()) + 1)",
                "max(self._n_read, len(slots))",
            ),
        ),
    ),
    Mutant(
        "26",
        "slots restart at each step",
        (
            (
                "heads.py",
                "slots = read.place(given",
                "slots = Part().place(given",
            ),
        ),
    ),
    Mutant(
        "27",
        "mask only without cache",
        (
            (
                "heads.py",
                "self._merge(q, k, v, mask)  # the default slots of a rule",
                "self._merge(q, k, v, mask if cache is None else None)",
            ),
        ),
    ),
    Mutant(
        "28",
        "beam does not reorder the cache",
        (
            (
                "reader.py",
                "            self._cache.reorder(rows)\n",
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "29a",
        "labels not shifted",
        (
            (
                "losses.py",
                "    targets = tokens[:, 1:]\n",
                "    targets = tokens[:, :-1]\n",
            ),
        ),
    ),
    Mutant(
        "29b",
        "labels shifted twice",
        (
            (
                "losses.py",
                "    targets = tokens[:, 1:]\n",
                "    targets = tokens[:, 2:]\n",
            ),
            (
                "losses.py",
                "    rows = logits[:, :-1].flatten(0, 1)\n",
                "    rows = logits[:, :-2].flatten(0, 1)\n",
            ),
        ),
    ),
    Mutant(
        "30",
        "norm over time",
        (
            (
                "models.py",
                "        return self.norm(x)\n",
                "        return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()\n",
            ),
        ),
    ),
    Mutant(
        "31",
        "stretch of a window one key short",
        (("masks/named.py", "(q - behind + 1).clamp", "(q - behind + 2).clamp"),),
        test="tests/package/test_reach.py",
    ),
    Mutant(
        "32",
        "every stretch is called exact",
        (("masks/spans.py", "exact = bool((end - first == n).all())", "exact = True"),),
        test="tests/package/test_reach.py",
    ),
    Mutant(
        "33",
        "reach of a & b keeps the most",
        (
            (
                "reach.py",
                "behind, sinks = min(bounds, key",
                "behind, sinks = max(bounds, key",
            ),
        ),
        test="tests/package/test_reach.py",
    ),
    Mutant(
        "34",
        "row 0 for a rule that declares no batch",
        (
            (
                "masks/algebra.py",
                "UNTOLD = torch.zeros(1, dtype=torch.long).as_subclass(_Untold)",
                "UNTOLD = torch.zeros(1, dtype=torch.long)",
            ),
        ),
        test="tests/package/test_rules.py",
    ),
    Mutant(
        "35",
        "sinks are written over",
        (
            (
                "cache.py",
                "return torch.where(slots < self._sinks, slots, turning)",
                "return slots % self.n_held",
            ),
        ),
        test="tests/package/test_cache.py",
    ),
    Mutant(
        "36",
        "nobody waits",
        (("masks/algebra.py", "if ahead <= 0 or", "if True or"),),
        test="tests/package/test_reach.py",
    ),
)


def apply(mutant: Mutant, package: str) -> dict[str, str]:
    """File → its text with the edits made; each old text must occur exactly once."""
    from pathlib import Path

    texts: dict[str, str] = {}
    for file, old, new in mutant.edits:
        text = texts.get(file) or (Path(package) / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(
                f"mutant {mutant.number}: expected {old!r} once in {file}; found "
                f"{text.count(old)} times."
            )
        texts[file] = text.replace(old, new)
    return texts

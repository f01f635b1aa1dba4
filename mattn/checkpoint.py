"""A run of training in a file: saved on the way, and taken up where it was left.

The long run behind the last part of chapter 8 can be stopped and taken up so.
"""

from __future__ import annotations

import collections
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mattn.files import stored_tensors
from mattn.masks import Mask
from mattn.optional import needed

__all__ = ["Run", "batch_tensors"]

_FORMAT = "mattn checkpoint 3"  # another one when what a checkpoint holds changes
_WITHOUT_RULES = "mattn checkpoint 2"  # is read, and written in the new form
_N_SLOTS = 64  # of a rule that are looked at, to tell it from another


@dataclass
class Run:
    """All that changes from step to step."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    asked: dict[str, Any]
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        found = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        found = {f"model.{name}": tensor for name, tensor in found.items()}
        for i, optimizer in enumerate(self.optimizers):
            for p, state in optimizer.state_dict()["state"].items():
                for name, tensor in state.items():
                    found[f"optimizer.{i}.{p}.{name}"] = tensor
        found["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        found["random"] = torch.get_rng_state()
        return {name: tensor.detach().contiguous() for name, tensor in found.items()}

    def rules(self) -> list[list]:
        """Who may see whom: of each layer's rule its name and a digest."""
        parts = [getattr(part, "masks", ()) for part in self.model.modules()]
        rules = [rule for each in parts for rule in each if isinstance(rule, Mask)]
        return [[repr(rule), _digest([_seen(rule)])] for rule in rules]

    def save(self, path: Path, batch) -> None:
        """Write the checkpoint beside its place, then move it there: all or nothing."""
        metadata = {
            "format": _FORMAT,
            "asked": json.dumps(self.asked),
            "last_batch": str(_digest(batch_tensors(batch))),
            "rules": json.dumps(self.rules()),
        }
        unfinished = path.with_name(path.name + ".part")
        save_file = needed("safetensors.torch", "pretrained", "checkpoint").save_file
        try:
            save_file(self.tensors(), unfinished, metadata)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def load(self, path: Path, batches: Iterator[Any]) -> None:
        """Take up a checkpoint, and read past the batches it has used.

        Nothing of the run changes before all of it is known to fit.
        """
        found, metadata = stored_tensors(path, extra="pretrained", by="fit")
        if metadata.get("format") not in (_FORMAT, _WITHOUT_RULES):
            raise ValueError(
                f"fit: expected {path.name} to be a checkpoint of this version of "
                "mattn; got another file of safetensors. Delete it, or give another "
                "name, to begin anew."
            )
        self._check_asked(path, found, metadata)
        losses = found.pop("losses").tolist()
        _check_read(path, batches, len(losses), metadata["last_batch"])
        self.steps.extend(range(len(losses)))
        self.losses.extend(losses)
        targets = self.tensors()
        with torch.no_grad():
            for name in targets:
                if name.startswith("model."):
                    targets[name].copy_(found[name])
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in found.items():
                kind, *where = name.split(".")
                if kind == "optimizer" and int(where[0]) == i:
                    state.setdefault(int(where[1]), {})[where[2]] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(found["random"])

    def _check_asked(
        self, path: Path, found: dict[str, Tensor], metadata: dict[str, str]
    ) -> None:
        """``ValueError`` where another run, rule or model was asked for."""
        before = json.loads(metadata["asked"])
        now = json.loads(json.dumps(self.asked))
        changed = sorted(name for name in now if before.get(name) != now[name])
        ours = self.rules()
        rules = ours if "rules" not in metadata else json.loads(metadata["rules"])
        for (old, digest), (new, own_digest) in zip(rules, ours, strict=False):
            if (old, digest) != (new, own_digest):
                changed.append(f"mask ({old}, and now {new})")
                break
        own, theirs = (
            {k: (v.shape, v.dtype) for k, v in of.items() if k.startswith("model.")}
            for of in (self.tensors(), found)
        )
        if changed or own != theirs:
            raise ValueError(
                f"fit: expected {path.name} to be of this run; got one of another "
                f"{', '.join(changed) or 'model'}. Delete it to begin anew."
            )


def _check_read(
    path: Path, batches: Iterator[Any], n_read: int, last_batch: str
) -> None:
    """Reads past the batches that were used; ``ValueError`` if they are others."""
    used = collections.deque(itertools.islice(batches, n_read), maxlen=1)
    if not used or str(_digest(batch_tensors(used[0]))) != last_batch:
        raise ValueError(
            f"fit: expected the batches that {path.name} was trained on, from "
            "their beginning; got others. Build them anew with the same seed; or "
            "they draw from the global generator, as dropout does: give what "
            "shuffles them, such as a DataLoader, a generator of its own."
        )


def batch_tensors(batch: Any) -> list[Tensor]:
    """The tensors of a batch, which may stand alone."""
    several = batch if isinstance(batch, tuple | list) else (batch,)
    return [t for t in several if isinstance(t, Tensor)]


def _seen(rule: Mask) -> Tensor:
    """What a rule says of the first slots."""
    n = rule.n_slots
    return rule.matrix(_N_SLOTS if n is None else min(n, _N_SLOTS))


def _digest(tensors: list[Tensor]) -> int:
    value = 0
    for tensor in tensors:
        flat = tensor.detach().cpu().reshape(-1)
        value = zlib.crc32(flat.view(torch.uint8).numpy().tobytes(), value)
    return value

"""The audited model as one function of its input, and back as it was."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Subject", "preserved"]

_LOW = (torch.float32, torch.float16, torch.bfloat16)


class Subject:
    """A model, called the same way every time.

    ``subject(x)`` seeds every random generator, runs the model without
    gradients and returns one tensor ``(B, T, features)``.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        x: Tensor,
        *,
        forward: Callable[[Any, Tensor], Any] | None = None,
        seed: int = 0,
    ):
        self.model = model
        self.module = model if isinstance(model, nn.Module) else None
        self.x = x
        self.is_tokens = not x.dtype.is_floating_point
        self.seed = seed
        self._forward = forward or _default_forward(model)
        self.embedding: nn.Module | None = None
        self.n_symbols = 0
        if self.is_tokens:
            self._find_embedding()

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.run(x)

    def run(self, x: Tensor) -> Tensor:
        """Like a call, but gradients are kept when they are switched on."""
        reseed(self.seed)
        return tensor_of(self._forward(self.model, x), *x.shape[:2])

    def first_run(self) -> Tensor:
        """The given input, with an error that helps when the model refuses it."""
        try:
            return self(self.x)
        except ValueError:
            raise
        except Exception as error:
            kind = "tokens (B, T)" if self.is_tokens else "features (B, T, C)"
            raise ValueError(
                f"the model fails on the given {kind}, {self.x.dtype} "
                f"{tuple(self.x.shape)}: {type(error).__name__}: {error}. Pass an "
                "input that it accepts, or forward=lambda model, x: … to call it."
            ) from error

    def other(self, x: Tensor, where: Tensor, generator: torch.Generator, scale: float):
        """``x`` with every position in ``where`` (same shape as tokens) changed."""
        if self.is_tokens:
            step = torch.randint(1, self.n_symbols, x.shape, generator=generator)
            return torch.where(where, (x + step.to(x.device)) % self.n_symbols, x)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return torch.where(where[..., None], x + scale * noise.to(x), x)

    def drawn(self, n_rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Random input of another size, of the kind of the given one."""
        if self.is_tokens:
            size = (n_rows, length)
            x = torch.randint(0, self.n_symbols, size, generator=generator)
        else:
            x = torch.randn(n_rows, length, self.x.shape[-1], generator=generator)
        return x.to(self.x)

    @contextmanager
    def mode(self, *, train: bool = False, randomised: bool = False) -> Iterator[None]:
        """Train or eval mode, weights as they are or randomised; then back."""
        if self.module is None:
            yield
            return
        with preserved(self.module):
            self.module.train(train)
            if randomised:
                randomise(self.module, self.seed)
            yield

    @contextmanager
    def double(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The whole computation in float64; yields the function to call."""
        guard = nullcontext() if self.module is None else preserved(self.module)
        with guard:
            if self.module is not None:
                self.module.double()
            with _Double():
                yield lambda x: self(x if self.is_tokens else x.double())

    def _find_embedding(self) -> None:
        """The module that is given the tokens: its table tells the vocabulary."""
        if self.module is None:
            self.n_symbols = max(2, int(self.x.max()) + 1)
            return
        found: list[nn.Module] = []

        def look(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if any(
                isinstance(value, Tensor) and torch.equal(value, self.x)
                for value in (*args, *kwargs.values())
            ):
                found.append(module)

        handles = [
            module.register_forward_pre_hook(look, with_kwargs=True)
            for module in self.module.modules()
            if isinstance(module, nn.Embedding)
        ]
        try:
            with preserved(self.module):
                self.first_run()
        finally:
            for handle in handles:
                handle.remove()
        self.embedding = found[0] if found else None
        self.n_symbols = (
            self.embedding.num_embeddings
            if self.embedding is not None
            else max(2, int(self.x.max()) + 1)
        )


def _default_forward(model: Any) -> Callable[[Any, Tensor], Any]:
    """``model(x)``; models that keep a cache of their own are told not to."""
    if "use_cache" in parameters(model):
        return lambda model, x: model(x, use_cache=False)
    return lambda model, x: model(x)


def parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of the model's ``forward``, or none that can be known."""
    try:
        return inspect.signature(getattr(model, "forward", model)).parameters
    except (TypeError, ValueError):
        return {}


def tensor_of(output: Any, B: int, T: int) -> Tensor:
    """The output (B, T, features) inside whatever the model returns."""
    value = output
    if isinstance(value, Mapping) and "logits" in value:
        value = value["logits"]
    elif hasattr(value, "logits") and value.logits is not None:
        value = value.logits
    elif hasattr(value, "last_hidden_state"):
        value = value.last_hidden_state
    elif isinstance(value, Mapping):
        value = next((v for v in value.values() if isinstance(v, Tensor)), None)
    elif isinstance(value, (tuple, list)):
        value = next((v for v in value if isinstance(v, Tensor)), None)
    if not isinstance(value, Tensor):
        raise ValueError(
            "expected an output that is a tensor, a tuple or dict with one, or has "
            f".logits; got {type(output).__name__}. Pass forward=lambda model, x: … "
            "that returns the tensor."
        )
    if value.shape[:2] != (B, T):
        raise ValueError(
            f"expected one output for each input position, (B, T, …) = ({B}, {T}, …); "
            f"got {tuple(value.shape)}. Pass forward=lambda model, x: … that returns "
            "the outputs by position, batch first."
        )
    return value.reshape(B, T, -1)


def reseed(seed: int) -> None:
    """The same random numbers for every run."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def randomise(module: nn.Module, seed: int) -> None:
    """Move every weight, so that nothing hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if not p.dtype.is_floating_point:
                continue
            spread = p[0].numel() ** -0.5 if p.ndim > 1 else 0.5
            p.add_(spread * torch.randn(p.shape, generator=generator).to(p))


@contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the module comes back as it was.

    Parameters and buffers bit for bit and in the same storage, gradients,
    attributes (mode and hooks among them), and all random states.
    """
    tensors = []
    for m in module.modules():
        for table in (m._parameters, m._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    data = tensor.data
                    tensors.append((table, name, tensor, data, data.clone()))
    keys = [(t, list(t)) for m in module.modules() for t in (m._parameters, m._buffers)]
    gradients = [
        (p, p.grad, None if p.grad is None else p.grad.clone())
        for p in module.parameters()
    ]
    attributes = [(m, dict(vars(m))) for m in module.modules()]
    with random_states():
        try:
            yield
        finally:
            for m, saved in attributes:
                vars(m).clear()
                vars(m).update(saved)
            for table, names in keys:
                for name in set(table) - set(names):
                    del table[name]
            for table, name, tensor, data, values in tensors:
                table[name] = tensor
                tensor.data = data
                tensor.data.copy_(values)
            for p, gradient, values in gradients:
                p.grad = gradient
                if gradient is not None:
                    with torch.no_grad():
                        gradient.copy_(values)


@contextmanager
def random_states() -> Iterator[None]:
    """Put every random generator back to where it was."""
    cpu, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


class _Double(TorchDispatchMode):
    """Keeps float64 where the code asks for less.

    Norms and rotary tables often convert to float32 by name; a model in
    float64 would round there, and rounding would look like a leak.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in _LOW:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)

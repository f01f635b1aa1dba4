"""The audited model as one function of its input, and back as it was.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Adapter", "Subject", "preserved"]

_EXACT = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64)
_EXACT[torch.complex64] = torch.complex128


@dataclass(frozen=True)
class Adapter:
    """How a model is run, where ``model(x)`` does not say it.

    Each function is given the model first and returns what the model
    returns: a tensor (B, T, …), or a tuple, dict or object with one. All are
    optional; a probe that needs a missing one is reported as not covered.

    ``Adapter()`` finds out by itself for causal models of the package
    transformers and for models with ``new_cache(capacity)`` and ``cache=``.
    """

    forward: Callable[[Any, Tensor], Any] | None = None
    """``forward(model, x)``: all positions at once."""
    step: Callable[[Any, Tensor, Any, int], tuple[Any, Any]] | None = None
    """``step(model, chunk, state, capacity) → (output, state)``: the next positions,
    through a cache for ``capacity`` of them; the first ``state`` is ``None``."""
    pad: Callable[[Any, Tensor, Tensor], Any] | None = None
    """``pad(model, x, real)``: padded rows; ``real`` (B, T) is ``True`` at tokens."""
    packed: Callable[[Any, Tensor, Tensor], Any] | None = None
    """``packed(model, x, ids)``: several documents in a row, numbered by ``ids``
    (B, T); the outputs must be those of each document alone."""

    def fitted(self, model: Any) -> Adapter:
        """With what can be found out about ``model`` filled in."""
        if self.forward is not None:
            # Called in a way of its own: its cache and padding are too.
            return self
        return Adapter(
            _default_forward(model),
            self.step or _default_step(model),
            self.pad or _default_pad(model),
            self.packed,
        )


class Subject:
    """A model, called the same way every time.

    ``subject(x)`` seeds every random generator, runs the model without
    gradients and returns one tensor ``(B, T, features)``.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        x: Tensor,
        forward: Callable[[Any, Tensor], Any] | Adapter | None = None,
    ):
        self.model = model
        self.module = model if isinstance(model, nn.Module) else None
        self.x = x
        self.is_tokens = not x.dtype.is_floating_point
        self.seed = 0
        given = forward if isinstance(forward, Adapter) else Adapter(forward)
        self.adapter = given.fitted(model)
        self._forward = self.adapter.forward or _default_forward(model)
        self.embedding: nn.Embedding | None = None
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

    def first_run(self, x: Tensor) -> Tensor:
        """A run with an error that helps when the model refuses the input."""
        try:
            return self(x)
        except ValueError:
            raise
        except Exception as error:
            kind = "tokens (B, T)" if self.is_tokens else "features (B, T, C)"
            raise ValueError(
                f"the model fails on the given {kind}, {x.dtype} {tuple(x.shape)}: "
                f"{type(error).__name__}: {error}. Pass an input that it accepts, or "
                "forward=lambda model, x: … to call it."
            ) from error

    def accepts(self, x: Tensor) -> bool:
        """Whether the model takes an input of this size."""
        try:
            self(x)
        except Exception:  # whatever a third-party model raises
            return False
        return True

    def other(
        self, x: Tensor, where: Tensor, generator: torch.Generator, scale: float
    ) -> Tensor:
        """``x`` with every position in ``where`` (same shape as tokens) changed."""
        if self.is_tokens:
            step = torch.randint(1, self.n_symbols, x.shape, generator=generator)
            return torch.where(where, (x + step.to(x)) % self.n_symbols, x)
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
    def mode(
        self, *, train: bool = False, randomised: bool = False, enlarged: float = 1.0
    ) -> Iterator[None]:
        """Train or eval mode, weights randomised or made large; then back."""
        if self.module is None:
            yield
            return
        with preserved(self.module):
            self.module.train(train)
            if randomised:
                randomise(self.module, self.seed)
            if enlarged != 1:
                with torch.no_grad():
                    for p in self.module.parameters():
                        if p.ndim > 1 and p.dtype.is_floating_point:
                            p.mul_(enlarged)
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

    @contextmanager
    def embedded(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Inside, ``change`` is applied to the embedded input."""
        if self.embedding is None:
            raise ValueError(
                "expected a model whose embedding was found; got one without. Give "
                "features instead of tokens."
            )
        calls = iter(range(10**9))

        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
            return change(output) if next(calls) == self._call else None

        assert self.embedding is not None  # who asks has looked
        handle = self.embedding.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _find_embedding(self) -> None:
        """The module that is given the tokens: its table tells the vocabulary.

        Two runs tell the tokens from what happens to equal them (positions,
        the source of an encoder–decoder): it must follow when they change.
        """
        self.n_symbols = max(2, int(self.x.max()) + 1)
        if self.module is None:
            return
        with preserved(self.module):
            given = self._given_tokens(self.module, self.x)
            try:
                again = self._given_tokens(self.module, self.x.flip(1))
            except ValueError:  # a model that refuses the tokens in another order
                again = given
        both = [call for call in given if call in again]
        if both:
            self.embedding, self._call = both[0]
            self.n_symbols = self.embedding.num_embeddings
            if self.n_symbols < 2:
                raise ValueError(
                    "expected a vocabulary of at least 2 symbols, so that a token can "
                    "be changed; the model's embedding has 1."
                )

    def _given_tokens(
        self, module: nn.Module, x: Tensor
    ) -> list[tuple[nn.Embedding, int]]:
        """Tables that are given ``x``, and in which of their calls: the first is 0."""
        calls: list[nn.Module] = []
        found: list[tuple[nn.Embedding, int]] = []

        def look(m: nn.Module, args: tuple, kwargs: dict) -> None:
            n = sum(m is other for other in calls)
            if any(_equal(value, x) for value in (*args, *kwargs.values())):
                assert isinstance(m, nn.Embedding)  # hooked below
                found.append((m, n))
            calls.append(m)

        handles = [
            m.register_forward_pre_hook(look, with_kwargs=True)
            for m in module.modules()
            if isinstance(m, nn.Embedding)
        ]
        try:
            self.first_run(x)
        finally:
            for handle in handles:
                handle.remove()
        return found


def _equal(value: object, x: Tensor) -> bool:
    return (
        isinstance(value, Tensor) and value.shape == x.shape and torch.equal(value, x)
    )


def _default_forward(model: Any) -> Callable[[Any, Tensor], Any]:
    """``model(x)``; models that keep a cache of their own are told not to."""
    if "use_cache" in parameters(model):
        return lambda model, x: model(x, use_cache=False)
    return lambda model, x: model(x)


def _default_step(model: Any) -> Callable | None:
    known = parameters(model)
    for name in ("past_key_values", "cache_params"):
        if name in known and "use_cache" in known:

            def through_its_own(model, chunk, state, capacity, name=name):
                out = model(chunk, use_cache=True, **{name: state})
                return out, getattr(out, name)

            return through_its_own
    if "cache" in known and hasattr(model, "new_cache"):

        def through_a_new(model, chunk, state, capacity):
            state = model.new_cache(capacity) if state is None else state
            return model(chunk, cache=state), state

        return through_a_new
    return None


def _default_pad(model: Any) -> Callable | None:
    known = parameters(model)
    if "attention_mask" not in known or "input_ids" not in known:
        return None

    def pad(model, x, real):
        options: dict[str, Any] = {"attention_mask": real.long()}
        if "position_ids" in known:
            options["position_ids"] = (real.cumsum(dim=-1) - 1).clamp(min=0)
        if "use_cache" in known:
            options["use_cache"] = False
        return model(x, **options)

    return pad


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
    elif getattr(value, "logits", None) is not None:
        value = output.logits
    elif hasattr(value, "last_hidden_state"):
        value = output.last_hidden_state
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
    torch.default_generator.manual_seed(seed)  # torch.manual_seed is 100 times slower
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)
    random.seed(seed)


def randomise(module: nn.Module, seed: int) -> None:
    """Move every weight, so that nothing hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if not p.dtype.is_floating_point:
                continue
            spread = p[0].numel() ** -0.5 if p.ndim > 1 and p.numel() else 0.5
            p.add_(spread * torch.randn(p.shape, generator=generator).to(p))


@contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the module comes back as it was.

    Parameters, buffers and other tensors it holds, bit for bit and in the
    same storage; gradients; attributes, mode and hooks among them; the
    entries of its lists and dictionaries; and all random states.
    """
    attributes = [(m, dict(vars(m))) for m in module.modules()]
    values = [value for _, saved in attributes for value in saved.values()]
    containers: list[tuple[Any, Any]] = [
        (c, copy.copy(c)) for c in values if isinstance(c, (dict, list, set))
    ]
    for m in module.modules():
        values += [*m._parameters.values(), *m._buffers.values()]
    held = [*{id(v): v for v in values if isinstance(v, Tensor)}.values()]
    held += [v.grad for v in held if v.is_leaf and v.grad is not None]
    tensors = [(v, v.data, v.data.clone(), v.requires_grad) for v in held]
    gradients = [(v, v.grad) for v in held if v.is_leaf]
    with random_states():
        try:
            yield
        finally:
            for m, saved in attributes:
                vars(m).clear()
                vars(m).update(saved)
            for container, entries in containers:
                container.clear()
                is_list = isinstance(container, list)
                (container.extend if is_list else container.update)(entries)
            for tensor, data, was, requires_grad in tensors:
                tensor.data = data
                data.copy_(was)
                if tensor.is_leaf:
                    tensor.requires_grad_(requires_grad)
            for tensor, gradient in gradients:
                tensor.grad = gradient


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
    """Computes in float64, also where the code asks for less.

    Norms and rotary tables often convert to float32 by name, and a plain
    function brings constants of its own; they would round, and rounding
    would look like a leak.
    """

    def __enter__(self):
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error):
        torch.set_default_dtype(self._default)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in _EXACT:
            kwargs["dtype"] = _EXACT[kwargs["dtype"]]
        # A view must stay a view, and what is written to must stay itself.
        if not (func.is_view or func._schema.is_mutable):
            args = tuple(_exact(value) for value in args)
        return func(*args, **kwargs)


def _exact(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in _EXACT:
        return value.to(_EXACT[value.dtype])
    if isinstance(value, (list, tuple)):  # what is concatenated, stacked, indexed
        return type(value)([_exact(v) for v in value])
    return value

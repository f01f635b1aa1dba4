"""Checkpoints: a run that is taken up again is the run that never stopped."""

import pytest
import torch
from small import V, decoder, draw

from mattn import Decoder, causal, full, prefix, rule, window
from mattn.data import random_windows
from mattn.training import Recipe, fit


class Stop(KeyboardInterrupt):
    pass


def windows_of(seed=0):
    text = torch.randint(0, V, (200,), generator=draw(7))
    return random_windows(text, n_rows=3, length=6, generator=draw(seed))


def stopping(batches, at, error=Stop):
    for i, batch in enumerate(batches):
        if i == at:
            raise error
        yield batch


OPTIONS = {"n_steps": 40, "lr": 0.01, "recipe": Recipe(muon_lr=0.02)}


@pytest.mark.parametrize("at", [1, 17, 39])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, at):
    # Dropout draws from the global generator: its state is kept as well.
    torch.manual_seed(3)
    model = decoder(dropout=0.2)
    start = {name: p.clone() for name, p in model.state_dict().items()}
    torch.manual_seed(4)
    history = fit(model, windows_of(), **OPTIONS)
    whole = {name: p.clone() for name, p in model.state_dict().items()}
    after = torch.rand(3)

    file = tmp_path / "run.safetensors"
    model.load_state_dict(start)
    torch.manual_seed(4)
    with pytest.raises(Stop):
        fit(model, stopping(windows_of(), at), checkpoint=file, **OPTIONS)
    assert file.is_file() == (at >= 2)

    other = decoder(dropout=0.2)
    if at < 2:
        other.load_state_dict(start)
        torch.manual_seed(4)
    else:
        torch.manual_seed(99)
    assert fit(other, windows_of(), checkpoint=file, **OPTIONS) == history
    for name, p in other.state_dict().items():
        assert torch.equal(p, whole[name]), name
    assert torch.equal(torch.rand(3), after)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_finished_run_is_read_and_not_run_again(tmp_path):
    file = tmp_path / "run.safetensors"
    first = decoder()
    history = fit(first, windows_of(), checkpoint=file, **OPTIONS)
    second = decoder()
    again = fit(second, windows_of(), checkpoint=str(file), **OPTIONS)
    assert again == history
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_ctrl_c_keeps_the_last_checkpoint_and_says_so(tmp_path):
    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(decoder(), stopping(windows_of(), 9), checkpoint=file, **OPTIONS)
    assert "run.safetensors is kept" in stopped.value.__notes__[0]
    from safetensors.torch import load_file

    assert len(load_file(file)["losses"]) == 8
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(decoder(), stopping(windows_of(), 9), **OPTIONS)
    assert not hasattr(stopped.value, "__notes__")


def test_an_interrupted_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    import safetensors.torch

    file = tmp_path / "run.safetensors"
    with pytest.raises(Stop):
        fit(decoder(), stopping(windows_of(), 5), checkpoint=file, **OPTIONS)
    before = file.read_bytes()

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise Stop

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(Stop):
        fit(decoder(), windows_of(), checkpoint=file, **OPTIONS)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 50}, "another n_steps"),
        ({"lr": 0.02}, "another lr"),
        ({"recipe": Recipe(muon_lr=0.03)}, "another muon_lr"),
        ({"model": "wide"}, "another model"),
        ({"seed": 1}, "got others"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    file = tmp_path / "run.safetensors"
    with pytest.raises(Stop):
        fit(decoder(), stopping(windows_of(), 9), checkpoint=file, **OPTIONS)
    model = decoder(d_hidden=8) if change.pop("model", None) else decoder()
    before = [p.clone() for p in model.parameters()]
    batches = windows_of(change.pop("seed", 0))
    with pytest.raises(ValueError, match=message):
        fit(model, batches, checkpoint=file, **OPTIONS | change)
    for a, b in zip(model.parameters(), before, strict=True):
        assert torch.equal(a, b)


def under(mask) -> Decoder:
    return Decoder(decoder().config, mask)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (causal, full, r"mask \(causal, and now full\)"),
        (causal, (causal, causal & window(3)), r"now \(causal & window\(3\)\)"),
        (causal & window(3), causal & window(4), r"window\(3\)\), and now"),
        # Of one name, and not the same.
        (
            rule(lambda b, q, k: k <= q, name="mine"),
            rule(lambda b, q, k: k < q, name="mine"),
            r"mask \(mine, and now mine\)",
        ),
    ],
)
def test_a_run_is_not_taken_up_under_another_rule(tmp_path, before, now, message):
    file = tmp_path / "run.safetensors"
    with pytest.raises(Stop):
        fit(under(before), stopping(windows_of(), 9), checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match=f"of another .*{message}"):
        fit(under(now), windows_of(), checkpoint=file, **OPTIONS)
    history = fit(under(before), windows_of(), checkpoint=file, **OPTIONS)
    assert len(history.steps) == OPTIONS["n_steps"]


def test_a_checkpoint_that_does_not_say_its_rule_is_read_and_says_it_then(tmp_path):
    """As those were that were written before a checkpoint recorded it."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file, mask = tmp_path / "run.safetensors", causal | prefix(2)

    def metadata():
        with safe_open(file, "pt") as opened:
            return opened.metadata()

    whole = fit(under(mask), windows_of(), **OPTIONS)
    torch.manual_seed(0)
    with pytest.raises(Stop):
        fit(under(mask), stopping(windows_of(), 9), checkpoint=file, **OPTIONS)
    old = {k: v for k, v in metadata().items() if k != "rules"}
    save_file(load_file(file), file, old | {"format": "mattn checkpoint 2"})
    assert fit(under(mask), windows_of(), checkpoint=file, **OPTIONS) == whole
    assert metadata()["format"] == "mattn checkpoint 3"
    assert "(causal | prefix(2))" in metadata()["rules"]

"""Looking, covering, removing, and the parts of a logit: chapter 11's instruments."""

import pytest
import torch
from decoders import CONFIGS, T, V, model_of, tokens_like

from mattn import (
    Decoder,
    EncoderDecoder,
    causal,
    full,
    padding,
    record_weights,
    rule,
    window,
)
from mattn.checks import same
from mattn.data.repeats import repeats
from mattn.heads import MultiHeadAttention
from mattn.interpret import (
    attention_layers,
    attribution,
    diagonal,
    effect,
    first_token,
    freeze,
    induction,
    knockout,
    patched,
    path,
    pattern_score,
    previous_token,
    record_outputs,
    replace,
    same_token,
)
from mattn.losses import token_losses

TOKENS = tokens_like(3, T)


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)


def run(model, *changes, tokens=TOKENS, **given):
    with torch.no_grad(), patched(model, *changes):
        return model(tokens, **given)


def recorded(model, tokens=TOKENS, **given):
    with (
        torch.no_grad(),
        record_weights(model) as weights,
        record_outputs(model) as outputs,
    ):
        logits = model(tokens, **given)
    return logits, weights, outputs


@pytest.fixture(params=["plain", "grouped", "window"])
def model(request):
    torch.manual_seed(3)
    return model_of(request.param).eval()


def every_change(model):
    _, weights, outputs = recorded(model)
    name = "blocks.0.attention"
    return [
        knockout(0, previous_token),
        replace(0, 1),
        replace(name, 1, outputs[name][:, 2]),
        freeze(0, 1, weights[name][:, 2]),
        path(0, {1: 0.0}, (1, 3, "key")),
    ]


def test_a_head_removed_by_hand_in_the_weights_equals_the_hook(model):
    with_hook = run(model, replace(0, 2))
    layer = model.blocks[0].attention
    with torch.no_grad():
        layer.output.weight[:, 2 * layer.d_head : 3 * layer.d_head] = 0
    same(with_hook, run(model), atol=1e-5)
    assert (run(model, replace(0, 1)) - with_hook).abs().max() > 1e-3


def test_a_run_patched_with_itself_is_the_same_bit_for_bit(model):
    with torch.no_grad(), record_outputs(model) as outputs:
        before = model(TOKENS)
    for layer, name in enumerate(attention_layers(model)):
        for head in range(4):
            own = outputs[name][:, head]
            assert torch.equal(run(model, replace(layer, head, own)), before)


def test_a_head_taken_from_another_run_hands_over_that_one(model):
    other = tokens_like(3, T, seed=8)
    theirs = recorded(model, other)[2]
    with (
        torch.no_grad(),
        patched(model, replace(1, 2, theirs["blocks.1.attention"][:, 2])),
        record_outputs(model) as outputs,
    ):
        model(TOKENS)
    ours = outputs["blocks.1.attention"]
    assert torch.equal(ours[:, 2], theirs["blocks.1.attention"][:, 2])
    assert not torch.equal(ours[:, 1], theirs["blocks.1.attention"][:, 1])


def stop_inside(model, change):
    with patched(model, change):
        assert hooks_of(model) > 0
        raise RuntimeError("stop")


def test_no_hook_is_left_whatever_happens(model):
    before = run(model)
    for change in every_change(model):
        changed = run(model, change)
        assert not torch.equal(changed, before)
        with pytest.raises(RuntimeError, match="stop"):
            stop_inside(model, change)
        assert hooks_of(model) == 0
        assert torch.equal(run(model), before)


def test_no_hook_is_left_when_a_later_change_is_refused(model):
    with pytest.raises(ValueError, match="expected a layer"):
        run(model, replace(0, 1), knockout(9, previous_token))
    with pytest.raises(ValueError, match="expected a head"):
        run(model, knockout(0, previous_token), replace(0, 4))
    assert hooks_of(model) == 0


@pytest.mark.parametrize("layer", [0, 1])
def test_a_knockout_is_the_mask_without_these_edges_in_this_layer_alone(model, layer):
    cut = run(model, knockout(layer, diagonal(1)))
    masks = list(model.masks)
    masks[layer] = masks[layer] & ~diagonal(1)
    by_mask = Decoder(model.config, masks).eval()
    by_mask.load_state_dict(model.state_dict())
    assert torch.equal(cut, run(by_mask))
    _, weights, _ = recorded(model)
    with patched(model, knockout(layer, diagonal(1))):
        _, after, _ = recorded(model)
    name, other = (f"blocks.{n}.attention" for n in (layer, 1 - layer))
    assert (weights[name].diagonal(-1, -2, -1) > 0).all()
    assert (after[name].diagonal(-1, -2, -1) == 0).all()
    assert (after[other].diagonal(-1, -2, -1) > 0).all()


def test_a_knockout_joins_padding_and_masks_that_are_tensors(model):
    lengths = torch.tensor([7, 4, 2])
    given = {"mask": padding(lengths)}
    cut = run(model, knockout(0, first_token), **given)
    for b, n in enumerate(lengths):
        alone = run(model, knockout(0, first_token), tokens=TOKENS[b : b + 1, :n])
        same(cut[b : b + 1, :n], alone, atol=1e-5)
    layer = MultiHeadAttention(8, 2)
    x, mask = torch.randn(3, T, 8), causal.matrix(T)
    expected = layer(x, causal & ~induction(TOKENS))
    for given in (mask[None, None], mask.expand(3, 1, T, T)):
        with patched(layer, knockout(0, induction(TOKENS))):
            same(layer(x, given), expected)
    with patched(layer, knockout("", diagonal(0))):
        by_name, no_mask = layer(x, mask=mask), layer(x)
    same(by_name, layer(x, causal & ~diagonal(0)))
    same(no_mask, layer(x, ~diagonal(0)))


def test_a_pattern_frozen_at_its_own_weights_changes_nothing(model):
    before, weights, _ = recorded(model)
    for layer, name in enumerate(weights):
        own = freeze(layer, 3, weights[name][:, 3])
        same(run(model, own), before, atol=1e-5)


def test_a_pattern_replaced_by_a_rule_is_a_mean_of_values(model):
    with patched(model, freeze(0, 3, first_token)):
        _, _, outputs = recorded(model)
    out = outputs["blocks.0.attention"][:, 3]
    same(out, out[:, :1].expand_as(out))  # all hear the first token
    with patched(model, freeze(0, 3, causal)):
        mean = recorded(model)[2]["blocks.0.attention"][:, 3]
    same(mean[:, 0], out[:, 0])
    assert (mean[:, -1] - out[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_a_path_changes_one_part_of_one_head(part):
    torch.manual_seed(3)
    model = model_of("plain").eval()
    _, weights, outputs = recorded(model)
    with patched(model, path(0, {1: 0.0}, (1, 2, part))):
        _, changed, handed = recorded(model)
    name = "blocks.1.attention"
    for head in range(4):
        own = torch.equal(handed[name][:, head], outputs[name][:, head])
        pattern = torch.equal(changed[name][:, head], weights[name][:, head])
        assert own == (head != 2)
        assert pattern == (head != 2 or part == "value")
    assert torch.equal(handed["blocks.0.attention"], outputs["blocks.0.attention"])


def test_all_paths_of_a_last_layer_without_mlps_are_the_head_removed():
    """Into every part of every head, and to the read-out, nothing is left."""
    torch.manual_seed(3)
    model = model_of("plain").eval()
    torch.nn.init.zeros_(model.blocks[0].mlp.down.weight)
    parts = [(1, h, part) for h in range(4) for part in ("query", "key", "value")]
    removed = recorded_with(model, replace(0, 1))
    paths = recorded_with(model, *(path(0, {1: 0.0}, into) for into in parts))
    same(paths["blocks.1.attention"], removed["blocks.1.attention"], atol=1e-5)


def recorded_with(model, *changes):
    with patched(model, *changes):
        return recorded(model)[2]


def test_a_path_along_which_nothing_changes_changes_nothing(model):
    before, _, outputs = recorded(model)
    own = outputs["blocks.0.attention"][:, 1]
    for part in ("query", "key", "value"):
        same(run(model, path(0, {1: own}, (1, 3, part))), before, atol=1e-5)
        assert not torch.equal(run(model, path(0, {1: 0.0}, (1, 3, part))), before)


def test_the_parts_of_a_logit_sum_to_it_and_each_is_what_it_says(model):
    target = tokens_like(3, T, seed=5)
    parts = attribution(model, TOKENS, target)
    logits = run(model)
    same(parts.logit, logits.gather(-1, target[..., None])[..., 0])
    heads = torch.stack(list(parts.heads.values()))  # (L, B, H, T)
    total = parts.embedding + heads.sum((0, 2)) + parts.mlps.sum(0)
    same(total, parts.logit, atol=1e-5)
    assert (heads.abs().mean((1, 3)) > 1e-3).all()
    assert hooks_of(model) == 0


def test_an_attribution_that_leaves_a_part_out_is_refused(model):
    """The assert in it can fail: here a part writes that nobody counts."""
    inner = model.blocks[1].forward
    model.blocks[1].forward = lambda x, *a, **k: inner(x, *a, **k) + 1
    with pytest.raises(AssertionError, match="values differ"):
        attribution(model, TOKENS, TOKENS)
    assert hooks_of(model) == 0
    with pytest.raises(ValueError, match="eval"):
        attribution(model.train(), TOKENS, TOKENS)


def test_pattern_scores_of_weights_made_by_hand():
    shifted = torch.zeros(1, 2, 4, 4)
    shifted[0, 0] = torch.tensor(
        [[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    )
    shifted[0, 1] = causal.matrix(4) / torch.arange(1, 5)[:, None]
    share, null = pattern_score(shifted, previous_token, causal)
    same(share, [1.0, (1 / 2 + 1 / 3 + 1 / 4) / 3])
    assert null == pytest.approx(share[1].item())
    share, null = pattern_score(shifted, first_token, causal)
    same(share, [0.5, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4])
    share, null = pattern_score(shifted, previous_token, causal & window(2))
    assert null == pytest.approx(0.5)  # in a window of two it is no discovery
    last = torch.tensor([[False, False, False, True]])
    share, _ = pattern_score(shifted, previous_token, causal, queries=last)
    same(share, [1.0, 0.25])
    with pytest.raises(ValueError, match="expected a query"):
        pattern_score(shifted, diagonal(4), causal)


def test_the_rules_of_content_select_the_cells_they_name():
    tokens = torch.tensor([[5, 6, 5, 6, 5], [1, 2, 3, 4, 1]])
    cells = induction(tokens).matrix(5)
    assert cells[0].nonzero().tolist() == [[2, 1], [3, 2], [4, 1], [4, 3]]
    assert cells[1].nonzero().tolist() == [[4, 1]]
    cells = same_token(tokens).matrix(5)
    assert cells[0].nonzero().tolist() == [[2, 0], [3, 1], [4, 0], [4, 2]]
    assert cells[1].nonzero().tolist() == [[4, 0]]


def test_padding_takes_no_part_in_a_score():
    lengths = torch.tensor([4, 2])
    mask = causal & padding(lengths)
    seen = mask.matrix(4)
    weights = (seen / seen.sum(-1, keepdim=True))[:, None]
    real = torch.arange(4) < lengths[:, None]
    share, null = pattern_score(weights, previous_token, mask, queries=real)
    expected = (1 / 2 + 1 / 3 + 1 / 4 + 1 / 2) / 4
    assert null == pytest.approx(expected) == pytest.approx(share.item())


def test_an_effect_is_the_mean_over_rows_of_what_is_lost(model):
    found = effect(model, TOKENS, replace(1, 0))
    before, after = (
        token_losses(run(model, *c), TOKENS).mean(1) for c in ((), (replace(1, 0),))
    )
    lost = after - before
    assert found.mean == pytest.approx(lost.mean().item(), abs=1e-6)
    half = 1.96 * lost.std().item() / 3**0.5
    assert found.high - found.mean == pytest.approx(half, abs=1e-6)
    assert effect(model, TOKENS) == (0, 0, 0)
    where = torch.zeros(3, T - 1, dtype=torch.bool)
    where[:, 2] = True
    some = effect(model, TOKENS, replace(1, 0), where=where)
    picked = [
        token_losses(run(model, *c), TOKENS)[:, 2].mean()
        for c in ((), (replace(1, 0),))
    ]
    assert some.mean == pytest.approx((picked[1] - picked[0]).item(), abs=1e-6)
    with pytest.raises(ValueError, match="two or more rows"):
        effect(model, TOKENS[:1], replace(1, 0))


def test_cross_attention_is_cut_by_its_name():
    torch.manual_seed(2)
    model = EncoderDecoder(CONFIGS["plain"]).eval()
    source, target = tokens_like(2, 6), tokens_like(2, 4, seed=3)
    names = list(attention_layers(model))
    assert "decoder.blocks.1.cross" in names
    cut = rule(lambda b, q, k: k == 2)
    cutting = patched(model, knockout("decoder.blocks.1.cross", cut))
    with torch.no_grad(), record_weights(model) as weights, cutting:
        model(source, target)
    assert (weights["decoder.blocks.1.cross"][..., 2] == 0).all()
    assert (weights["decoder.blocks.0.cross"][..., 2] > 0).all()


def test_what_is_no_layer_rule_or_path_is_refused():
    model = model_of("plain").eval()
    with pytest.raises(ValueError, match="which has none"):
        attention_layers(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="a later block"):
        path(1, {0: 0.0}, (0, 1, "key"))
    with pytest.raises(ValueError, match="a part query"):
        path(0, {0: 0.0}, (1, 1, "output"))
    with pytest.raises(ValueError, match="expected a Decoder"):
        run(MultiHeadAttention(8, 2), path(0, {0: 0.0}, (1, 1, "key")))
    assert hooks_of(model) == 0


def test_rows_come_again_with_a_period_of_their_own():
    generator = torch.Generator().manual_seed(4)
    given = {"n_symbols": V, "periods": (3, 5), "generator": generator}
    tokens, periods = repeats(200, 11, **given)
    assert set(periods.tolist()) == {3, 4, 5}
    for row, p in zip(tokens, periods, strict=True):
        assert torch.equal(row[p:], row[:-p])
    assert tokens[:, :3].unique().tolist() == list(range(V))
    n_differ = sum(len(set(row[:3].tolist())) > 1 for row in tokens)
    assert n_differ > 150
    with pytest.raises(ValueError, match="periods"):
        repeats(2, 4, **(given | {"periods": (3, 5)}))


def test_full_is_the_mask_where_a_layer_has_none():
    layer = MultiHeadAttention(8, 2)
    x = torch.randn(1, 4, 8)
    with patched(layer, knockout(0, ~full)):
        assert torch.equal(layer(x), layer(x, full))

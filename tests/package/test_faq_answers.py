"""What the page of frequent questions says of depth, padding and writing, repeated."""

import pytest
import torch
from torch import nn

from mattn import Config, Decoder, attention, causal, padding

BLOCKED = ~causal.matrix(5)


@pytest.fixture
def x():
    return torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))


def layers(kind=nn.TransformerEncoderLayer, **options):
    """Two layers of PyTorch, without dropout."""
    torch.manual_seed(0)
    pair = [kind(8, 2, 16, dropout=0.0, batch_first=True, **options) for _ in range(2)]
    return [layer.eval() for layer in pair]


def moved(function, x):
    """Which outputs move when the last input does, for more than rounding."""
    changed = x.clone()
    changed[:, -1, 0] += 1.0
    gap = (function(changed) - function(x)).abs().amax(dim=(0, 2))
    return (gap > 1e-4).tolist()


LAST_ALONE, ALL = [False] * 4 + [True], [True] * 5


def test_one_layer_without_the_mask_is_enough(x):
    first, second = layers()
    masked = {"src_mask": BLOCKED}
    assert moved(lambda x: second(first(x, **masked), **masked), x) == LAST_ALONE
    # The last layer mixes what the first kept apart, and the other way round.
    assert moved(lambda x: second(first(x, **masked)), x) == ALL
    assert moved(lambda x: second(first(x), **masked), x) == ALL


def test_the_input_as_memory_opens_a_second_road(x):
    pair = layers(nn.TransformerDecoderLayer)

    def decoder(memory):
        def run(x):
            for layer in pair:
                x = layer(x, memory if memory is not None else x, tgt_mask=BLOCKED)
            return x

        return run

    assert moved(decoder(None), x) == ALL
    assert moved(decoder(torch.zeros(1, 1, 8)), x) == LAST_ALONE


def test_standardising_with_the_mean_of_the_window_leaks(x):
    def causal_layer(x):
        return attention(x, x, x, causal)[0]

    assert moved(causal_layer, x) == LAST_ALONE
    assert moved(lambda x: causal_layer(x - x.mean(dim=1, keepdim=True)), x) == ALL


def test_dropout_changes_the_sum_of_a_row(x):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
    sums = torch.stack([layer(x, x, x)[1].sum(dim=-1) for _ in range(1000)])
    assert (sums[0] - 1).abs().max() > 0.01
    # 1,000 draws of a row: the standard error is a hundredth.
    torch.testing.assert_close(sums.mean(0), torch.ones(1, 5), atol=0.06, rtol=0)
    torch.testing.assert_close(
        layer.eval()(x, x, x)[1].sum(dim=-1), torch.ones(1, 5), atol=1e-5, rtol=0
    )


def test_masking_padded_queries_changes_no_real_output(x):
    real = padding([3]).matrix(5)  # (1, 5, 5): keys
    queries = real.mT & real
    left, right = (attention(x, x, x, mask)[0][:, :3] for mask in (real, queries))
    torch.testing.assert_close(left, right)


def test_padding_told_by_the_symbol_takes_the_end_away():
    end = 9
    targets = torch.tensor([5, 6, 7, end, end, end])[1:]
    assert targets[targets != end].tolist() == [6, 7]
    length = 4  # 5 6 7 and the end that is meant
    assert targets[: length - 1].tolist() == [6, 7, end]


@pytest.mark.parametrize("nested", [True, False])
def test_left_padding_is_nan_in_eval_alone(nested):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    padded = torch.tensor([[True, True, False, False, False], [False] * 5])
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
    masks = {"mask": BLOCKED, "src_key_padding_mask": padded}
    assert model.train()(x, **masks).isfinite().all()
    assert model.eval()(x, **masks).isfinite().all()
    own = (BLOCKED | padded[:, None]) & ~torch.eye(5, dtype=torch.bool)
    with torch.no_grad():
        assert model(x, **masks).isnan().any(dim=-1).tolist() == [
            [True] * 5,
            [False] * 5,
        ]
        assert model(x, mask=own.repeat_interleave(2, 0)).isfinite().all()


def test_the_fast_path_fills_padding_with_zeros(x):
    padded = torch.tensor([[False, False, False, True, True]])
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    slow = model(x, src_key_padding_mask=padded)
    with torch.no_grad(), pytest.warns(UserWarning, match="nested tensors"):
        fast = model(x, src_key_padding_mask=padded)
    torch.testing.assert_close(fast[:, :3], slow[:, :3])
    assert fast[:, 3:].abs().max() == 0
    assert slow[:, 3:].abs().min(dim=-1).values.max() > 0


def test_what_transformers_makes_of_its_masks():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    bare = torch.tensor([[1, 2, 3, 4]])
    other = torch.tensor([[1, 2, 3, 9]])
    ones, four_axes = torch.ones_like(bare), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    logits = model(bare).logits
    assert torch.equal(model(bare, attention_mask=ones).logits, logits)
    torch.testing.assert_close(model(other).logits[:, :3], logits[:, :3])
    gap = model(other, attention_mask=four_axes).logits
    gap = gap - model(bare, attention_mask=four_axes).logits
    assert (gap[:, :3].abs().amax(dim=-1) > 1e-4).all()
    # Padding on the left: hidden, and then its positions taken out as well.
    padded, real = (
        torch.tensor([[0, 0, 1, 2, 3, 4]]),
        torch.tensor([[0, 0, 1, 1, 1, 1]]),
    )
    hidden = model(padded, attention_mask=real).logits
    assert (hidden[:, -1] - logits[:, -1]).abs().max() > 0.01
    places = (real.cumsum(-1) - 1).clamp(min=0)
    placed = model(padded, attention_mask=real, position_ids=places).logits
    torch.testing.assert_close(placed[:, -1], logits[:, -1])


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        (torch.float64, 0.0, 1e-13),
        (torch.float32, 0.0, 1e-5),
        (torch.bfloat16, 0.005, 0.1),
    ],
)
def test_a_cache_differs_by_rounding(dtype, least, most):
    torch.manual_seed(0)
    config = Config(n_symbols=11, d_model=32, n_layers=4, n_heads=2)
    model = Decoder(config).to(dtype).eval()
    tokens = torch.randint(11, (1, 24))
    with torch.no_grad():
        cache = model.new_cache(24)
        steps = [model(tokens[:, i : i + 1], cache=cache) for i in range(24)]
        gap = (torch.cat(steps, dim=1) - model(tokens)).abs().max().item()
    assert least <= gap <= most

"""n-gram embeddings: looked up by hand, cut by the mask, equal with a cache."""

import pytest
import torch

from mattn import Config, Decoder, EncoderDecoder, causal, documents, full, window
from mattn.checks import influence, same
from mattn.embedding import NGrams, RecentTokens
from mattn.generation import Conditioned, beam_search, generate, log_probs

V = 11


def filled(module):
    for table in module.tables:
        torch.nn.init.normal_(table.weight)
    return module


def decoder(mask=causal, **options):
    given = {"n_symbols": V, "d_model": 16, "n_layers": 2, "n_heads": 2, "n_grams": 4}
    model = Decoder(Config(**given | {"n_gram_rows": 500} | options), mask).double()
    filled(model.n_grams)
    return model


def tokens(*shape):
    return torch.randint(V, shape)


def test_rows_by_hand():
    # V = 2: digits 0 (no token), 1, 2; a table for each of the 9 pairs, 27 triples.
    module = filled(NGrams(2, 3, 3, n_rows=100))
    pairs, triples = (table.weight for table in module.tables)
    assert (len(pairs), len(triples)) == (9, 27)
    out = module(torch.tensor([[1, 0, 1, 1]]), causal)[0]
    # Digits, the last token first: 2 . . | 1 2 . | 2 1 2 | 2 2 1
    same(out[0], pairs[6] + triples[18])
    same(out[1], pairs[5] + triples[15])
    same(out[2], pairs[7] + triples[23])
    same(out[3], pairs[8] + triples[25])


def test_hashed_rows_are_in_range_and_spread():
    module = NGrams(65, 2, 4, n_rows=1000)
    codes = torch.arange(20_000) * 66
    for n in (2, 3, 4):
        rows = module._row(codes, n, 1000)
        assert rows.min() >= 0
        assert rows.max() < 1000
        assert len(rows.unique()) == 1000
    model = Config(n_symbols=65, d_model=8, n_layers=1, n_heads=2, n_grams=4)
    assert model.n_gram_rows == 16_384


SIZES = [(255, 5), (127, 6), (65, 5), (31, 7), (1023, 4), (15, 9), (3, 17), (65535, 3)]


@pytest.mark.parametrize(("n_symbols", "n"), SIZES)
def test_no_symbol_of_an_n_gram_is_lost_in_its_hash(n_symbols, n):
    """At each place: other symbols in one place, the rest as it was."""
    module = NGrams(n_symbols, 1, n, n_rows=16_384)
    rows: list[torch.Tensor] = []
    for table in module.tables:
        table.register_forward_hook(lambda _, given, out: rows.append(given[0][:, -1]))
    some = torch.randperm(n_symbols)[:200]
    for place in range(n):
        rows.clear()
        grams = torch.randint(n_symbols, (1, n)).repeat(len(some), 1)
        grams[:, n - 1 - place] = some
        module(grams, causal)
        for length, row in enumerate(rows, start=2):
            if place >= length:  # before the n-gram begins
                assert len(row.unique()) == 1
            else:  # by chance about one pair in 16,384 shares a row
                shared = min(8, len(some) // 3)
                assert len(row.unique()) >= len(some) - shared, (length, place)


@pytest.mark.parametrize(("n_symbols", "n"), SIZES[:5])
def test_a_token_moves_what_its_n_grams_add(n_symbols, n):
    module = filled(NGrams(n_symbols, 4, n, n_rows=16_384))
    for table in module.tables[:-1]:
        torch.nn.init.zeros_(table.weight)
    x = torch.randint(n_symbols, (20, n))
    changed = x.clone()
    changed[:, -1] = (x[:, -1] + 1) % n_symbols
    moved = (module(x, causal) - module(changed, causal))[:, -1].abs().amax(-1) > 0
    assert moved.sum() >= 19


def test_parameters_are_counted_and_start_by_adding_nothing():
    config = decoder().config
    torch.manual_seed(0)
    model = Decoder(config)
    assert sum(p.numel() for p in model.parameters()) == config.n_parameters
    x = tokens(2, 7)
    before = model(x)
    model.n_grams = None
    same(before, model(x))


def test_the_mask_decides_what_an_n_gram_sees():
    x = tokens(2, 9)
    model = decoder()
    same(influence(lambda t: model(t[None])[0], x[0], n_symbols=V), causal.matrix(9))
    # Like one layer more: L(w − 1) + 1 positions with L = 3.
    model = decoder(causal & window(2))
    reach = influence(lambda t: model(t[None])[0], x[0], n_symbols=V)
    same(reach, (causal & window(4)).matrix(9))
    # An encoder sees everything; its n-grams still end with their token.
    model = decoder(full)
    assert influence(lambda t: model(t[None])[0], x[0], n_symbols=V).all()


def test_packed_documents_are_separate_documents():
    model, x = decoder(), tokens(2, 9)
    ids = torch.tensor([[0] * 4 + [1] * 5, [0] * 2 + [1] * 7])
    packed = model(x, mask=documents(ids))
    changed = x.clone()
    changed[0, :4] = (x[0, :4] + 1) % V
    changed[1, :2] = (x[1, :2] + 1) % V
    again = model(changed, mask=documents(ids))
    same(again[0, 4:], packed[0, 4:])
    same(again[1, 2:], packed[1, 2:])
    assert (again[0, :4] - packed[0, :4]).abs().min() > 0


@pytest.mark.parametrize("sizes", [[1] * 9, [4, 1, 1, 3], [9], [2, 7]])
def test_cached_is_uncached(sizes):
    model, x = decoder(), tokens(2, 9)
    cache = model.new_cache(9)
    chunks = [model(part, cache=cache) for part in x.split(sizes, dim=1)]
    same(torch.cat(chunks, dim=1), model(x))


@pytest.mark.parametrize("options", [{}, {"mask": causal & window(3)}, {"context": 8}])
def test_generated_text_is_that_of_each_prompt_alone(options):
    model, prompts = decoder(**options), [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    texts = generate(model, prompts, 12)
    assert texts == generate(model, prompts, 12, cached=False)
    if "context" not in options:  # there rows go on from the same column
        assert texts == [generate(model, [p], 12)[0] for p in prompts]


def test_beams_are_rescored():
    model, prompts = decoder(), [[1, 2, 3], [4]]
    for prompt, beams in zip(
        prompts, beam_search(model, prompts, 5, n_beams=3), strict=True
    ):
        for beam in beams:
            total = log_probs(model, prompt, beam.tokens).sum()
            assert abs(float(total) - beam.log_prob) < 1e-9


def test_encoder_decoder_with_a_cache():
    config = Config(n_symbols=V, d_model=16, n_layers=2, n_heads=2, n_grams=3)
    model = EncoderDecoder(config).double()
    filled(model.decoder.n_grams)
    given = Conditioned(model, tokens(2, 5))
    texts = generate(given, [[1], [1]], 6)
    assert texts == generate(given, [[1], [1]], 6, cached=False)


def test_recent_tokens():
    recent = RecentTokens(2)
    seen, at = recent.extend(torch.tensor([[7]]), torch.tensor([0]))
    assert (seen.tolist(), at.tolist()) == ([[0, 0, 7]], [-1, -1, 0])
    seen, at = recent.extend(torch.tensor([[8, 9]]), torch.tensor([1, 2]))
    assert (seen.tolist(), at.tolist()) == ([[0, 7, 8, 9]], [-1, 0, 1, 2])
    assert recent.length == 3


def test_recent_tokens_of_rows_that_have_read_none_change_places():
    recent = RecentTokens(2)
    recent.extend(*torch.zeros(2, 3, 0, dtype=torch.long))
    recent.reorder(torch.tensor([2, 0]))
    seen, at = recent.extend(torch.tensor([[7], [8]]), torch.tensor([[0], [-1]]))
    assert seen.tolist() == [[0, 0, 7], [0, 0, 8]]
    assert at.tolist() == [[-1, -1, 0], [-1, -1, -1]]


@pytest.mark.parametrize("wrong", [{"n_grams": 0}, {"n_gram_rows": 0}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        Config(n_symbols=V, d_model=16, n_layers=2, n_heads=2, **wrong)

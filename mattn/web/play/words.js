// The trained decoder behind the state: masks, next words, entropy, the cache, dice.
//
// A decoder is what mattn/web/decoder.js makes of the weights; mattn.pretrained reads
// the same bytes. tests/book/test_playground_model.py holds the numbers against Python.

const masksOf = (state) => [allowedOf(state, 0), allowedOf(state, 1)];

const looksBack = (masks) => masks.every((mask) =>
  mask.every((line, i) => !line.slice(i + 1).some(Boolean)));

// The shares of all words for one row of logits.
function shares(logits, temperature) {
  const most = Math.max(...logits);
  const sizes = Array.from(logits, (value) => Math.exp((value - most) / temperature));
  const total = sum(sizes);
  return sizes.map((size) => size / total);
}

const entropy = (p) => -sum(p.map((share) => (share ? share * Math.log(share) : 0)));

// One pass over all words; or, with a cache, one word after the other, each row of
// the mask cut off at its own word: what comes later has not been read yet.
function readWords(decoder, state, cached = false) {
  const { vocabulary } = decoder;
  const tokens = state.tokens.map((word) => vocabulary.indexOf(word));
  const masks = masksOf(state);
  if (!cached) return decoder.read(tokens, masks);
  const cache = decoder.empty();
  const T = tokens.length;
  const rows = tokens.map((token, i) => decoder.read([token],
    masks.map((mask) => [mask[i].slice(0, i + 1)]), cache));
  const full = (row) => [...row, ...range(T - row.length).map(() => 0)];
  return {
    logits: rows.map(({ logits }) => logits[0]),
    weights: masks.map((_, n) => rows[0].weights[n].map((_, h) =>
      rows.map(({ weights }) => full(weights[n][h][0])))),
  };
}

// The words after position i, the likeliest first.
function expected(decoder, logits, temperature) {
  const p = shares(logits, temperature);
  const words = p.map((share, w) => ({ word: decoder.vocabulary[w], p: share }));
  words.sort((a, b) => b.p - a.p);
  return { words, entropy: entropy(p) };
}

// A number in [0, 1) that hangs on seed and place alone (Mulberry32, T. Ettinger 2017).
function dice(seed, place) {
  let a = (Math.imul(seed, 0x9E3779B1) + Math.imul(place, 0x85EBCA6B) + 0x6D2B79F5) | 0;
  a = Math.imul(a ^ (a >>> 15), a | 1);
  a ^= a + Math.imul(a ^ (a >>> 7), a | 61);
  return ((a ^ (a >>> 14)) >>> 0) / 4294967296;
}

// The next word: the likeliest (seed 0), or one that is thrown.
function nextWord({ words }, seed, place) {
  if (!seed) return words[0].word;
  let left = dice(seed, place);
  return (words.find(({ p }) => (left -= p) < 0) ?? words[0]).word;
}

// How much the share of a word falls when one cell of a row is blocked, in both layers.
function hangsOn(decoder, state, row, word) {
  const at = decoder.vocabulary.indexOf(word);
  const share = (masks) => shares(decoder.read(
    state.tokens.map((token) => decoder.vocabulary.indexOf(token)), masks,
  ).logits[row], state.temperature)[at];
  const masks = masksOf(state);
  const now = share(masks);
  return state.tokens.map((_, j) => {
    if (!masks.some((mask) => mask[row][j])) return 0;
    return now - share(masks.map((mask) => mask.map((line, i) =>
      (i === row ? line.map((may, k) => may && k !== j) : line))));
  });
}

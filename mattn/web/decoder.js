// The book's decoder in a browser: from words and a mask to the next word.
//
// mattnDecoder(stored) takes what a file stories_*.js beside this one assigns to
// mattnStories, and returns { vocabulary, n_layers, empty, read }. The arithmetic is that of
// mattn.models.Decoder, in float64, on the stored float16 weights; it is written
// for the kind that is shipped: SwiGLU, normed queries and keys, one key head for
// each query head, a head of its own. tests/book/test_stories_model.py holds its logits
// against Python's, in Node and in Chromium.
globalThis.mattnDecoder = (stored) => {
  "use strict";

  const { config, vocabulary } = stored;
  const { n_heads: H, n_layers, norm_eps, rope_theta } = config;
  const W = {};
  const numbers = halves(stored.weights);
  let start = 0;
  for (const [name, shape] of stored.tensors) {
    const end = start + shape.reduce((a, b) => a * b);
    W[name] = numbers.subarray(start, end);
    start = end;
  }
  const D = config.d_model / H;
  const half = D / 2;
  const frequencies = Float64Array.from({ length: half }, (_, m) => rope_theta ** (-m / half));

  // The 16-bit floats of a text in base64, little end first.
  function halves(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
      const bits = view.getUint16(2 * i, true);
      const exponent = (bits >> 10) & 31;
      const fraction = (bits & 1023) / 1024;
      const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
      return bits >> 15 ? -size : size;
    });
  }

  // Each row of x times the matrix of this name, whose rows are the outputs.
  function linear(x, name) {
    const weights = W[name];
    return x.map((row) => {
      const n = row.length;
      const out = new Float64Array(weights.length / n);
      for (let o = 0, w = 0; o < out.length; o++) {
        let sum = 0;
        for (let c = 0; c < n; c++) sum += weights[w++] * row[c];
        out[o] = sum;
      }
      return out;
    });
  }

  function norm(row, gains) {
    const n = row.length;
    let squares = 0;
    for (let c = 0; c < n; c++) squares += row[c] * row[c];
    const scale = 1 / Math.sqrt(squares / n + norm_eps);
    const out = new Float64Array(n);
    for (let c = 0; c < n; c++) out[c] = row[c] * scale * gains[c];
    return out;
  }

  const normed = (x, name) => x.map((row) => norm(row, W[name]));
  const silu = (value) => value / (1 + Math.exp(-value));

  function add(x, y) {
    x.forEach((row, i) => {
      for (let c = 0; c < row.length; c++) row[c] += y[i][c];
    });
  }

  // Feature m and feature m + D/2 are a point, turned by position · θ^(−2m/D).
  function turned(head, position) {
    const out = new Float64Array(D);
    for (let m = 0; m < half; m++) {
      const angle = position * frequencies[m];
      const cos = Math.cos(angle), sin = Math.sin(angle);
      out[m] = head[m] * cos - head[m + half] * sin;
      out[m + half] = head[m + half] * cos + head[m] * sin;
    }
    return out;
  }

  // Softmax over what may be seen; the weights of an empty row are 0.
  function softmax(scores, allowed) {
    const most = Math.max(...scores.filter((_, j) => allowed[j]));
    const sizes = scores.map((s, j) => (allowed[j] ? Math.exp(s - most) : 0));
    const total = sizes.reduce((a, b) => a + b, 0);
    return sizes.map((size) => (total ? size / total : 0));
  }

  // What has been read so far: of each layer and head the keys and the values.
  const empty = () => ({ length: 0, kept: {} });

  // One layer of attention: its output, and weights[head][query][key]. The keys and
  // values of x are put after those that the cache has.
  function attend(x, layer, mask, { length, kept }) {
    const part = (name) => linear(x, `${layer}.${name}.weight`);
    const heads = (rows, h) => rows.map((row) => row.subarray(h * D, (h + 1) * D));
    const placed = (rows, name) => rows.map(
      (row, i) => turned(norm(row, W[`${layer}.${name}.weight`]), length + i));
    const [Q, K, V] = ["query", "key", "value"].map(part);
    const out = x.map((row) => new Float64Array(row.length));
    const weights = [];
    for (let h = 0; h < H; h++) {
      const q = placed(heads(Q, h), "query_norm");
      const { k, v } = (kept[`${layer}.${h}`] ??= { k: [], v: [] });
      k.push(...placed(heads(K, h), "key_norm"));
      v.push(...heads(V, h));
      weights.push(q.map((query, i) => {
        const scores = k.map((key) => {
          let sum = 0;
          for (let c = 0; c < D; c++) sum += query[c] * key[c];
          return sum / Math.sqrt(D);
        });
        const row = softmax(scores, mask[i]);
        row.forEach((weight, j) => {
          for (let c = 0; c < D; c++) out[i][h * D + c] += weight * v[j][c];
        });
        return row;
      }));
    }
    return { out: linear(out, `${layer}.output.weight`), weights };
  }

  // tokens: numbers of words; masks: one for each layer, mask[query][key], true =
  // may attend. Returns logits[position][word] and weights[layer][head][query][key].
  // With a cache the tokens follow those that it has, which it then has too; a mask
  // has a row for each new token and a column for each, old or new.
  function read(tokens, masks, cache = empty()) {
    const C = config.d_model;
    const weights = [];
    const x = tokens.map((t) => W["embedding.weight"].slice(t * C, (t + 1) * C));
    for (let n = 0; n < n_layers; n++) {
      const layer = `blocks.${n}`;
      const seen = attend(
        normed(x, `${layer}.attention_norm.weight`), `${layer}.attention`, masks[n],
        cache);
      weights.push(seen.weights);
      add(x, seen.out);
      const y = normed(x, `${layer}.mlp_norm.weight`);
      const gate = linear(y, `${layer}.mlp.gate.weight`);
      const up = linear(y, `${layer}.mlp.up.weight`);
      gate.forEach((row, i) => {
        for (let c = 0; c < row.length; c++) row[c] = silu(row[c]) * up[i][c];
      });
      add(x, linear(gate, `${layer}.mlp.down.weight`));
    }
    cache.length += tokens.length;
    return { logits: linear(normed(x, "norm.weight"), "head.weight"), weights };
  }

  return { vocabulary, n_layers, empty, read };
};

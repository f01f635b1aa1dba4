// The arithmetic of the widget with made-up numbers: masks, attention, decoding, audit.
//
// tests/package/test_playground.py holds it against mattn, in Node.

const MOST = 10; // tokens
const WIDTH = 4; // of embeddings, queries, keys and values
const MAPS = { // made by hand, as in playground.py
  q: [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
  k: [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]],
  v: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, -1]],
};

// The embedding of a token: a hash of its UTF-8 bytes (FNV-1a, 32 bits),
// stirred once for each feature, which is one of −1.5, −1, …, 1.5.
function embed(token) {
  let h = 2166136261;
  for (const byte of new TextEncoder().encode(token)) {
    h = Math.imul(h ^ byte, 16777619);
  }
  const x = [];
  for (let c = 1; c <= WIDTH; c++) {
    h = Math.imul(h ^ (h >>> 15) ^ c, 2654435761);
    x.push((((h >>> 16) % 7) - 3) / 2);
  }
  return x;
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const column = (matrix, j) => matrix.map((row) => row[j]);
const range = (n) => Array.from({ length: n }, (_, i) => i);
const sum = (values) => values.reduce((a, b) => a + b, 0);

function project(tokens) {
  const x = tokens.map(embed);
  const times = (map) =>
    x.map((row) => range(WIDTH).map((j) => dot(row, column(map, j))));
  return { q: times(MAPS.q), k: times(MAPS.k), v: times(MAPS.v) };
}

// May query position q see key position k? n is the number of the rule.
const RULES = {
  causal: (q, k) => k <= q,
  full: () => true,
  window: (q, k, n) => k <= q && q - k < n,
  prefix: (q, k, n) => k <= q || k < n,
  padding: (q, k, n) => k <= q && k < n,
  documents: (q, k, n) => k <= q && q < n === k < n,
};
const NUMBERS = { // what n means, and where it starts
  window: ["keys in the window", 3],
  prefix: ["tokens in the prefix", 2],
  padding: ["tokens that are not padding", 4],
  documents: ["second document starts at", 3],
};

const matrix = (rule, T, n) =>
  range(T).map((q) => range(T).map((k) => RULES[rule](q, k, n)));

function expression(rule, T, n) {
  switch (rule) {
    case "window": return `causal & window(${n})`;
    case "prefix": return `causal | prefix(${n})`;
    case "padding": return `causal & padding([${n}])`;
    case "documents":
      return `causal & documents([${range(T).map((i) => +(i >= n)).join(", ")}])`;
    default: return rule;
  }
}

// One query over its keys: score → mask → exp → ÷ sum, and the output.
// late: the wrong order, softmax of all scores and blocked weights zeroed.
function attend(query, keys, values, allowed, temperature, late) {
  const scores = keys.map(
    (key) => dot(query, key) / Math.sqrt(query.length) / temperature,
  );
  const read = scores.map((_, j) => late || allowed[j]);
  const maximum = Math.max(...scores.filter((_, j) => read[j]));
  const exp = scores.map((s, j) => (read[j] ? Math.exp(s - maximum) : 0));
  const total = sum(exp);
  const shares = exp.map((e) => (total === 0 ? 0 : e / total));
  const weights = shares.map((share, j) => (allowed[j] ? share : 0));
  const out = range(values[0].length).map((c) => dot(weights, column(values, c)));
  return { scores, maximum, exp, total, shares, weights, out };
}

// problem: {q, k, v, allowed, temperature, late}
const attention = ({ q, k, v, allowed, temperature = 1, late = false }) =>
  q.map((query, i) => attend(query, k, v, allowed[i], temperature, late));

// What a row that sees nothing becomes: by −∞, by large negative numbers
// filled in or added, and by mattn.
function emptyRow(scores) {
  const softmax = (s) => {
    const exp = s.map((value) => Math.exp(value - Math.max(...s)));
    return exp.map((e) => e / sum(exp));
  };
  return {
    infinite: softmax(scores.map(() => -Infinity)),
    filled: softmax(scores.map(() => -1e9)),
    added: softmax(scores.map((s) => s - 1e4)),
    mattn: scores.map(() => 0),
  };
}

// Decoding with a cache: query i finds the keys 0 … i and no others yet.
const decode = ({ q, k, v, allowed, temperature = 1, late = false }) =>
  q.map((query, i) => {
    const seen = [k, v, allowed[i]].map((rows) => rows.slice(0, i + 1));
    return attend(query, ...seen, temperature, late);
  });

// Multiplications of step t = 1, 2, …, in vector-matrix products: the three
// maps (width is that of the embedding; 0: not counted), scores, outputs.
function multiplications(t, D, Dv, width) {
  const maps = width * (2 * D + Dv);
  return { cached: maps + t * (D + Dv), anew: t * maps + t * t * (D + Dv) };
}

// Change one token, from the last to the second, in three ways each; which
// outputs moved at all? Stops at the first that an earlier output feels.
function audit(problem, changed) {
  const before = attention(problem);
  let found = null;
  for (let j = problem.q.length - 1; j > 0; j--) {
    const moved = before.map(() => false);
    for (let attempt = 0; attempt < 3; attempt++) {
      attention({ ...problem, ...changed(j, attempt) }).forEach((row, i) => {
        moved[i] ||= row.out.some((value, c) => value !== before[i].out[c]);
      });
    }
    const leaks = range(j).filter((i) => moved[i]);
    found ??= { token: j, moved, leaks };
    if (leaks.length) return { token: j, moved, leaks };
  }
  return found;
}

// What an audit puts in place of token j: another word, or, where q, k and v
// are the reader's own, the same rows plus the maps of a word.
function change(problem, tokens, own) {
  return (j, attempt) => {
    const word = ["dog", "cow", "hen", "fox"].filter((w) => w !== tokens[j])[attempt];
    const put = project([word]);
    const replaced = {};
    for (const name of ["q", "k", "v"]) {
      replaced[name] = problem[name].map((row, i) =>
        i !== j ? row : own
          ? row.map((value, c) => value + 1 + put[name][0][c % WIDTH] / 8)
          : put[name][0],
      );
    }
    return replaced;
  };
}

// The mask playground: change a mask and see what masked self-attention does.
//
// Written by book/play/join.py from the scripts in book/play, in this order; change
// those. First the arithmetic, without a page (Node reads it as a module), then the
// page. Elements <div class="mattn-playground" data-config="…">, as written by
// mattn.playground, come to life; what stands inside them is for readers without
// scripts. Rows are queries, columns are keys, true = may attend.
"use strict";
(() => {

// Numbers and lists as they are read: seen wherever a page is read.

const minus = (text) => text.replace("-", "−");
function number(value, digits) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const text = value.toFixed(digits);
  return minus(+text === 0 ? text.replace("-", "") : text);
}
const vector = (values) => {
  const shown = values.slice(0, 4).map((value) => number(value, 2));
  return `(${shown.join(", ")}${values.length > 4 ? ", …" : ""})`;
};
const thousands = (n) => `${n}`.replace(/\B(?=(\d{3})+$)/g, " ");
const list = (items) =>
  items.length < 2 ? `${items}` : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
const several = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
// A share of 1 with three digits; what is nearly all or nearly nothing says so.
const shared = (p) => (p < 0.001 ? "< 0.001" : p > 0.999 ? "> 0.999" : p.toFixed(3));

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

// The state: what the reader chose, edits, undo and redo, and addresses that hold it.
//
// Nothing here knows of a page. tests/package/test_playground.py and
// test_playground_state.py read these functions in Node.
const VIEWS = ["weights", "scores", "rule"];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const split = (text, most = MOST) => text.split(/\s+/u).filter(Boolean).slice(0, most);
const NONE = { flips: [], flips1: [], flips2: [] };
const STORY = ("<start> tom lived on a hill . one morning he found nine shells by the sea . " +
  "at last tom counted the shells again . there were still").split(" ");
const MOST_READ = 48; // words that the model reads, the first of them <start>
const mostOf = (state) => (state.mode === "model" ? MOST_READ : MOST);

// The state that Python's configuration asks for.
function initial(config) {
  const T = config.tokens.length;
  const wanted = config.allowed.map((row) => [...row].map((c) => c === "1"));
  const differs = (allowed) =>
    range(T * T).filter((c) => allowed[(c / T) | 0][c % T] !== wanted[(c / T) | 0][c % T]);
  let best = { preset: "causal", n: 1, flips: differs(matrix("causal", T, 1)) };
  for (const preset of Object.keys(RULES)) {
    for (const n of preset in NUMBERS ? range(T).map((i) => i + 1) : [1]) {
      const flips = differs(matrix(preset, T, n));
      if (!flips.length && best.flips.length) best = { preset, n, flips };
    }
  }
  return {
    tokens: config.tokens, ...NONE, ...best, temperature: 1, late: false,
    view: "weights", row: clamp(config.query, 0, T - 1), step: 0, audit: false,
    mode: "hash", layer: "both", head: 0, seed: 0, cached: true, goal: 0, kept: {},
  };
}

// Where a mode starts: "hash" as Python asks, "model" with the story of the first page.
const startIn = (start, mode) => (mode === start.mode ? start : {
  ...start, ...NONE, mode, tokens: STORY, preset: "causal", n: 1, view: "weights",
  row: STORY.length - 1, late: false,
});

// The mask of layer 0 or 1. Cells of flips are changed in both layers, those of flips1
// in the first alone, of flips2 in the second; no cell is in two of the three.
function allowedOf({ tokens, preset, n, ...edits }, layer = 0) {
  const T = tokens.length;
  const allowed = matrix(preset, T, n);
  for (const c of [...edits.flips, ...(layer ? edits.flips2 : edits.flips1)]) {
    allowed[(c / T) | 0][c % T] = !allowed[(c / T) | 0][c % T];
  }
  return allowed;
}

const nEdits = ({ flips, flips1, flips2 }) => flips.length + flips1.length + flips2.length;

// The edits after cells [i, j] were allowed or blocked, in the layers that are edited.
function put(state, cells, value) {
  const T = state.tokens.length;
  const base = matrix(state.preset, T, state.n);
  const sets = ["flips", "flips1", "flips2"].map((name) => new Set(state[name]));
  const layers = state.layer === "both" ? [0, 1] : [state.layer - 1];
  for (const [i, j] of cells) {
    const c = i * T + j;
    const changed = [1, 2].map((s) => sets[0].has(c) || sets[s].has(c));
    for (const layer of layers) changed[layer] = value !== base[i][j];
    sets.forEach((set) => set.delete(c));
    if (changed[0] && changed[1]) sets[0].add(c);
    else if (changed[0] || changed[1]) sets[changed[0] ? 1 : 2].add(c);
  }
  const [flips, flips1, flips2] = sets.map((set) => [...set].sort((a, b) => a - b));
  return { flips, flips1, flips2 };
}

// Another mask, another length, another mode: edits stay with what they were made on,
// and those made there before are back.
function moved(state, changes) {
  const place = ({ mode, preset, n, tokens }) => `${mode} ${preset} ${n} ${tokens.length}`;
  const [from, to] = [place(state), place({ ...state, ...changes })];
  if (from === to) return changes;
  const { flips, flips1, flips2, kept } = state;
  const { [to]: back = NONE, ...others } = kept;
  const aside = nEdits(state) ? { [from]: { flips, flips1, flips2 } } : {};
  return { ...changes, ...back, kept: { ...others, ...aside } };
}

// Undo and redo: states before a change, at most so many; changes of one stroke, of
// one text that is typed, are one.
const LASTING = ["tokens", "preset", "n", "flips", "flips1", "flips2", "temperature",
  "late", "mode", "goal"];
function timeline(most = 200) {
  let [past, future, stroke] = [[], [], null];
  const go = (from, to, state) => {
    if (!from.length) return null;
    const { state: there, what } = from.pop();
    to.push({ state, what });
    stroke = null;
    return { state: there, what };
  };
  return {
    record(before, after, what, ofStroke = null) {
      if (LASTING.every((key) => `${before[key]}` === `${after[key]}`)) return;
      if (ofStroke === null || ofStroke !== stroke) {
        past.push({ state: before, what });
        if (past.length > most) past.shift();
      }
      stroke = ofStroke;
      future = [];
    },
    undo: (state) => go(past, future, state),
    redo: (state) => go(future, past, state),
    get depth() { return [past.length, future.length]; },
  };
}

function problemOf(state, own) {
  const { temperature, late } = state;
  return { ...(own ?? project(state.tokens)), allowed: allowedOf(state), temperature, late };
}

const KEYS = { // in an address → in the state
  s: "tokens", m: "preset", n: "n", x: "flips", t: "temperature", late: "late",
  show: "view", row: "row", step: "step", audit: "audit", x1: "flips1", x2: "flips2",
  layer: "layer", head: "head", seed: "seed", cache: "cached", goal: "goal",
};
const SETS = ["flips", "flips1", "flips2"];

// Cells as an address has them: 3.7-11.20 is 3, 7 to 11, 20.
function toCells(list) {
  const runs = [];
  for (const c of list) {
    if (runs.length && runs.at(-1)[1] === c - 1) runs.at(-1)[1] = c;
    else runs.push([c, c]);
  }
  return runs.map(([a, b]) => (b - a > 1 ? `${a}-${b}` : range(b - a + 1).map((c) => a + c)
    .join("."))).join(".");
}

function fromCells(text, limit) {
  const cells = text.split(".").flatMap((part) => {
    const [, a, b] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (a === undefined) return [];
    const last = Math.min(+(b ?? a), limit - 1);
    return range(Math.max(0, last - a + 1)).map((c) => +a + c);
  });
  return [...new Set(cells)].sort((a, b) => a - b);
}

// What differs from the start, as a query string.
function toAddress(state, hash) {
  const parts = new URLSearchParams();
  const start = startIn(hash, state.mode);
  if (state.mode !== hash.mode) parts.set("w", state.mode);
  for (const [short, key] of Object.entries(KEYS)) {
    const [now, then] = [state[key], start[key]].map((value) =>
      SETS.includes(key) ? toCells(value) : key === "tokens" ? value.join(" ") : `${value}`);
    const needed = key === "n" && state.preset !== start.preset && state.preset in NUMBERS;
    if (now !== then || needed) parts.set(short, now);
  }
  return `${parts}`;
}

// The state of an address; what it does not say, or says wrongly, is as at the start.
function fromAddress(text, hash, own) {
  const parts = new URLSearchParams(text);
  const start = startIn(hash, parts.get("w") === "model" ? "model" : hash.mode);
  const state = { ...start };
  const whole = (short, low, high, otherwise) => {
    const value = parts.get(short);
    return /^\d{1,4}$/.test(value ?? "") ? clamp(+value, low, high) : otherwise;
  };
  if (parts.has("s") && (!own || state.mode === "model")) {
    const tokens = split(parts.get("s"), mostOf(state));
    if (tokens.length) state.tokens = tokens;
  }
  if (state.mode === "model" && state.tokens[0] !== "<start>") {
    state.tokens = ["<start>", ...state.tokens].slice(0, MOST_READ);
  }
  const T = state.tokens.length;
  const asked = parts.get("m");
  if (asked !== null && Object.hasOwn(RULES, asked)) {
    state.preset = asked;
    state.n = NUMBERS[asked]?.[1] ?? 1;
  }
  state.n = state.preset in NUMBERS ? whole("n", 1, T, clamp(state.n, 1, T)) : 1;
  if (["x", "x1", "x2"].some((short) => parts.has(short))) {
    const given = ["x", "x1", "x2"].map((short) => fromCells(parts.get(short) ?? "", T * T));
    const sets = state.mode === "model" ? given : [given[0], [], []];
    const taken = new Set();
    SETS.forEach((name, s) => {
      state[name] = sets[s].filter((c) => !taken.has(c));
      sets[s].forEach((c) => taken.add(c));
    });
  } else if (T !== start.tokens.length || state.preset !== start.preset || state.n !== start.n) {
    Object.assign(state, NONE);
  }
  const temperature = parts.get("t");
  if (/^\d(\.\d)?$/.test(temperature ?? "")) {
    state.temperature = clamp(+temperature, 0.2, 4);
  }
  for (const [short, key] of [["late", "late"], ["audit", "audit"], ["cache", "cached"]]) {
    if (parts.has(short)) state[key] = parts.get(short) === "true";
  }
  if (["1", "2"].includes(parts.get("layer"))) state.layer = parts.get("layer");
  state.head = whole("head", 0, 3, 0);
  state.seed = whole("seed", 0, 9999, 0);
  state.goal = whole("goal", 0, 6, 0);
  if (VIEWS.includes(parts.get("show"))) state.view = parts.get("show");
  state.row = clamp(whole("row", 0, T - 1, state.row), 0, T - 1);
  state.step = whole("step", 0, T, 0);
  return state;
}

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

// Six puzzles. Each has where it starts, a judge that reads the numbers, and a par: the
// fewest that do it, of what the puzzle counts.
//
// tests/package/test_playground_puzzles.py proves every par by trying all that is less.

const STORY_OF = (text) => ["<start>", ...text.split(" ")];
const NAMES = ["anna", "boris", "clara", "david", "emil", "greta", "ida", "mina", "oskar",
  "paul", "ruth", "tom"];

// Cells in which the state differs from a rule, in any layer.
function nDifferent(state, rule, n = 1) {
  const base = matrix(rule, state.tokens.length, n);
  const masks = masksOf(state);
  return sum(base.map((row, i) =>
    row.filter((may, j) => masks.some((mask) => mask[i][j] !== may)).length));
}

const lastWords = (decoder, state) => expected(decoder,
  readWords(decoder, state).logits.at(-1), 1).words;
const shareOf = (words, word) => words.find((each) => each.word === word)?.p ?? 0;

// Mean loss of a text under the state's masks, in nats a word.
function meanLoss(decoder, state) {
  const { logits } = readWords(decoder, state);
  return sum(state.tokens.slice(1).map((word, i) =>
    -Math.log(shares(logits[i], 1)[decoder.vocabulary.indexOf(word)]))) /
    (state.tokens.length - 1);
}

function forgets(words, right) {
  const p = shareOf(words, right);
  return { solved: p < 0.01 && words[0].word !== right,
    says: `It says “${words[0].word}”, ${shared(words[0].p)}; ` +
      `“${right}” has ${shared(p)}.` };
}

const PUZZLES = [
  {
    name: "Copy the previous word",
    ask: "Make every output but the first exactly the value of the word before: " +
      "output i = value i − 1. It starts with a window of two.",
    start: { mode: "hash", tokens: "the cats on the mat sleep".split(" "),
      preset: "window", n: 2 },
    par: 5, unit: "cell",
    judge(state) {
      const problem = problemOf({ ...state, temperature: 1, late: false });
      const wrong = attention(problem).map(({ out }, i) => i).filter((i) => i > 0 &&
        attend(problem.q[i], problem.k, problem.v, problem.allowed[i], 1).out
          .some((x, c) => Math.abs(x - problem.v[i - 1][c]) > 1e-9));
      return { score: nDifferent(state, "window", 2), solved: !wrong.length,
        says: wrong.length ? `Not copied yet: ${several(wrong.length, "output")}.`
          : "All five outputs are copies." };
    },
  },
  {
    name: "Make it forget",
    ask: "The model knows that there were nine shells. Block as few cells as you can, " +
      "so that “nine” falls below 0.01.",
    start: { mode: "model", tokens: STORY, preset: "causal", n: 1 },
    par: 1, unit: "cell",
    judge: (state, { covered }) => ({ score: nDifferent(state, "causal"),
      ...forgets(lastWords(covered, state), "nine") }),
  },
  {
    name: "The shortest memory",
    ask: "Choose window, and make it as small as you can while “nine” keeps more than " +
      "0.9. No cell is changed by hand.",
    start: { mode: "model", tokens: STORY, preset: "window", n: 20 },
    par: 17, unit: "word",
    judge(state, { covered }) {
      const p = shareOf(lastWords(covered, state), "nine");
      const fair = state.preset === "window" && !nEdits(state);
      return { score: state.n, solved: fair && p > 0.9,
        says: fair ? `“nine” has ${shared(p)}.` : "Only a window counts here." };
    },
  },
  {
    name: "The peep",
    ask: "This model is the twin that learned without a cover. Covered, it is lost. " +
      "Allow one cell above the diagonal that lowers its mean loss by more than 0.35 nats.",
    start: { mode: "model", tokens: [...STORY, "nine", ".", "<end>"],
      preset: "causal", n: 1 },
    par: 1, unit: "cell", twin: true,
    judge(state, { uncovered }) {
      const loss = meanLoss(uncovered, state);
      const gain = meanLoss(uncovered, { ...state, ...NONE, preset: "causal" }) - loss;
      return { score: nDifferent(state, "causal"), solved: gain > 0.35,
        says: `Loss ${number(loss, 3)} nats a word, ${number(gain, 3)} less than covered.` };
    },
  },
  {
    name: "Which layer looks?",
    ask: "Make it forget “four”, and change cells in one layer only.",
    start: { mode: "model", preset: "causal", n: 1, layer: "2",
      tokens: STORY_OF("anna lived near a mill . one night she found four buttons in the " +
        "forest . at last anna counted the buttons again . there were still") },
    par: 1, unit: "cell",
    judge(state, { covered }) {
      const { solved, says } = forgets(lastWords(covered, state), "four");
      const one = !state.flips.length && !(state.flips1.length && state.flips2.length);
      return { score: nDifferent(state, "causal"), solved: solved && one,
        says: one ? says : `${says} Cells of both layers are changed.` };
    },
  },
  {
    name: "Change the story",
    ask: "At last somebody counts the shells, and it is tom. Block as few cells as you " +
      "can, so that another person is the likeliest word. No word may look ahead.",
    start: { mode: "model", tokens: STORY.slice(0, 19), preset: "causal", n: 1 },
    par: 2, unit: "cell",
    judge(state, { covered }) {
      const [{ word, p }] = lastWords(covered, state);
      return { score: nDifferent(state, "causal"),
        solved: word !== "tom" && NAMES.includes(word) && looksBack(masksOf(state)),
        says: `It says “${word}”, ${shared(p)}.` +
          (looksBack(masksOf(state)) ? "" : " A word looks ahead.") };
    },
  },
];

// The verdict on a state, or null while its models are not there.
function verdict(state, decoders) {
  const puzzle = PUZZLES[state.goal - 1];
  if (!puzzle) return null;
  const { mode, tokens } = puzzle.start;
  if (state.mode !== mode || state.tokens.join(" ") !== tokens.join(" ")) {
    return { score: 0, solved: false, par: puzzle.par, says: "This puzzle has a text of " +
      "its own: choose it again to play it." };
  }
  if (mode === "model" && !decoders[puzzle.twin ? "uncovered" : "covered"]) return null;
  return { par: puzzle.par, ...puzzle.judge(state, decoders) };
}

// A state as others can have it: as mattn code that prints the numbers of the page, and
// as a picture. tests/package/test_playground_share.py runs the code and reads the SVG.

const quoted = (words) => JSON.stringify(words.join(" "));

// "mask[[1, 2], [3, 4]] ^= True" for the cells of a list.
function changedCells(name, cells, T) {
  if (!cells.length) return [];
  const part = (of) => `[${cells.map(of).join(", ")}]`;
  return [`${name}[${part((c) => (c / T) | 0)}, ${part((c) => c % T)}] ^= True  # by hand`];
}

function maskCode(state) {
  const T = state.tokens.length;
  const rule = expression(state.preset, T, state.n);
  return [
    `mask = (${rule}).matrix(${T}).reshape(${T}, ${T})`,
    ...changedCells("mask", state.flips, T),
  ];
}

const rulesIn = (state) => [...new Set(
  expression(state.preset, state.tokens.length, state.n).match(/[a-z]+/g))];

// Python for the weights of the chosen row, with 6 digits.
function attentionCode(state, own) {
  const names = ["attention", ...rulesIn(state)].sort();
  const tensors = own && ["q", "k", "v"].map((name) =>
    `${name} = torch.tensor(${JSON.stringify(own[name])}, dtype=torch.float64)`);
  const heated = state.temperature === 1 ? "q" : `q / ${state.temperature}`;
  return [
    "import torch", `from mattn import ${names.join(", ")}`,
    ...(own ? [] : ["from mattn.playground import project"]), "",
    ...(own ? tensors : [`tokens = ${quoted(state.tokens)}.split()`,
      "q, k, v = project(tokens).values()"]),
    ...maskCode(state),
    ...(state.late
      ? [`scores = ${heated} @ k.T / q.shape[1] ** 0.5`,
        "weights = scores.softmax(dim=-1) * mask  # too late", "out = weights @ v"]
      : [`out, weights = attention(${heated}, k, v, mask)`]),
    `print([f"{w:.6f}" for w in weights[${state.row}].tolist()])`, "",
  ].join("\n");
}

// Python for the five likeliest words after the chosen row, with 6 digits.
function modelCode(state, twin) {
  const T = state.tokens.length;
  const names = [...rulesIn(state), "rule"].sort();
  return [
    "import torch", `from mattn import ${names.join(", ")}`,
    "from mattn.data import stories", "from mattn.pretrained import stories_model", "",
    `words = ${quoted(state.tokens)}.split()`,
    'vocabulary = [*stories().vocabulary, "<start>"]',
    "tokens = torch.tensor([[vocabulary.index(word) for word in words]])",
    ...maskCode(state), "layers = [mask, mask.clone()]",
    ...changedCells("layers[0]", state.flips1, T),
    ...changedCells("layers[1]", state.flips2, T),
    `model = stories_model(${twin ? "covered=False, " : ""}dtype=torch.float64)`,
    'model.mask = [rule(lambda b, q, k, m=m: m[q, k], name="mine") for m in layers]',
    "with torch.no_grad():", `    logits = model(tokens)[0, ${state.row}]`,
    `p, words = (logits / ${state.temperature}).softmax(dim=-1).topk(5)`,
    "for n, share in zip(words.tolist(), p.tolist()):",
    '    print(vocabulary[n], f"{share:.6f}")', "",
  ].join("\n");
}

const codeOf = (state, own, twin = false) =>
  (state.mode === "model" ? modelCode(state, twin) : attentionCode(state, own));

const escaped = (text) => `${text}`.replace(/[&<>"]/g, (c) =>
  ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// The cells of one row of a map as few rectangles: [from, length, what] of equal cells.
function runsOf(row) {
  const runs = [];
  row.forEach((what, j) => {
    if (runs.length && runs.at(-1)[2] === what) runs.at(-1)[1]++;
    else runs.push([j, 1, what]);
  });
  return runs;
}

// A picture of a state: the mask, the words beside it, bars of words or weights.
// bars: [[word, share], …].
function pictureOf(state, bars, caption) {
  const T = state.tokens.length;
  const side = clamp(Math.floor(320 / T), 8, 28);
  const [left, top, font] = [120, 92, Math.min(14, Math.max(8, side - 1))];
  const [width, height] = [left + T * side + 300, Math.max(top + T * side, 280) + 30];
  const allowed = allowedOf(state);
  const marks = allowed.flatMap((row, i) => runsOf(row).map(([j, n, may]) =>
    `<rect x="${left + j * side}" y="${top + i * side}" width="${n * side - 1}" height="${
      side - 1}" fill="${may ? "#0072B2" : "url(#blocked)"}"/>`));
  const words = state.tokens.flatMap((word, i) => [
    `<text x="${left - 6}" y="${top + i * side + side * 0.75}" text-anchor="end">${
      escaped(word)}</text>`,
    `<text transform="translate(${left + i * side + side * 0.7} ${top - 6}) rotate(-60)">${
      escaped(word)}</text>`]);
  const x = left + T * side + 30;
  const drawn = bars.slice(0, 8).flatMap(([word, share], i) => [
    `<text x="${x}" y="${top + 20 + i * 26}" font-size="14">${escaped(word)}</text>`,
    `<rect x="${x + 90}" y="${top + 8 + i * 26}" width="${(share * 110).toFixed(1)
    }" height="15" fill="#0072B2"/>`,
    `<text x="${x + 96 + share * 110}" y="${top + 20 + i * 26}" font-size="14">${
      number(share, 3)}</text>`]);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" role="img" font-family="sans-serif" ` +
    `font-size="${font}"><title>${escaped(caption)}</title><defs><pattern id="blocked" ` +
    'width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">' +
    '<rect width="6" height="6" fill="#D9D9D9"/><rect width="6" height="1" fill="#A6A6A6"/>' +
    `</pattern></defs><rect width="${width}" height="${height}" fill="#fff"/>` +
    `<text x="12" y="22" font-size="15">${escaped(caption)}</text>${words.join("")}` +
    `${marks.join("")}<rect x="${left - 1}" y="${top + state.row * side - 1}" width="${
      T * side + 1}" height="${side + 1}" fill="none" stroke="#E69F00" stroke-width="2.5"/>` +
    `${drawn.join("")}</svg>`;
}

// Colours of weights and scores, those of the figures: tests/package/test_playground.py.

const HUE = ("fefefe" + "0071b1").match(/.{6}/g);
const PUOR = (
  "7f3b08b25706e08214fcb761fee0b6f6f6f7d8daebb1aad18073ac5326872d004b"
).match(/.{6}/g);

// The colour at 0 … 1 of a map, between its two nearest stops, and its ink.
function colour(stops, at) {
  const x = clamp(at, 0, 1) * (stops.length - 1);
  const i = Math.min(Math.floor(x), stops.length - 2);
  const rgb = [0, 2, 4].map((c) => {
    const [a, b] = [stops[i], stops[i + 1]].map((s) => parseInt(s.slice(c, c + 2), 16));
    return Math.round(a + (b - a) * (x - i));
  });
  const linear = rgb.map((c) => (c / 255) ** 2.2);
  const dark = dot(linear, [0.2126, 0.7152, 0.0722]) < 0.18;
  return { fill: `rgb(${rgb.join(", ")})`, ink: dark ? "#fff" : "#000" };
}

const core = { HUE, KEYS, LASTING, MAPS, MOST, MOST_READ, NAMES, NONE, NUMBERS, PUOR, PUZZLES, RULES, SETS, STORY, STORY_OF, VIEWS, WIDTH, allowedOf, attend, attention, attentionCode, audit, change, changedCells, clamp, codeOf, colour, column, decode, dice, dot, embed, emptyRow, entropy, escaped, expected, expression, forgets, fromAddress, fromCells, hangsOn, initial, lastWords, list, looksBack, maskCode, masksOf, matrix, meanLoss, minus, modelCode, mostOf, moved, multiplications, nDifferent, nEdits, nextWord, number, pictureOf, problemOf, project, put, quoted, range, readWords, rulesIn, runsOf, several, shareOf, shared, shares, split, startIn, sum, thousands, timeline, toAddress, toCells, vector, verdict };

if (typeof module === "object" && module.exports) module.exports = core;
if (typeof document === "undefined") return;

const STYLE = `
:host { display: block; contain: inline-size; }
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
section {
  --line: color-mix(in srgb, currentColor 28%, transparent);
  --faint: color-mix(in srgb, currentColor 70%, transparent);
  --wash: color-mix(in srgb, currentColor 5%, transparent);
  --allowed: #0072B2; --blocked: #D9D9D9; --leak: #D55E00; --query: #E69F00;
  container-type: inline-size;
  font-size: 0.9375rem; line-height: 1.45;
  border: 1px solid var(--line); border-radius: 0.5rem; overflow: hidden;
}
:host([data-dark]) section { color-scheme: dark; }
p, h3, fieldset, table, figure { margin: 0; padding: 0; border: 0; }
code { font: 0.92em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
small, .note, caption, legend, .label { font-size: 0.8125rem; color: var(--faint); }
.controls, .board, .bar, details { padding: 0.8rem 1rem; }
.controls { background: var(--wash); display: grid; gap: 0.7rem; }
.controls > div { display: flex; flex-wrap: wrap; gap: 0.7rem 1.6rem; align-items: end; }
.controls > *, .controls fieldset { min-width: 0; }
.sentence { flex: 1 1 100%; }
.sentence input { width: 100%; }
.label, legend { display: block; padding: 0; margin-bottom: 0.15rem; }
input[type="text"], input[type="number"] {
  font: inherit; color: inherit; background: transparent; min-height: 2.1rem;
  border: 1px solid var(--line); border-radius: 0.3rem; padding: 0.2rem 0.5rem; }
input[type="number"] { width: 4.2rem; }
input[readonly] { border-style: dashed; }
input[type="checkbox"] { accent-color: var(--allowed); width: 1.05rem; height: 1.05rem;
  margin: 0 0.4rem 0 0; vertical-align: -0.15rem; }
input[type="range"] { accent-color: var(--allowed); width: 9rem; margin: 0;
  vertical-align: middle; min-height: 2.1rem; }
.pills { display: inline-flex; flex-wrap: wrap; gap: 0.3rem; }
.pills label { position: relative; cursor: pointer; }
.pills input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
  opacity: 0; cursor: pointer; }
.pills span, button {
  display: inline-block; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: 0.3rem; padding: 0.25rem 0.65rem;
  min-height: 2.1rem; cursor: pointer; }
.pills input:checked + span { background: var(--allowed); border-color: var(--allowed);
  color: #fff; }
.pills input:hover + span, button:hover:enabled { border-color: currentColor; }
button:disabled { opacity: 0.45; cursor: default; }
.switch { display: flex; align-items: center; min-height: 2.1rem; cursor: pointer; }
.sentence input:focus-visible, .number input:focus-visible, .pills input:focus-visible + span,
input[type="range"]:focus-visible, input[type="checkbox"]:focus-visible,
button:focus-visible, summary:focus-visible {
  outline: 2px solid var(--query); outline-offset: 2px; }
.board { display: flex; flex-wrap: wrap; gap: 1.1rem 1.4rem; align-items: flex-start; }
.map { flex: 0 1 auto; min-width: 0; max-width: 100%; }
/* Beside the map only where its table fits, whatever the font; else below it. */
.work { flex: 1 1 max-content; min-width: 0; max-width: 36rem; }
.work > p { width: 0; min-width: 100%; }
.rule { margin-bottom: 0.5rem; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 0.35rem; caption-side: top; }
th { font-weight: 400; }
.grid { --side: clamp(1.5rem, calc((100cqi - 10.4rem) / var(--n)), 2.4rem);
  border-spacing: 2px; margin-left: -2px; }
.grid caption { padding-left: 2px; width: 0; min-width: 100%; }
.grid th { padding: 0 0.3rem; white-space: nowrap; }
.grid thead th { vertical-align: bottom; width: var(--side); min-width: var(--side);
  max-width: var(--side); padding: 0 0 0.15rem; text-align: center; }
.grid thead th:first-child, .grid thead th.extra { width: auto; min-width: 0;
  max-width: none; padding: 0 0.3rem 0.15rem; }
.grid thead th:first-child { font-size: 0.6875rem; color: var(--faint); line-height: 1.3;
  text-align: right; }
.grid thead b, .grid tbody th b { display: block; font-weight: 400; overflow: hidden;
  text-overflow: ellipsis; }
.grid.tall thead th[data-key] b { writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 5.5rem; margin: 0 auto; }
.grid tbody th { text-align: right; cursor: pointer; }
.grid tbody th b { display: inline-block; max-width: 4.3rem; vertical-align: bottom; }
.grid th i { font-style: normal; font-size: 0.6875rem; color: var(--faint); }
.grid tbody th i { margin-right: 0.35rem; }
.grid thead th i { display: block; line-height: 1.2; }
.cell { width: var(--side); min-width: var(--side); height: clamp(1.75rem, var(--side), 2.3rem); padding: 0;
  text-align: center; cursor: pointer; user-select: none; line-height: 1;
  font-size: clamp(0.625rem, calc(var(--side) * 0.33), 0.875rem);
  border-radius: 2px; forced-color-adjust: none; }
.blocked { color: #000; background: var(--blocked) repeating-linear-gradient(
  -45deg, transparent 0 4px, #A6A6A6 4px 5px); }
.later { background: none; border: 1px dashed var(--line); }
.cell:hover { box-shadow: inset 0 0 0 2px var(--query); }
.cell:focus-visible { outline: 3px solid var(--query); outline-offset: 1px; }
tr.chosen { outline: 2.5px solid var(--query); border-radius: 2px; }
.extra { text-align: center; padding: 0 0.2rem; white-space: nowrap; }
.grid .extra { font-size: 0.8125rem; }
.mark { min-width: 1.3rem; padding: 0; }
td.wrong, td.leak { background: var(--leak); color: #000; border-radius: 2px;
  font-weight: 600; forced-color-adjust: none; }
th.changed b { background: var(--leak); color: #000; border-radius: 2px;
  outline: 2px solid var(--leak); forced-color-adjust: none; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.steps { width: 100%; font-size: 0.875rem; }
.steps th, .steps td { text-align: right; padding: 0.18rem 0 0.18rem 0.55rem;
  white-space: nowrap; }
.steps th:first-child { text-align: left; padding-left: 0; max-width: 7rem;
  overflow: hidden; text-overflow: ellipsis; }
.steps thead th { border-bottom: 1px solid var(--line); color: var(--faint);
  font-size: 0.8125rem; vertical-align: bottom; white-space: normal; }
.steps tfoot th, .steps tfoot td { border-top: 1px solid var(--line); }
.steps tr.off td, .steps tr.off th { color: var(--faint); }
.steps td.share { position: relative; }
:host([data-dark]) .steps td.share::before { opacity: 0.75; }
.steps td.share::before { content: ""; position: absolute; inset: 12% auto 12% 0.3rem;
  width: calc(var(--share) * (100% - 0.3rem)); background: var(--allowed); opacity: 0.3;
  border-radius: 2px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.steps td.share span { position: relative; }
.out { margin-top: 0.5rem; font-size: 0.875rem; }
.out span { display: inline-block; }
.note { margin-top: 0.5rem; max-width: 38rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.bar { background: var(--wash); border-bottom: 1px solid var(--line); padding-top: 0;
  display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: start; }
.bar p { flex: 1 1 18rem; min-height: 2.9em; font-size: 0.875rem; align-self: center;
  display: flex; align-items: center; }
details { border-top: 1px solid var(--line); }
summary { cursor: pointer; width: fit-content; }
details > div { margin-top: 0.7rem; }
.walk { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
.walk p { flex: 1 1 14rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.tables > * { flex: 1 1 12rem; min-width: 0; }
.tables > .cache { flex: 2 1 22rem; }
/* The trained model: words, bars, small maps. */
[aria-disabled="true"] { opacity: 0.45; cursor: default; }
.keys, .code { margin: 0; padding: 0.6rem 1rem; border-bottom: 1px solid var(--line);
  font-size: 0.8125rem; }
.code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-x: auto; max-height: 16rem; }
.reading { flex: 1 1 22rem; min-width: 0; }
.next { flex: 1 1 16rem; min-width: 0; max-width: 26rem; }
.asks { margin-bottom: 0.4rem; }
.strip { display: flex; flex-wrap: wrap; gap: 0.25rem; touch-action: pan-y; }
.word { padding: 0.1rem 0.4rem; min-height: 1.75rem; border-color: var(--allowed);
  border-bottom: 3px solid var(--allowed); user-select: none; position: relative; }
.word.ahead:not(.blocked) { border-color: var(--leak); border-bottom-color: var(--leak); }
.word.blocked { border-style: dashed; border-color: var(--faint);
  text-decoration: line-through; color: #000; background: var(--blocked)
  repeating-linear-gradient(-45deg, transparent 0 4px, #A6A6A6 4px 5px); }
.word.ahead.blocked { text-decoration: none; background: none; color: inherit;
  border-color: var(--line); opacity: 0.75; }
.word.halved { border-style: dotted; }
.word.asking { outline: 2.5px solid var(--query); outline-offset: -1px; }
.word:focus-visible { outline: 3px solid var(--query); outline-offset: 2px; }
.word::after { content: ""; position: absolute; left: 0; bottom: -0.3rem; height: 0.25rem;
  width: calc(var(--effect, 0) * 100%); background: var(--query); }
.rows { display: flex; gap: 0.5rem; margin-top: 0.6rem; }
.likely { width: 100%; }
.likely td, .likely th { padding: 0.12rem 0.3rem 0.12rem 0; text-align: left; }
.likely td:last-child { text-align: right; width: 3.5rem; }
.likely .long { width: 60%; }
.unseen-head { font-size: 0.75rem; color: var(--faint); }
.share-bar { display: block; height: 1rem; min-width: 1px; border-radius: 2px;
  background: var(--allowed); width: calc(var(--share) * 100%); forced-color-adjust: none;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.plain { border: 0; padding: 0 0.2rem; min-height: 1.5rem; text-decoration: underline dotted;
  text-underline-offset: 0.2em; }
.entropy { font-size: 0.8125rem; color: var(--faint); margin-top: 0.4rem; }
.place { flex: 0 1 13rem; font-size: 0.8125rem; }
.place svg, .head svg { display: block; width: 100%; height: auto; }
.place svg { cursor: pointer; }
svg .shut { fill: url(#hatch); }
pattern rect { fill: var(--blocked); }
pattern path { stroke: #8C8C8C; }
svg .half { fill: #56B4E9; }
svg .asked { fill: none; stroke: var(--query); stroke-width: 2px;
  vector-effect: non-scaling-stroke; }
:host([data-dark]) pattern rect { fill: #4a525c; }
:host([data-dark]) pattern path { stroke: #7a828c; }
.place figcaption { color: var(--faint); margin-bottom: 0.3rem; }
.heads { flex: 1 1 24rem; min-width: 0; }
.heads > div { display: grid; gap: 0.5rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.head { padding: 0.4rem; text-align: left; align-self: start; font-size: 0.8125rem; overflow-wrap: anywhere; }
.head b { display: block; font-weight: 600; }
.head[aria-pressed="true"], .goals [aria-pressed="true"] {
  outline: 2px solid var(--allowed); }
.goals { display: flex; flex-wrap: wrap; gap: 0.4rem; margin-bottom: 0.6rem; }
.verdict { margin-top: 0.4rem; min-height: 1.4em; }
.verdict.solved { font-weight: 600; }
.verdict.solved::before { content: "✓ "; }
[hidden] { display: none !important; }
.cell, .wrong, .leak, .pills span { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
@media (prefers-reduced-motion: no-preference) {
  .cell, .steps td.share::before { transition: background-color 0.15s, width 0.15s; }
  .share-bar { transition: width 0.25s; }
}
@container (max-width: 30rem) {
  .controls, .board, .bar, details { padding: 0.7rem 0.6rem; }
  .bar { padding-top: 0; }
  .bar p { flex-basis: 100%; }
  .grid { --side: clamp(1.5rem, calc((100cqi - 7.9rem) / var(--n)), 3rem);
    border-spacing: 1px; margin-left: -1px; }
  .grid caption { padding-left: 1px; }
  .grid tbody th b { max-width: 2.2rem; }
  .grid tbody th, .grid .extra { padding: 0 0.1rem; font-size: 0.75rem; }
  .grid .extra { font-size: 0.6875rem; padding: 0; }
  .grid tbody th i { margin-right: 0.15rem; font-size: 0.625rem; }
  .mark { min-width: 1rem; }
}
@media (forced-colors: active) {
  .pills input:checked + span { forced-color-adjust: none; background: Highlight;
    border-color: Highlight; color: HighlightText; }
  .head[aria-pressed="true"], .goals [aria-pressed="true"] { outline-color: Highlight; }
}
@media print {
  section { color: #000; background: #fff; color-scheme: light; break-inside: avoid; }
  .controls, .bar, .walk button, .rows, .keys, .code, .hint { display: none; }
  :host([data-dark]) .steps td.share::before { opacity: 0.3; }
  details:not([open]) { display: none; }
  .cell:hover { box-shadow: none; }
}
section[data-mode="model"] .rule { display: none; }
section[data-mode="hash"] .model-only, section[data-mode="model"] .hash-only,
section[data-mode="model"] .map.large { display: none; }
`;

const BODY = `
<section aria-label="Mask playground">
  <div class="controls">
    <fieldset class="modes" hidden><legend>Numbers from</legend><div class="pills"></div></fieldset>
    <div><label class="sentence"><span class="label"></span><input type="text" spellcheck="false" autocomplete="off"
      autocapitalize="off"></label></div>
    <div><fieldset class="presets"><legend>Mask</legend><div class="pills"></div></fieldset>
    <label class="number"><span class="label"></span><input type="number" min="1"></label></div>
    <div><fieldset class="views"><legend>Show</legend><div class="pills"></div></fieldset>
    <label class="heat"><span class="label">Temperature <span class="now"></span></span><input
      type="range" min="0.2" max="4" step="0.1"></label>
    <fieldset class="layers model-only"><legend>Change cells in</legend><div class="pills"></div></fieldset>
    <label class="switch hash-only"><input type="checkbox">zero after softmax</label></div>
  </div>
  <div class="bar">
    <p role="status" aria-live="polite"></p>
    <button type="button" data-do="undo">Undo</button>
    <button type="button" data-do="redo">Redo</button>
    <button type="button" data-do="audit" class="hash-only">Find the leak</button>
    <button type="button" data-do="reset">Reset</button>
    <button type="button" data-do="copy">Copy link</button>
    <button type="button" data-do="code">Copy as code</button>
    <button type="button" data-do="picture">Save as picture</button>
    <button type="button" data-do="keys" aria-expanded="false">Keys</button>
  </div>
  <pre class="code" hidden tabindex="0"></pre>
  <p class="keys" hidden>Arrow keys walk from cell to cell, Home and End to the first and
    last. Space changes a cell, Shift+Space it and the rest of its row, Alt+Space its
    column; with the mouse the same with a click, and dragging paints. Ctrl+Z takes back,
    Ctrl+Shift+Z brings again. Esc stops what plays.</p>
  <div class="board">
    <div class="reading model-only">
      <p class="asks"></p>
      <div class="strip" role="toolbar" aria-label="Words: press one to block or allow it"></div>
      <div class="rows"><button type="button" data-do="rowback">Query before</button>
        <button type="button" data-do="rownext">Query after</button></div>
    </div>
    <div class="next model-only"><div class="likelihood"></div><p class="entropy"></p></div>
    <figure class="place model-only"><figcaption>The mask: blue may be seen, hatched not;
      click a row to go there.</figcaption><div class="where"></div></figure>
    <div class="heads model-only"><p class="label">Four heads: how each row shares its
      attention</p><div></div></div>
    <div class="map">
      <p class="rule"><code></code><span></span></p>
      <table class="grid" role="grid"><caption></caption><thead></thead><tbody></tbody></table>
    </div>
    <div class="work hash-only"></div>
  </div>
  <details class="decoding hash-only"><summary>Decode step by step, with a cache</summary>
    <div class="walk">
      <button type="button" data-do="first">Start over</button>
      <button type="button" data-do="back">Back</button>
      <button type="button" data-do="next">Next token</button>
      <p></p>
    </div>
    <div class="tables"><div class="scroll cache"></div><div class="scroll count"></div></div>
    <p class="note"></p>
  </details>
  <details class="writing model-only"><summary>Write on, word by word</summary>
    <div class="walk">
      <button type="button" data-do="write">Next word</button>
      <button type="button" data-do="play">Play</button>
      <label class="seed"><span class="label">Dice (0: the likeliest word)</span><input
        type="number" min="0" max="9999"></label>
      <label class="cached"><input type="checkbox">with a cache</label>
    </div>
    <div class="tables"><div class="scroll cache"></div></div>
    <p class="note"></p>
  </details>
  <details class="puzzles"><summary>Six puzzles</summary>
    <div class="goals"></div>
    <p class="ask"></p>
    <p class="verdict"></p>
  </details>
</section>
`;

// Pieces of a page: elements, tables, numbers as they are read. What they make is seen
// in tests/book/test_playground_browser.py.

const SAYS = {
  weights: "Weights: row = query, column = key, hatched = blocked.",
  scores: "Scores + mask: row = query, column = key. Blocked scores become −∞.",
  rule: "Rule: ✓ = the query of this row may see the key of this column.",
};

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") {
      made.setAttribute(name, value);
    } else made[name] = value;
  }
  made.append(...children);
  return made;
}

function table(name, caption, heads, rows, foot = []) {
  const line = (cells, tag) => element("tr", {}, ...cells.map((cell, i) => {
    const properties = tag === "th" ? { scope: "col" } : i === 0 ? { scope: "row" } : {};
    const made = element(tag === "th" || i === 0 ? "th" : "td", properties);
    made.append(cell);
    return made;
  }));
  const made = element("table", { className: name }, element("caption", {}, caption));
  made.append(
    element("thead", {}, line(heads, "th")),
    element("tbody", {}, ...rows.map((row) => line(row, "td"))),
  );
  if (foot.length) made.append(element("tfoot", {}, ...foot.map((row) => line(row, "td"))));
  return made;
}

// Is the text around it light, so the page dark? Whoever made the page dark.
function isDark(host) {
  const rgb = getComputedStyle(host).color.match(/[\d.]+/g) ?? [0, 0, 0];
  return dot(rgb.slice(0, 3).map(Number), [0.299, 0.587, 0.114]) > 127.5;
}

// The matrix: a cell for each query and key, the row that is worked out beside it, and
// decoding step by step. For a text of the trained model, if it is short, the matrix of
// one head. tests/book/test_playground_browser.py reads all of it against mattn.
//
// play is what page.js hands over: { $, shadow, own, state, at, name, audited, model }.

function matrixView(play) {
  const { $, shadow, own, name } = play;
  const grid = $(".grid");
  const details = $(".decoding");
  let cells = [];
  let drawn = ""; // the tokens that the grid was built for

  function build() {
    const T = play.state.tokens.length;
    grid.style.setProperty("--n", T);
    const head = element("tr", {}, element("th", { scope: "col" },
      "key →", element("br"), "query ↓"));
    play.state.tokens.forEach((token, j) => {
      const key = element("th", { scope: "col", "data-key": j, title: token },
        element("b", {}, token), element("i", {}, `${j}`));
      head.append(key);
    });
    head.append(
      element("th", { scope: "col", className: "extra", title: "sum of the weights" }, "sum"),
      element("th", { scope: "col", className: "extra mark" },
        element("span", { className: "unseen" }, "output")),
    );
    grid.tHead.replaceChildren(head);
    cells = [];
    grid.tBodies[0].replaceChildren(...play.state.tokens.map((token, i) => {
      const row = element("tr", {}, element("th", { scope: "row", title: token },
        element("i", {}, `${i}`), element("b", {}, token)));
      cells.push(range(T).map((j) => {
        const cell = element("td", { role: "gridcell", "data-cell": `${i},${j}` });
        row.append(cell);
        return cell;
      }));
      row.append(element("td", { className: "extra sum" }),
        element("td", { className: "extra mark" }));
      return row;
    }));
    fit();
  }

  // Long tokens stand upright over narrow columns.
  function fit() {
    grid.classList.remove("tall");
    const heads = [...grid.querySelectorAll("th[data-key] b")];
    grid.classList.toggle("tall", heads.some((b) => b.scrollWidth > b.clientWidth + 1));
  }

  // The whole matrix of a short text, with the weights of the chosen head.
  function drawSmall() {
    const T = play.state.tokens.length;
    if (T > MOST + 2 || !play.model.ready()) return;
    rebuild();
    grid.caption.replaceChildren(`Layer ${(play.state.head >> 1) + 1}, head ` +
      `${(play.state.head & 1) + 1}: ${SAYS[play.state.view]}`);
    const allowed = play.shownMask();
    const weights = play.model.answer().weights[play.state.head >> 1][play.state.head & 1];
    [...grid.tBodies[0].rows].forEach((line, i) => {
      line.classList.toggle("chosen", i === play.state.row);
      range(T).forEach((j) => paint(cells[i][j], i, j, { allowed,
        shown: { weights: weights[i], scores: weights[i] }, absent: false, limit: 1 }));
      line.querySelector(".sum").textContent = number(sum(weights[i]), 2);
    });
  }

  function rebuild() {
    const key = JSON.stringify(play.state.tokens);
    if (key !== drawn) build();
    drawn = key;
  }

  function drawHash() {
    const T = play.state.tokens.length;
    const problem = problemOf(play.state, own);
    const { allowed } = problem;
    const rows = attention(problem);
    const steps = decode(problem);
    const found = play.state.audit ? play.audited() : null;
    const deciding = play.state.step > 0;
    rebuild();
    grid.caption.replaceChildren(SAYS[play.state.view], element("span", { className: "hint" },
      " Click a cell, or press space on it, to change it."));

    const limit = Math.max(1e-9, ...rows.flatMap((row, i) =>
      row.scores.filter((_, j) => allowed[i][j]).map(Math.abs)));
    [...grid.tBodies[0].rows].forEach((line, i) => {
      const shown = deciding ? steps[i] : rows[i];
      const later = deciding && i >= play.state.step;
      line.classList.toggle("chosen", i === play.state.row);
      range(T).forEach((j) => {
        const absent = later || (deciding && j > i);
        paint(cells[i][j], i, j, { allowed, shown, absent, limit });
      });
      const total = sum(shown.weights);
      const sums = line.querySelector(".sum");
      sums.textContent = later ? "" : number(total, 2);
      const wrong = !later && play.state.late && Math.abs(total - 1) > 1e-9;
      sums.classList.toggle("wrong", wrong);
      sums.title = wrong ? "does not sum to 1" : "";
      const mark = line.querySelector(".mark");
      const leak = found?.leaks.includes(i) ?? false;
      mark.className = `extra mark${leak ? " leak" : ""}`;
      const [sign, word] = leak ? ["✕", "leak: moved, though earlier"]
        : found?.moved[i] ? ["•", "moved"] : ["=", "did not move"];
      mark.title = found ? word : "";
      mark.replaceChildren(...(found ? [element("span", { "aria-hidden": "true" }, sign),
        element("span", { className: "unseen" }, word)] : []));
      line.cells[0].classList.toggle("changed", found?.token === i);
    });
    grid.querySelectorAll("th[data-key]").forEach((head, j) => {
      head.classList.toggle("changed", found?.token === j);
    });
    drawWork(rows, steps, allowed);
    drawDecode(problem, rows, steps);
  }

  function paint(cell, i, j, { allowed, shown, absent, limit }) {
    const may = allowed[i][j];
    const value = absent ? 0 : shown[play.state.view === "scores" ? "scores" : "weights"][j];
    let look = { fill: "", ink: "" };
    let text = "";
    let said = `${play.state.view === "scores" ? "score" : "weight"} ${number(value, 2)}`;
    if (absent) said = "not there yet";
    else if (!may) text = play.state.view === "scores" ? "−∞" : "";
    else if (play.state.view === "rule") {
      [look, text] = [{ fill: "#0072B2", ink: "#fff" }, "✓"];
    } else {
      look = play.state.view === "scores"
        ? colour(PUOR, (value / limit + 1) / 2) : colour(HUE, value);
      text = number(value, 2);
    }
    cell.className = `cell${absent ? " later" : may ? "" : " blocked"}`;
    cell.style.background = may && !absent ? look.fill : "";
    cell.style.color = may && !absent ? look.ink : "";
    cell.textContent = text;
    cell.tabIndex = i === play.state.row && j === play.at ? 0 : -1;
    cell.setAttribute("aria-label",
      `query ${name(i)}, key ${name(j)}: ${may ? "allowed" : "blocked"}` +
      (may || absent ? `, ${said}` : ""));
  }

  // The chosen row: score → + mask → exp → ÷ sum, with the numbers.
  function drawWork(rows, steps, allowed) {
    const i = play.state.row;
    const row = play.state.step > 0 ? steps[i] : rows[i];
    const seen = range(row.scores.length);
    const label = (j) => `${j} ${play.state.tokens[j]}`;
    const title = `Query ${name(i)}, worked out: score = q·k / √` +
      `${(own ?? { q: [range(WIDTH)] }).q[0].length}` +
      (play.state.temperature === 1 ? "" : ` / ${play.state.temperature.toFixed(1)}`);
    const heads = ["exp(·\u00a0−\u00a0max)", "÷\u00a0sum"];
    const bar = (value) => element("span", {}, number(value, 3));
    const out = element("p", { className: "out" },
      "Output, Σ weight · value: ", element("span", {}, vector(row.out)));
    let made;
    const notes = [];
    if (!seen.some((j) => allowed[i][j]) && !play.state.late) {
      const policies = emptyRow(row.scores);
      made = table("steps", `Query ${name(i)}: an empty row, four answers`,
        ["key", "score", "−∞", "−10⁹ filled", "−10⁴ added", "mattn"],
        seen.map((j) => [label(j), number(row.scores[j], 2),
          ...Object.values(policies).map((weights) => number(weights[j], 2))]),
        [["sum", "", ...Object.values(policies).map((weights) => number(sum(weights), 2))]]);
      notes.push("This query may see nothing. −∞ gives 0 ÷ 0. −10⁹ filled in gives all keys " +
        "the same weight. −10⁴ added to every score cancels: as if there were no mask. mattn " +
        "gives weights and output of exactly 0.");
    } else if (play.state.late) {
      made = table("steps", title, ["key", "score", ...heads, "×\u00a0mask"],
        seen.map((j) => [label(j), number(row.scores[j], 3), number(row.exp[j], 3),
          number(row.shares[j], 3), bar(row.weights[j])]),
        [["sum", "", number(row.total, 3), number(sum(row.shares), 3),
          number(sum(row.weights), 3)]]);
      notes.push("The wrong order: blocked scores are in the sum, so the weights that are " +
        "left need not sum to 1, and each of them depends on every key.");
    } else {
      made = table("steps", title, ["key", "score", "+\u00a0mask", ...heads],
        seen.map((j) => [label(j), number(row.scores[j], 3),
          allowed[i][j] ? number(row.scores[j], 3) : "−∞", number(row.exp[j], 3),
          bar(row.weights[j])]),
        [["sum", "", "", number(row.total, 3), number(sum(row.weights), 3)]]);
    }
    seen.forEach((j) => {
      const line = made.tBodies[0].rows[j];
      line.classList.toggle("off", !allowed[i][j]);
      const last = line.cells[line.cells.length - 1];
      if (last.firstElementChild) {
        last.className = "share";
        last.style.setProperty("--share", row.weights[j]);
      }
    });
    const box = element("div", { className: "scroll" }, made);
    $(".work").replaceChildren(box, out,
      ...notes.map((note) => element("p", { className: "note" }, note)));
    reach();
  }

  // What scrolls, on a narrow page, is reached by keyboard.
  function reach() {
    for (const box of shadow.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  function drawDecode(problem, rows, steps) {
    const T = play.state.tokens.length;
    const t = play.state.step;
    details.open = t > 0;
    if (!t) return;
    for (const [act, off] of [["first", t === 1], ["back", t === 1], ["next", t === T]]) {
      // A button that is pressed keeps the focus: it is marked, not disabled.
      $(`[data-do=${act}]`).setAttribute("aria-disabled", off);
    }
    const differs = (i) => steps[i].out.some((x, c) => Math.abs(x - rows[i].out[c]) > 1e-12);
    $(".walk p").textContent = `Step ${t} of ${T}: one query, ${name(t - 1)}, over ` +
      `${several(t, "key")}.`;
    $(".cache").replaceChildren(table("steps", "The cache", ["position", "key", "value"],
      range(T).map((i) => [`${i} ${play.state.tokens[i]}`,
        i < t ? vector(problem.k[i]) : "–", i < t ? vector(problem.v[i]) : "–"])));
    const [D, Dv] = [problem.q[0].length, problem.v[0].length];
    const costs = range(t).map((i) => multiplications(i + 1, D, Dv, own ? 0 : WIDTH));
    const total = (kind) => thousands(sum(costs.map((cost) => cost[kind])));
    $(".count").replaceChildren(table("steps", "Multiplications",
      ["way", "this step", "so far"],
      [["with the cache", thousands(costs[t - 1].cached), total("cached")],
        ["without", thousands(costs[t - 1].anew), total("anew")]]));
    const wrong = range(t).filter(differs);
    $("details .note").textContent = (wrong.length
      ? `${wrong.length === 1 ? `Output ${wrong[0]} is not that` : `Outputs ${list(wrong)} are not those`}` +
        " of the whole matrix, which reads keys that do not exist yet when decoding."
      : `${t === 1 ? "Output 0 is that" : `Outputs 0 to ${t - 1} are those`} of the whole ` +
        "matrix.") +
      ` Counted: ${own ? "" : "the maps to q, k and v, "}scores and weighted sums; without ` +
      "a cache every step computes all rows, all columns, anew.";
  }

  return {
    drawHash, drawSmall, fit, reach,
    focus: (i, j) => cells[i][j].focus({ preventScroll: true }),
  };
}

// The view of the trained decoder: the words as a strip, the mask and the heads as small
// maps, bars of the next word with their entropy, and writing on with the cache.
//
// play is what page.js hands over: { $, shadow, state, set, say, name, base }.
// tests/book/test_playground_model_browser.py works it in a browser.

const N_BARS = 6;
const N_LAYERS = 2, N_HEADS = 2; // of the models that are shipped
const SVG = "http://www.w3.org/2000/svg";

// Small maps: a path for each colour, of the runs that have it, in a square of T by T.
function smallMap(T, rows, label, row) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: `-0.5 -0.5 ${T + 1} ${T + 1}`,
    role: "img", "aria-label": label, "shape-rendering": "crispEdges" })) {
    svg.setAttribute(key, value);
  }
  const paths = {};
  rows.forEach((line, i) => runsOf(line).forEach(([j, n, what]) => {
    paths[what] = `${paths[what] ?? ""}M${j} ${i}h${n}v1h${-n}z`;
  }));
  const drawn = Object.entries(paths).map(([what, d]) => `<path d="${d}" ` +
    `${/^[a-z]+$/.test(what) ? "class" : "fill"}="${what}"/>`);
  const wide = (T + 1) / 20; // between two lines, whatever the size of a cell
  svg.innerHTML = `<pattern id="hatch" width="${wide}" height="${wide}" patternUnits=` +
    `"userSpaceOnUse" patternTransform="rotate(-45)"><rect width="${wide}" height="${wide}"/>` +
    `<path d="M0 ${wide / 2}H${wide}" stroke-width="${wide / 5}"/></pattern>${drawn.join("")}<rect class="asked" y="${row}" width="${T}" height="1"/>`;
  return svg;
}

const mapOfMask = (masks) => masks[0].map((line, i) => line.map((may, j) =>
  (may !== masks[1][i][j] ? "half" : may ? "#0072B2" : "shut")));
const mapOfWeights = (weights, mask) => weights.map((line, i) => line.map((weight, j) =>
  (mask[i][j] ? colour(HUE, Math.round(weight * 20) / 20).fill : "shut")));

// Loads a script of the book's, once.
const loaded = {};
function script(address) {
  return (loaded[address] ??= new Promise((done, failed) => {
    const made = element("script", { src: address, onload: done, onerror: () => {
      delete loaded[address];
      failed(new Error(address));
    } });
    document.head.append(made);
  }));
}

const decoders = {};
async function load(base, name) {
  await Promise.all(["decoder.js", `stories_${name}.js`].map((file) => script(base + file)));
  decoders[name] ??= globalThis.mattnDecoder(globalThis.mattnStories[name]);
}

function modelView(play) {
  const { $ } = play;
  let seen = { key: "" }; // what the decoder made of a text and its masks
  let effects = null; // what a word hangs on, until the next change
  let buttons = [];
  let timer = 0;

  const which = () => (PUZZLES[play.state.goal - 1]?.twin ? "uncovered" : "covered");
  const ready = () => decoders[which()];

  // The decoder's answer to the state; the same one while neither words nor masks change.
  function answer(state = play.state) {
    const key = JSON.stringify([which(), state.tokens, state.cached, masksOf(state)]);
    if (seen.key !== key) {
      const decoder = ready();
      // A cache gives the numbers of the whole text only where nothing later is read.
      seen = { key, ...readWords(decoder, state, state.cached && looksBack(masksOf(state))) };
    }
    return seen;
  }

  const after = (row, state = play.state) =>
    expected(ready(), answer(state).logits[row], state.temperature);
  const top = (row, state) => {
    const [{ word, p }] = after(row, state).words;
    return `“${word}” ${shared(p)}`;
  };

  async function need() {
    if (ready()) return true;
    play.say("Loading the model, about 85 kB …");
    try {
      await load(play.base, which());
    } catch {
      play.say("The files of the model were not found beside this page.");
      return false;
    }
    const { vocabulary } = ready();
    const known = play.state.tokens.filter((word) => vocabulary.includes(word));
    if (known.length < play.state.tokens.length) play.set({ tokens: known, ...NONE });
    return true;
  }

  // --------------------------------------------------------------- drawing

  function buildStrip() {
    const { tokens } = play.state;
    buttons = tokens.map((word, j) => element("button", { type: "button",
      className: "word", "data-key": j }, word));
    $(".strip").replaceChildren(...buttons);
  }

  function draw() {
    const { state } = play;
    const T = state.tokens.length;
    const masks = masksOf(state);
    if (buttons.map((b) => b.textContent).join(" ") !== state.tokens.join(" ")) buildStrip();
    $(".asks").textContent = `${$(".rule").textContent}: query ${play.name(state.row)} ` +
      "may look at";
    const shown = masks[state.layer === "2" ? 1 : 0][state.row];
    const halves = masks[0][state.row].map((may, j) => may !== masks[1][state.row][j]);
    const found = ready() ? answer() : null;
    const weights = found?.weights[state.head >> 1][state.head & 1];
    buttons.forEach((button, j) => {
      button.dataset.cell = `${state.row},${j}`;
      button.className = `word${shown[j] ? "" : " blocked"}${halves[j] ? " halved" : ""}` +
        (j === state.row ? " asking" : "") + (j > state.row ? " ahead" : "");
      button.tabIndex = j === play.at ? 0 : -1;
      button.setAttribute("aria-pressed", `${!shown[j]}`);
      const effect = effects?.[j] ?? 0;
      button.style.setProperty("--effect", clamp(Math.abs(effect), 0, 1).toFixed(2));
      button.setAttribute("aria-label", `${j} ${state.tokens[j]}: ` +
        `${halves[j] ? "blocked in one layer" : shown[j] ? "allowed" : "blocked"}` +
        (weights && shown[j] ? `, weight ${number(weights[state.row][j], 2)}` : "") +
        (Math.abs(effect) > 0.005 ? `, worth ${number(effect, 2)}` : ""));
    });
    const allowed = sum(masks[0].map((line) => sum(line.map(Number))));
    const map = smallMap(T, mapOfMask(masks), `The mask: ${allowed} of ${T * T} cells ` +
      `allowed; row ${state.row} is outlined`, state.row);
    $(".where").replaceChildren(map);
    for (const button of play.shadow.querySelectorAll(".layers input")) {
      button.checked = button.value === state.layer;
    }
    $(".seed input").value = state.seed;
    $(".cached input").checked = state.cached;
    if (!found) return;
    drawBars(after(state.row));
    drawHeads(found.weights, masks);
    drawWriting();
  }

  function drawBars({ words, entropy }) {
    const { state } = play;
    const line = ({ word, p }) => element("tr", {},
      element("th", { scope: "row" }, element("button", { type: "button",
        className: "plain", "data-word": word, title: "which cells it hangs on" }, word)),
      element("td", { className: "long" }, element("span", { className: "share-bar" })),
      element("td", {}, shared(p)));
    const rows = words.slice(0, N_BARS).map(line);
    rows.forEach((row, i) => row.querySelector(".share-bar")
      .style.setProperty("--share", words[i].p));
    const rest = sum(words.slice(N_BARS).map(({ p }) => p));
    const made = element("table", { className: "likely" },
      element("caption", {}, `Next word after ${play.name(state.row)}`),
      element("thead", {}, element("tr", {}, ...["word", "share", "number"].map((text) =>
        element("th", { scope: "col", className: "unseen-head" }, text)))),
      element("tbody", {}, ...rows));
    const focus = play.shadow.activeElement?.dataset?.word;
    $(".likelihood").replaceChildren(made);
    if (focus) $(`[data-word="${CSS.escape(focus)}"]`)?.focus();
    const next = state.tokens[state.row + 1];
    const truth = next && words.find(({ word }) => word === next);
    $(".entropy").textContent = `All other words together ${shared(rest)}. Entropy ` +
      `${number(entropy, 3)} nats; if it knew nothing, ${number(Math.log(words.length), 2)}.` +
      (truth ? ` The text goes on with “${next}”, which has ${shared(truth.p)}.` : "");
  }

  function drawHeads(weights, masks) {
    const { state } = play;
    const T = state.tokens.length;
    $(".heads > div").replaceChildren(...range(N_LAYERS * N_HEADS).map((n) => {
      const [layer, head] = [n >> 1, n & 1];
      const own = weights[layer][head];
      const most = own[state.row].indexOf(Math.max(...own[state.row]));
      const title = `Layer ${layer + 1}, head ${head + 1}`;
      const looks = own[state.row][most] > 0
        ? `looks most at ${play.name(most)}, ${number(own[state.row][most], 2)}`
        : "sees nothing";
      const map = smallMap(T, mapOfWeights(own, masks[layer]), "", state.row);
      map.setAttribute("aria-hidden", "true");
      return element("button", { type: "button", className: "head", "data-head": n,
        "aria-pressed": `${state.head === n}` }, element("b", {}, title), map,
      element("span", {}, looks));
    }));
  }

  function drawWriting() {
    const { state } = play;
    const T = state.tokens.length;
    if (!$(".writing").open) return;
    const [whole, steps] = [false, true].map((cached) => readWords(ready(), state, cached));
    const off = Math.max(...whole.logits.map((row, i) =>
      Math.max(...row.map((value, w) => Math.abs(value - steps.logits[i][w])))));
    const same = off < 1e-9;
    $(".writing .cache").replaceChildren(table("steps", `The last word, row ${T - 1}`,
      ["way", "rows", "cells of the mask"],
      [["with the cache", "1", `${T}`], ["without", `${T}`, `${T * T}`]]));
    $(".writing .note").textContent = (same
      ? "The cache changes no number: the largest difference of two logits is " +
        `${off ? off.toExponential(0).replace("-", "−") : "0"}.`
      : `Word by word other numbers come out, by up to ${number(off, 2)}: the mask lets a ` +
        "word look at what has not been written yet. The bars read the whole text at once.");
  }

  // --------------------------------------------------------------- writing

  // One word more; the edits stay on their cells.
  function grown(state, word) {
    const T = state.tokens.length;
    const carried = Object.fromEntries(SETS.map((key) => [key,
      state[key].map((c) => ((c / T) | 0) * (T + 1) + (c % T))]));
    return { tokens: [...state.tokens, word], ...carried, row: T };
  }

  function write() {
    const { state } = play;
    const T = state.tokens.length;
    const end = state.tokens.at(-1) === "<end>" ? "The story has ended."
      : T >= MOST_READ ? `${MOST_READ} words are the most that it reads here.` : "";
    if (end || !ready()) {
      stop();
      play.say(end);
      return;
    }
    const found = after(T - 1);
    const word = nextWord(found, state.seed, T);
    const { p } = found.words.find((each) => each.word === word);
    play.at = T;
    play.set(grown(state, word), `It writes “${word}”, which had ${shared(p)}.`,
      `“${word}”`);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    $("[data-do=play]").textContent = "Play";
  }

  function playOrStop() {
    if (timer) return stop();
    $("[data-do=play]").textContent = "Stop (Esc)";
    timer = setInterval(write, 500);
    return write();
  }

  function hangs(word) {
    const { state } = play;
    effects = hangsOn(ready(), state, state.row, word);
    const best = effects.map((drop, j) => [drop, j]).sort((a, b) => b[0] - a[0])
      .filter(([drop]) => drop > 0.005).slice(0, 3)
      .map(([drop, j]) => `${play.name(j)} ${number(drop, 3)}`);
    draw();
    play.say(best.length ? `“${word}” hangs on ${list(best)}: so much of its share is ` +
      "lost if that cell alone is blocked." : `“${word}” hangs on no single cell.`);
  }

  return {
    answer, draw, hangs, need, playOrStop, ready, stop, top, write,
    forget: () => { effects = null; },
    focus: (j) => buttons[j]?.focus({ preventScroll: true }),
    bars: () => after(play.state.row).words.slice(0, 5).map(({ word, p }) => [word, p]),
    get playing() { return timer !== 0; },
  };
}

// The panel of the six puzzles: choose one, see what it counts, and whether it is done.
//
// tests/book/test_playground_model_browser.py plays them.

function puzzleView(play) {
  const { $ } = play;
  const box = $(".puzzles");
  const goals = PUZZLES.map(({ name }, i) => element("button", { type: "button",
    "data-goal": i + 1, "aria-pressed": "false" }, `${i + 1} ${name}`));
  $(".goals").append(...goals);
  let told = "";

  // Where a puzzle starts: its own text and mask, nothing changed.
  function begin(goal) {
    const { start } = PUZZLES[goal - 1];
    const T = start.tokens.length;
    told = "";
    play.set({ ...startIn(play.start, start.mode), ...NONE, layer: "both", ...start, goal,
      row: T - 1, temperature: 1, late: false, step: 0, kept: {} },
    PUZZLES[goal - 1].ask, `puzzle ${goal}`);
  }

  function draw() {
    const { state } = play;
    if (state.goal) box.open = true;
    goals.forEach((button, i) => {
      const off = PUZZLES[i].start.mode === "model" && !play.base;
      button.hidden = off || (play.own !== null && PUZZLES[i].start.mode === "hash");
      button.setAttribute("aria-pressed", `${state.goal === i + 1}`);
    });
    const puzzle = PUZZLES[state.goal - 1];
    const found = puzzle ? verdict(state, decoders) : null;
    $(".ask").textContent = puzzle?.ask ?? "Each has a par: nobody can do it with less.";
    $(".verdict").textContent = !found ? "" : `${found.says} ` +
      `${several(found.score, puzzle.unit)}; par is ${found.par}. ` +
      (!found.solved ? "" : found.score <= found.par ? "Solved, at par." : "Solved.");
    $(".verdict").classList.toggle("solved", found?.solved ?? false);
    const now = found?.solved ? `${state.goal} ${found.score}` : "";
    if (now && now !== told) {
      play.later(`Puzzle ${state.goal} is solved with ${several(found.score, puzzle.unit)}` +
        `${found.score <= found.par ? ", at par" : `; par is ${found.par}`}.`);
    }
    told = now;
  }

  return { begin, draw };
}

// Mouse and keys: clicks, painting, walking from cell to cell, undo and redo.
//
// play is what page.js hands over. tests/book/test_playground_browser.py and
// test_playground_model_browser.py do all of it in a browser.

function hands(play) {
  const { $, shadow } = play;
  let painted = false; // a click that ends a stroke changes nothing more
  let stroke = null; // what the mouse is painting: { value, name, done }

  shadow.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button && button.getAttribute("aria-disabled") !== "true") {
      play.actions[button.dataset.do]();
    }
    const cell = event.target.closest("[data-cell]");
    if (cell && !painted) {
      const [i, j] = placeOf(cell);
      play.toggle(i, j, event);
      focusCell(cell, i, j);
    }
    painted = false;
    const head = event.target.closest(".grid tbody th");
    if (head) play.chooseRow(head.parentElement.sectionRowIndex);
    const looks = event.target.closest("[data-head]");
    if (looks) play.set({ head: +looks.dataset.head }, `${looks.innerText.replace(/\n/g, ": ")}.`);
    const word = event.target.closest("[data-word]");
    if (word) play.model.hangs(word.dataset.word);
    const goal = event.target.closest("[data-goal]");
    if (goal) play.puzzles.begin(+goal.dataset.goal);
    const map = event.target.closest(".where svg");
    if (map) {
      const { top, height } = map.getBoundingClientRect();
      const T = play.state.tokens.length;
      const row = Math.floor((event.clientY - top) / height * (T + 1) - 0.5);
      play.walkRow(clamp(row, 0, T - 1) - play.state.row);
    }
  });

  // ------------------------------------------------ painting with the mouse

  const placeOf = (cell) => cell.dataset.cell.split(",").map(Number);
  function focusCell(cell, i, j) {
    if (cell.closest(".strip")) play.model.focus(j);
    else play.matrix.focus(i, j);
  }
  shadow.addEventListener("pointerdown", (event) => {
    const cell = event.target.closest("[data-cell]");
    painted = false;
    if (!cell || event.button || event.pointerType === "touch") return;
    const [i, j] = placeOf(cell);
    stroke = { value: !play.shownMask()[i][j], name: `stroke ${event.timeStamp}`,
      done: new Set([cell.dataset.cell]) };
    play.toggle(i, j, event, stroke.value, stroke.name);
    painted = true;
    focusCell(cell, i, j);
    event.preventDefault();
  });
  shadow.addEventListener("pointermove", (event) => {
    if (!stroke || !(event.buttons & 1)) return;
    const cell = shadow.elementFromPoint(event.clientX, event.clientY)
      ?.closest("[data-cell]");
    if (!cell || stroke.done.has(cell.dataset.cell)) return;
    stroke.done.add(cell.dataset.cell);
    play.toggle(...placeOf(cell), {}, stroke.value, stroke.name);
  });
  window.addEventListener("pointerup", () => {
    if (stroke && stroke.done.size > 1) {
      const next = play.state.mode === "model" && play.model.ready()
        ? ` Next word: ${play.model.top(play.state.row)}.` : "";
      play.say(`${several(stroke.done.size, "cell")} ` +
        `${stroke.value ? "allowed" : "blocked"}.${next}`);
    }
    stroke = null;
    setTimeout(() => { painted = false; });
  });

  // ------------------------------------------------------------------- keys

  shadow.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
      play.go(key === "y" || event.shiftKey ? "redo" : "undo");
      event.preventDefault();
    } else if (event.key === "Escape" && play.model.playing) {
      play.model.stop();
      play.say("Stopped.");
    } else if (event.key === "?" && event.target.localName !== "input") {
      play.actions.keys();
    } else return;
    event.stopPropagation();
  });
  $(".strip").addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-cell]");
    if (!cell || event.ctrlKey || event.metaKey) return;
    const last = play.state.tokens.length - 1;
    const [i, j] = placeOf(cell);
    const to = { ArrowLeft: j - 1, ArrowRight: j + 1, Home: 0, End: last }[event.key];
    const press = event.key === " " || event.key === "Enter";
    if (press && !event.shiftKey && !event.altKey) return; // a button: its click comes
    if (press) play.toggle(i, j, event);
    else if (event.key === "ArrowUp") play.walkRow(-1);
    else if (event.key === "ArrowDown") play.walkRow(1);
    else if (to === undefined) return;
    else {
      play.at = clamp(to, 0, last);
      play.model.draw();
    }
    event.preventDefault();
    event.stopPropagation();
    play.model.focus(play.at);
  });
  $(".strip").addEventListener("keyup", (event) => {
    if (event.key === " " && (event.shiftKey || event.altKey)) event.preventDefault();
  });
  $(".grid").addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-cell]");
    if (!cell || event.metaKey) return;
    const last = play.state.tokens.length - 1;
    let [i, j] = cell.dataset.cell.split(",").map(Number);
    if (event.key === " " || event.key === "Enter") play.toggle(i, j, event);
    else if (event.altKey) return;
    else {
      if (event.key === "ArrowUp") i--;
      else if (event.key === "ArrowDown") i++;
      else if (event.key === "ArrowLeft") j--;
      else if (event.key === "ArrowRight") j++;
      else if (event.key === "Home") [i, j] = [event.ctrlKey ? 0 : i, 0];
      else if (event.key === "End") [i, j] = [event.ctrlKey ? last : i, last];
      else return;
      play.at = clamp(j, 0, last);
      play.set({ row: clamp(i, 0, last) });
    }
    event.preventDefault();
    event.stopPropagation();
    play.matrix.focus(play.state.row, play.at);
  });
}

// The widget on a page: its state, its history, its controls, and the view of today's
// modes; the model's view and the puzzles are scripts of their own. By mouse and by
// keyboard: tests/book/test_playground_browser.py.

// Beside this script lie the decoder and its weights, where it is a file of its own.
const BASE = /^(.*\/)playground\.js(?:\?.*)?$/.exec(document.currentScript?.src ?? "")?.[1];

// The first edition's widget: links that name it are opened by the first on their page.
const FIRST = { "play-9e7fe176": "the cat sat on the mat" };

function mount(host) {
  if (host.shadowRoot) return;
  const config = JSON.parse(host.dataset.config);
  const own = config.own ?? null;
  const start = initial(config);
  const shadow = host.attachShadow({ mode: "open" });
  shadow.innerHTML = BODY;
  shadow.prepend(element("style", {}, STYLE));
  const $ = (selector) => shadow.querySelector(selector);
  // Only a page of its own has an address to keep the state in.
  const addressed = window.top === window &&
    !document.querySelector("#jupyter-config-data, .jp-Notebook, [data-jupyter-widgets-cdn]");
  let state = { ...start };
  let at = 0; // the key position of the cell that the keyboard is on
  let timer = 0;
  const past = timeline();
  let later = ""; // said after what a change says of itself

  const sentence = $(".sentence input");
  const status = $("[role=status]");
  const details = $(".decoding");
  const say = (text) => {
    status.textContent = later ? `${text} ${later}` : text;
    later = "";
  };
  const name = (i) => `${i} “${state.tokens[i]}”`;

  const play = {
    $, shadow, own, start, base: BASE, set, say, name, later: (text) => { later = text; },
    get state() { return state; }, get at() { return at; }, set at(j) { at = j; },
    audited, chooseRow, go, shownMask, toggle, walkRow,
  };
  const model = play.model = modelView(play);
  const matrixes = play.matrix = matrixView(play);
  const puzzles = play.puzzles = puzzleView(play);

  const CHOICES = [
    ["presets", Object.keys(RULES), choosePreset], ["views", VIEWS, chooseView],
    ["modes", ["hash", "model"], chooseMode],
    ["layers", ["both", "1", "2"], (layer) => set({ layer }, layer === "both"
      ? "Cells are changed in both layers." : `Cells are changed in layer ${layer} only.`)],
  ];
  const CALLED = { hash: "letters of each word", model: "a trained model",
    both: "both layers", 1: "layer 1", 2: "layer 2" };
  for (const [group, options, choose] of CHOICES) {
    for (const option of options) {
      const radio = element("input", { type: "radio", name: group, value: option });
      $(`.${group} .pills`).append(
        element("label", {}, radio, element("span", {}, CALLED[option] ?? option)),
      );
      radio.addEventListener("click", () => choose(option));
    }
  }

  // ------------------------------------------------------------- changes

  // Every change of the state passes here; an audit holds for one state.
  // what names it for undo; changes of one stroke are undone together.
  function set(changes, text, what = text ?? "a change", ofStroke = null) {
    const before = state;
    const stays = Object.keys(changes).every((key) => ["row", "view", "audit"].includes(key));
    state = { ...state, audit: stays && state.audit, ...changes };
    past.record(before, state, what, ofStroke);
    if (!stays) model.forget();
    show();
    if (text !== undefined) say(text);
    if (state.mode === "model" && before.mode === "hash") opened();
    if (state.goal !== before.goal) opened();
    remember();
  }

  // The model is there when its mode is: what waits for it is drawn then.
  async function opened() {
    if (state.mode !== "model" || model.ready() || !BASE) return;
    if (await model.need()) {
      show();
      say(`The model has read ${state.tokens.length - 1} words. Next word: ` +
        `${model.top(state.row)}.`);
    }
  }

  function show() {
    at = Math.min(at, state.tokens.length - 1);
    draw();
    puzzles.draw();
  }

  function go(direction) {
    const there = past[direction](state);
    if (!there) {
      say(direction === "undo" ? "Nothing to undo." : "Nothing to redo.");
      return;
    }
    model.stop();
    model.forget();
    state = there.state;
    sentence.value = words(state);
    show();
    const n = nEdits(state);
    say(`${direction === "undo" ? "Undone" : "Done again"}: ` +
      `${there.what.replace(/\.$/, "")}. ${n ? several(n, "changed cell") : "No cell"} ` +
      `${n ? (n === 1 ? "is" : "are") : "is changed"}${n ? " on the mask" : ""}.`);
    opened();
    remember();
  }

  function remember() {
    if (addressed) {
      clearTimeout(timer);
      timer = setTimeout(keep, 200);
    }
  }

  function keep() {
    const text = toAddress(state, start);
    const here = location.href.split("#")[0];
    const hash = text ? `#${host.id}&${text}`
      : location.hash.startsWith(`#${host.id}&`) ? "" : location.hash;
    try {
      history.replaceState(history.state, "", here + hash);
    } catch { /* too many changes a second: the next one is kept */ }
  }

  // Another mask or another length, and what becomes of the cells that were changed.
  function move(changes, text, what, ofStroke) {
    const moves = moved(state, changes);
    if (moves === changes) {
      set(changes, text, what, ofStroke);
      return;
    }
    const aside = nEdits(state);
    const back = nEdits({ ...NONE, ...moves });
    const kept = { ...NONE, ...moves };
    set(kept, text +
      (aside ? ` ${several(aside, "changed cell")} set aside: ${aside === 1 ? "it comes" : "they come"} ` +
        "back with that mask and length, or with Ctrl+Z." : "") +
      (back ? ` ${several(back, "changed cell")} of before ${back === 1 ? "is" : "are"} back.` : ""),
    what, ofStroke);
  }

  function choosePreset(preset) {
    const T = state.tokens.length;
    const same = preset === state.preset;
    const n = same ? state.n : clamp(NUMBERS[preset]?.[1] ?? 1, 1, T);
    const changes = { preset, n };
    const { flips, flips1, flips2 } = { ...NONE, ...moved(state, changes) };
    const edits = same ? state : { flips, flips1, flips2 };
    const seen = sum(allowedOf({ ...state, ...changes, ...edits })
      .map((row) => sum(row.map(Number))));
    move(changes,
      `Mask ${expression(preset, T, n)}: ${seen} of ${several(T * T, "cell")} allowed.`,
      `mask ${preset}`);
  }

  // Each mode keeps its text, its mask and its changed cells.
  function chooseMode(mode) {
    if (mode === state.mode) return;
    const { kept, tokens, preset, n, flips, flips1, flips2, row } = state;
    const { [mode]: there = startIn(start, mode), ...others } = kept;
    const changes = {};
    for (const key of ["tokens", "preset", "n", ...SETS, "row"]) changes[key] = there[key];
    at = changes.row;
    set({ ...changes, mode, step: 0, audit: false, late: false, goal: 0, view: "weights",
      kept: { ...others, [state.mode]: { tokens, preset, n, flips, flips1, flips2, row } } },
    mode === "model" ? "The words of a story, read by a trained model."
      : "Numbers made from the letters of each word.", `numbers from ${CALLED[mode]}`);
    sentence.value = words(state);
  }

  function chooseView(view) {
    set({ view }, SAYS[view]);
  }

  function shownMask() {
    return allowedOf(state, state.layer === "2" ? 1 : 0);
  }

  const words = ({ mode, tokens }) => tokens.slice(mode === "model" ? 1 : 0).join(" ");

  // Allow or block a cell; with Shift the rest of its row too, with Alt its column.
  function toggle(i, j, { shiftKey = false, altKey = false } = {}, given = null, of = null) {
    const T = state.tokens.length;
    const value = given ?? !shownMask()[i][j];
    const which = shiftKey ? range(T - j).map((k) => [i, j + k])
      : altKey ? range(T).map((q) => [q, j]) : [[i, j]];
    const before = state.mode === "model" && model.ready() ? model.top(i) : "";
    at = j;
    set({ ...put(state, which, value), row: i }, undefined,
      which.length > 1 ? several(which.length, "cell") : `cell ${i}, ${j}`, of);
    const row = shownMask()[i];
    const n = sum(row.map(Number));
    const layer = state.mode === "hash" || state.layer === "both" ? ""
      : ` in layer ${state.layer}`;
    const next = before && ` Next word: ${model.top(i)}; before ${before}.`;
    say((which.length > 1
      ? `${several(which.length, "cell")} ${value ? "allowed" : "blocked"}${layer}. `
      : `Query ${name(i)} ${row[j] ? "now sees" : "no longer sees"} key ${name(j)}${layer}; ` +
        "it ").concat(which.length > 1 ? `Query ${name(i)} ` : "") +
      `sees ${n ? several(n, "key") : "nothing: an empty row"}.${next}`);
  }

  function chooseRow(row) {
    set({ row }, `Query ${name(row)}, worked out.`);
  }

  function typed() {
    const reads = state.mode === "model";
    const most = mostOf(state) - reads;
    const given = split(sentence.value, Infinity);
    const known = reads && model.ready()?.vocabulary;
    const strange = known ? given.filter((word) => !known.includes(word)) : [];
    const tokens = given.filter((word) => !strange.includes(word)).slice(0, most);
    if (reads) tokens.unshift("<start>");
    if (!tokens.length) {
      say("A sentence has at least one token; the last one stays.");
      return;
    }
    const T = tokens.length;
    if (reads) at = T - 1;
    move({
      tokens, n: clamp(state.n, 1, T),
      row: reads ? T - 1 : Math.min(state.row, T - 1), step: Math.min(state.step, T),
    }, `${several(T, "token")}: ${tokens.join(" ")}.` +
      (given.length > most ? ` Only the first ${most} count.` : "") +
      (strange.length ? ` The model knows ${known.length} words; not ${list(strange)}.` : ""),
    "the text", "typing");
  }

  function runAudit() {
    set({ audit: true, step: 0 });
    const found = audited();
    if (!found) say("One token has no later one that could leak.");
    else if (!found.leaks.length) {
      say("No leak: each token but the first was changed, and no earlier output moved.");
    } else {
      const { token, leaks } = found;
      const through = leaks.filter((i) => allowedOf(state)[i][token]);
      const past = leaks.filter((i) => !through.includes(i));
      const outputs = (rows) =>
        `${rows.length === 1 ? "output" : "outputs"} ${list(rows)}`;
      say(`Leak: token ${name(token)} was changed, and earlier outputs moved` +
        (through.length ? `; the mask shows it to ${outputs(through)}` : "") +
        (past.length ? `; it reached ${outputs(past)} past the mask, through the sum` : "") +
        ".");
    }
  }

  function audited() {
    const problem = problemOf(state, own);
    return audit(problem, change(problem, state.tokens, own));
  }

  function walkRow(by) {
    const row = clamp(state.row + by, 0, state.tokens.length - 1);
    set({ row }, `Query ${name(row)}.` +
      (model.ready() ? ` Next word: ${model.top(row)}.` : ""));
  }

  function walk(step) {
    const T = state.tokens.length;
    step = clamp(step, 1, T);
    set({ step, row: step - 1 },
      `Step ${step} of ${T}: query ${name(step - 1)}; ${several(step, "key")} and ` +
      `${several(step, "value")} in the cache.`);
  }

  const ACTIONS = play.actions = {
    audit: runAudit,
    reset: () => {
      model.stop();
      const first = startIn(start, state.mode);
      at = state.mode === "model" ? first.row : 0;
      set({ ...first, goal: 0 }, "As at the start.", "reset");
      sentence.value = words(state);
      details.open = false;
    },
    copy: async () => {
      clearTimeout(timer);
      keep();
      try {
        await navigator.clipboard.writeText(location.href);
        say("Copied: a link to this page with this state.");
      } catch {
        say("The address of this page now holds this state: copy it from there.");
      }
    },
    code: async () => {
      const code = codeOf(state, own, PUZZLES[state.goal - 1]?.twin);
      $(".code").textContent = code;
      $(".code").hidden = false;
      try {
        await navigator.clipboard.writeText(code);
        say("Copied: mattn code that prints these numbers; it stands below, too.");
      } catch {
        say("The code that prints these numbers stands below: copy it from there.");
      }
    },
    picture: () => {
      const bars = state.mode === "model" && model.ready() ? model.bars()
        : state.mode === "model" ? []
        : attention(problemOf(state, own))[state.row].weights
          .map((weight, j) => [state.tokens[j], weight]);
      const svg = pictureOf(state, bars, `${$(".rule").textContent}; row ` +
        `${name(state.row)}`);
      const link = element("a", { download: "mattn-playground.svg",
        href: URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" })) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      say("Saved: a picture of the mask and its numbers, mattn-playground.svg.");
    },
    undo: () => go("undo"),
    redo: () => go("redo"),
    keys: () => {
      $(".keys").hidden = !$(".keys").hidden;
      $("[data-do=keys]").setAttribute("aria-expanded", `${!$(".keys").hidden}`);
    },
    write: () => model.write(),
    play: () => model.playOrStop(),
    rowback: () => walkRow(-1),
    rownext: () => walkRow(1),
    first: () => walk(1),
    back: () => walk(state.step - 1),
    next: () => walk(state.step + 1),
  };

  // ------------------------------------------------------------- drawing

  function drawControls() {
    const T = state.tokens.length;
    const reads = state.mode === "model";
    $("section").dataset.mode = state.mode;
    $(".modes").hidden = !BASE;
    $(".modes input[value=" + state.mode + "]").checked = true;
    sentence.readOnly = own !== null && !reads;
    $(".sentence .label").textContent = reads
      ? `Story, up to ${MOST_READ - 1} words of the model's 92`
      : own ? "Sentence (fixed: q, k and v are your own)"
        : `Sentence, up to ${MOST} tokens, split at spaces`;
    if (shadow.activeElement !== sentence) sentence.value = words(state);
    $(`.presets input[value=${state.preset}]`).checked = true;
    $(`.views input[value=${state.view}]`).checked = true;
    $(".views input[value=scores]").parentElement.hidden = reads;
    $(".views").hidden = reads && T > MOST;
    $(".switch input").checked = state.late;
    $(".heat input").value = state.temperature;
    $(".heat input").setAttribute("aria-valuetext", state.temperature.toFixed(1));
    $(".now").textContent = state.temperature.toFixed(1);
    const [what] = NUMBERS[state.preset] ?? [];
    $(".number").hidden = !what;
    $(".number .label").textContent = what ?? "";
    $(".number input").max = T;
    if (shadow.activeElement !== $(".number input")) $(".number input").value = state.n;
    const edits = nEdits(state);
    $(".rule code").textContent = expression(state.preset, T, state.n);
    $(".rule span").textContent = edits ? `, ${several(edits, "cell")} changed` : "";
    const [back, forth] = past.depth;
    $("[data-do=undo]").setAttribute("aria-disabled", `${!back}`);
    $("[data-do=redo]").setAttribute("aria-disabled", `${!forth}`);
    $(".code").hidden = true;
    $(".map").classList.toggle("large", reads && T > MOST + 2);
  }

  function draw() {
    drawControls();
    if (state.mode === "model") {
      model.draw();
      matrixes.drawSmall();
    } else matrixes.drawHash();
  }

  // -------------------------------------------------------------- events

  hands(play);
  sentence.addEventListener("input", typed);
  sentence.addEventListener("change", () => { sentence.value = words(state); });
  $(".number input").addEventListener("input", (event) => {
    const T = state.tokens.length;
    const n = Math.round(+event.target.value);
    if (!(n >= 1 && n <= T)) return;
    move({ n }, `Mask ${expression(state.preset, T, n)}.`, `n = ${n}`);
  });
  $(".number input").addEventListener("change", (event) => { event.target.value = state.n; });
  $(".heat input").addEventListener("input", (event) =>
    set({ temperature: +event.target.value }, undefined, "temperature", "heat"));
  $(".heat input").addEventListener("change", () => {
    if (state.mode === "model") {
      if (model.ready()) {
        say(`Temperature ${state.temperature.toFixed(1)}. Next word: ${model.top(state.row)}.`);
      }
      return;
    }
    const largest = Math.max(...attention(problemOf(state, own))[state.row].weights);
    say(`Temperature ${state.temperature.toFixed(1)}: the largest weight of query ` +
      `${name(state.row)} is ${number(largest, 2)}.`);
  });
  $(".switch input").addEventListener("change", (event) => {
    set({ late: event.target.checked }, undefined, "zero after softmax");
    const off = attention(problemOf(state, own))
      .map((row, i) => [i, sum(row.weights)])
      .filter(([, total]) => Math.abs(total - 1) > 1e-9).map(([i]) => i);
    say(state.late
      ? "Softmax of all scores, then blocked weights set to 0: " + (off.length
        ? `${off.length === 1 ? "row" : "rows"} ${list(off)} no longer ` +
          `${off.length === 1 ? "sums" : "sum"} to 1.`
        : "here every row still sums to 1.")
      : "Mask first, softmax second.");
  });
  $(".seed input").addEventListener("change", (event) => {
    const seed = clamp(Math.round(+event.target.value) || 0, 0, 9999);
    set({ seed }, seed ? `Words are thrown, with dice ${seed}.` : "The likeliest word.");
  });
  $(".cached input").addEventListener("change", (event) => set(
    { cached: event.target.checked },
    event.target.checked ? "Read word by word, with a cache." : "Read all at once."));
  $(".writing").addEventListener("toggle", () => state.mode === "model" && draw());
  details.querySelector("summary").addEventListener("click", (event) => {
    event.preventDefault();
    if (state.step) set({ step: 0 }, "All queries at once.");
    else walk(1);
  });

  function read() {
    const [, id, text] = /^#(play-[0-9a-f]{8})&(.*)$/.exec(location.hash) ?? [];
    if (!addressed || id === undefined) return false;
    const others = document.querySelector(".mattn-playground") === host &&
      !document.getElementById(id);
    if (id !== host.id && !others) return false;
    const tokens = !own && FIRST[id] ? FIRST[id].split(" ") : start.tokens;
    const before = state;
    state = fromAddress(text, { ...start, tokens }, own);
    if (state.mode === "model" && !BASE) state = start;
    past.record(before, state, "the link");
    at = state.mode === "model" ? state.row : at;
    sentence.value = words(state);
    show();
    if (state.mode === "model") opened();
    else if (state.audit) runAudit();
    return true;
  }

  const theme = () => host.toggleAttribute("data-dark", isDark(host));
  const watcher = new MutationObserver(theme);
  for (const watched of [document.documentElement, document.body]) {
    watcher.observe(watched, { attributes: true });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
  new ResizeObserver(matrixes.fit).observe($(".map"));
  new ResizeObserver(matrixes.reach).observe($(".work"));
  window.addEventListener("hashchange", read);
  $("[data-do=copy]").hidden = !addressed;
  // Notebook editors listen for single keys everywhere but here.
  host.setAttribute("data-lm-suppress-shortcuts", "true");
  theme();
  show();
  say("Change the mask, and see what each query makes of it.");
  if (read()) host.scrollIntoView();
}

function mountAll() {
  document.querySelectorAll(".mattn-playground[data-config]").forEach(mount);
}
window.mattnPlayground = { ...core, decoders, load, mount, mountAll };
mountAll();
if (document.readyState === "loading") {
  document.addEventListener("DOMContentLoaded", mountAll);
}

})();

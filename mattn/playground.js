// The mask playground: change a mask and see what masked self-attention does.
//
// First the arithmetic, without a page (Node reads it as a module), then the
// page. Elements <div class="mattn-playground" data-config="…">, as written by
// mattn.plotting.playground, come to life; what stands inside them is for
// readers without scripts. Rows are queries, columns are keys, true = may
// attend. The same functions in Python: mattn.
"use strict";
(() => {
  // ------------------------------------------------------------ arithmetic

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

  // ----------------------------------------------------------------- state

  const VIEWS = ["weights", "scores", "rule"];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const split = (text) => text.split(/\s+/u).filter(Boolean).slice(0, MOST);

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
      tokens: config.tokens, ...best, temperature: 1, late: false,
      view: "weights", row: clamp(config.query, 0, T - 1), step: 0, audit: false,
    };
  }

  function allowedOf({ tokens, preset, n, flips }) {
    const T = tokens.length;
    const allowed = matrix(preset, T, n);
    for (const c of flips) allowed[(c / T) | 0][c % T] = !allowed[(c / T) | 0][c % T];
    return allowed;
  }

  function problemOf(state, own) {
    const { temperature, late } = state;
    return { ...(own ?? project(state.tokens)), allowed: allowedOf(state), temperature, late };
  }

  const KEYS = { // in an address → in the state
    s: "tokens", m: "preset", n: "n", x: "flips", t: "temperature", late: "late",
    show: "view", row: "row", step: "step", audit: "audit",
  };

  // What differs from the start, as a query string.
  function toAddress(state, start) {
    const parts = new URLSearchParams();
    for (const [short, key] of Object.entries(KEYS)) {
      const [now, then] = [state[key], start[key]].map((value) =>
        Array.isArray(value) ? value.join(key === "tokens" ? " " : ".") : `${value}`);
      const needed = key === "n" && state.preset !== start.preset && state.preset in NUMBERS;
      if (now !== then || needed) parts.set(short, now);
    }
    return `${parts}`;
  }

  // The state of an address; what it does not say, or says wrongly, is as at the start.
  function fromAddress(text, start, own) {
    const parts = new URLSearchParams(text);
    const state = { ...start };
    const whole = (short, low, high, otherwise) => {
      const value = parts.get(short);
      return /^\d{1,4}$/.test(value ?? "") ? clamp(+value, low, high) : otherwise;
    };
    if (parts.has("s") && !own) {
      const tokens = split(parts.get("s"));
      if (tokens.length) state.tokens = tokens;
    }
    const T = state.tokens.length;
    const asked = parts.get("m");
    if (asked !== null && Object.hasOwn(RULES, asked)) {
      state.preset = asked;
      state.n = NUMBERS[asked]?.[1] ?? 1;
    }
    state.n = state.preset in NUMBERS ? whole("n", 1, T, clamp(state.n, 1, T)) : 1;
    if (parts.has("x")) {
      const cells = parts.get("x").split(".").filter((c) => /^\d{1,2}$/.test(c));
      state.flips = [...new Set(cells.map(Number))].filter((c) => c < T * T);
      state.flips.sort((a, b) => a - b);
    } else if (T !== start.tokens.length || state.preset !== start.preset || state.n !== start.n) {
      state.flips = [];
    }
    const temperature = parts.get("t");
    if (/^\d(\.\d)?$/.test(temperature ?? "")) {
      state.temperature = clamp(+temperature, 0.2, 4);
    }
    for (const key of ["late", "audit"]) {
      if (parts.has(key)) state[key] = parts.get(key) === "true";
    }
    if (VIEWS.includes(parts.get("show"))) state.view = parts.get("show");
    state.row = clamp(whole("row", 0, T - 1, state.row), 0, T - 1);
    state.step = whole("step", 0, T, 0);
    return state;
  }

  const core = {
    MOST, NUMBERS, RULES, WIDTH, allowedOf, attention, audit, change, decode, embed,
    emptyRow, expression, fromAddress, initial, matrix, multiplications, problemOf,
    project, split, toAddress,
  };

  // ---------------------------------------------------------------- colours

  const CIVIDIS = (
    "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d" +
    "5a5f6e61656f686a716f70737676767d7c788482798c8878938e789b9476a39a74" +
    "aba072b4a76fbcae6cc4b468cdbb63d5c25edec958e7d150f0d846f9e03afee838"
  ).match(/.{6}/g);
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
  Object.assign(core, { CIVIDIS, PUOR, colour });

  if (typeof module === "object" && module.exports) module.exports = core;
  if (typeof document === "undefined") return;

  // ------------------------------------------------------------------- page

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
[hidden] { display: none !important; }
.cell, .wrong, .leak, .pills span { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
@media (prefers-reduced-motion: no-preference) {
  .cell, .steps td.share::before { transition: background-color 0.15s, width 0.15s; }
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
@media print {
  section { color: #000; background: #fff; color-scheme: light; break-inside: avoid; }
  .controls, .bar, .walk button, .hint { display: none; }
  :host([data-dark]) .steps td.share::before { opacity: 0.3; }
  details:not([open]) { display: none; }
  .cell:hover { box-shadow: none; }
}
`;

  const BODY = `
<section aria-label="Mask playground">
  <div class="controls">
    <div><label class="sentence"><span class="label">Sentence, up to ${MOST} tokens, split at
      spaces</span><input type="text" spellcheck="false" autocomplete="off"
      autocapitalize="off"></label></div>
    <div><fieldset class="presets"><legend>Mask</legend><div class="pills"></div></fieldset>
    <label class="number"><span class="label"></span><input type="number" min="1"></label></div>
    <div><fieldset class="views"><legend>Show</legend><div class="pills"></div></fieldset>
    <label class="heat"><span class="label">Temperature <span class="now"></span></span><input
      type="range" min="0.2" max="4" step="0.1"></label>
    <label class="switch"><input type="checkbox">zero after softmax</label></div>
  </div>
  <div class="bar">
    <p role="status" aria-live="polite"></p>
    <button type="button" data-do="audit">Find the leak</button>
    <button type="button" data-do="reset">Reset</button>
    <button type="button" data-do="copy">Copy link</button>
  </div>
  <div class="board">
    <div class="map">
      <p class="rule"><code></code><span></span></p>
      <table class="grid" role="grid"><caption></caption><thead></thead><tbody></tbody></table>
    </div>
    <div class="work"></div>
  </div>
  <details><summary>Decode step by step, with a cache</summary>
    <div class="walk">
      <button type="button" data-do="first">Start over</button>
      <button type="button" data-do="back">Back</button>
      <button type="button" data-do="next">Next token</button>
      <p></p>
    </div>
    <div class="tables"><div class="scroll cache"></div><div class="scroll count"></div></div>
    <p class="note"></p>
  </details>
</section>`;

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
    let cells = [];
    let drawn = ""; // the tokens that the grid was built for
    let timer = 0;

    const sentence = $(".sentence input");
    const grid = $(".grid");
    const status = $("[role=status]");
    const details = $("details");
    const say = (text) => { status.textContent = text; };
    const name = (i) => `${i} “${state.tokens[i]}”`;

    for (const [group, options] of [["presets", Object.keys(RULES)], ["views", VIEWS]]) {
      for (const option of options) {
        const radio = element("input", { type: "radio", name: group, value: option });
        $(`.${group} .pills`).append(
          element("label", {}, radio, element("span", {}, option)),
        );
        radio.addEventListener("click", () =>
          group === "presets" ? choosePreset(option) : chooseView(option));
      }
    }

    // ------------------------------------------------------------- changes

    // Every change of the state passes here; an audit holds for one state.
    function set(changes, text) {
      const stays = Object.keys(changes).every((key) => ["row", "view", "audit"].includes(key));
      state = { ...state, audit: stays && state.audit, ...changes };
      draw();
      if (text !== undefined) say(text);
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

    function choosePreset(preset) {
      const T = state.tokens.length;
      const n = clamp(NUMBERS[preset]?.[1] ?? 1, 1, T);
      const seen = sum(matrix(preset, T, n).map((row) => sum(row.map(Number))));
      set({ preset, n, flips: [] },
        `Mask ${expression(preset, T, n)}: ${seen} of ${several(T * T, "cell")} allowed.`);
    }

    function chooseView(view) {
      set({ view }, SAYS[view]);
    }

    function toggle(i, j) {
      const cell = i * state.tokens.length + j;
      const flips = state.flips.includes(cell)
        ? state.flips.filter((c) => c !== cell)
        : [...state.flips, cell].sort((a, b) => a - b);
      at = j;
      set({ flips, row: i });
      const row = allowedOf(state)[i];
      const n = sum(row.map(Number));
      say(`Query ${name(i)} ${row[j] ? "now sees" : "no longer sees"} key ${name(j)}; it ` +
        `sees ${n ? several(n, "key") : "nothing: an empty row"}.`);
    }

    function chooseRow(row) {
      set({ row }, `Query ${name(row)}, worked out.`);
    }

    function typed() {
      const tokens = split(sentence.value);
      if (!tokens.length) {
        say("A sentence has at least one token; the last one stays.");
        return;
      }
      const T = tokens.length;
      const same = T === state.tokens.length;
      const more = sentence.value.split(/\s+/u).filter(Boolean).length > MOST;
      set({
        tokens, n: clamp(state.n, 1, T), flips: same ? state.flips : [],
        row: Math.min(state.row, T - 1), step: Math.min(state.step, T),
      }, `${several(T, "token")}: ${tokens.join(" ")}.` +
        (more ? ` Only the first ${MOST} count.` : ""));
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

    const audited = () => {
      const problem = problemOf(state, own);
      return audit(problem, change(problem, state.tokens, own));
    };

    function walk(step) {
      const T = state.tokens.length;
      step = clamp(step, 1, T);
      set({ step, row: step - 1 },
        `Step ${step} of ${T}: query ${name(step - 1)}; ${several(step, "key")} and ` +
        `${several(step, "value")} in the cache.`);
    }

    const ACTIONS = {
      audit: runAudit,
      reset: () => {
        at = 0;
        sentence.value = start.tokens.join(" ");
        set({ ...start }, "As at the start.");
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
      first: () => walk(1),
      back: () => walk(state.step - 1),
      next: () => walk(state.step + 1),
    };

    // ------------------------------------------------------------- drawing

    function build() {
      const T = state.tokens.length;
      grid.style.setProperty("--n", T);
      const head = element("tr", {}, element("th", { scope: "col" },
        "key →", element("br"), "query ↓"));
      state.tokens.forEach((token, j) => {
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
      grid.tBodies[0].replaceChildren(...state.tokens.map((token, i) => {
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

    function draw() {
      const T = state.tokens.length;
      const problem = problemOf(state, own);
      const { allowed } = problem;
      const rows = attention(problem);
      const steps = decode(problem);
      const found = state.audit ? audited() : null;
      const deciding = state.step > 0;
      at = Math.min(at, T - 1);

      if (shadow.activeElement !== sentence) sentence.value = state.tokens.join(" ");
      const key = JSON.stringify(state.tokens);
      if (key !== drawn) build();
      drawn = key;

      $(`.presets input[value=${state.preset}]`).checked = true;
      $(`.views input[value=${state.view}]`).checked = true;
      $(".switch input").checked = state.late;
      $(".heat input").value = state.temperature;
      $(".heat input").setAttribute("aria-valuetext", state.temperature.toFixed(1));
      $(".now").textContent = state.temperature.toFixed(1);
      const [what] = NUMBERS[state.preset] ?? [];
      $(".number").hidden = !what;
      $(".number .label").textContent = what ?? "";
      $(".number input").max = T;
      if (shadow.activeElement !== $(".number input")) $(".number input").value = state.n;

      $(".rule code").textContent = expression(state.preset, T, state.n);
      $(".rule span").textContent =
        state.flips.length ? `, ${several(state.flips.length, "cell")} changed` : "";
      grid.caption.replaceChildren(SAYS[state.view], element("span", { className: "hint" },
        " Click a cell, or press space on it, to change it."));

      const limit = Math.max(1e-9, ...rows.flatMap((row, i) =>
        row.scores.filter((_, j) => allowed[i][j]).map(Math.abs)));
      [...grid.tBodies[0].rows].forEach((line, i) => {
        const shown = deciding ? steps[i] : rows[i];
        const later = deciding && i >= state.step;
        line.classList.toggle("chosen", i === state.row);
        range(T).forEach((j) => {
          const absent = later || (deciding && j > i);
          paint(cells[i][j], i, j, { allowed, shown, absent, limit });
        });
        const total = sum(shown.weights);
        const sums = line.querySelector(".sum");
        sums.textContent = later ? "" : number(total, 2);
        const wrong = !later && state.late && Math.abs(total - 1) > 1e-9;
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
      const value = absent ? 0 : shown[state.view === "scores" ? "scores" : "weights"][j];
      let look = { fill: "", ink: "" };
      let text = "";
      let said = `${state.view === "scores" ? "score" : "weight"} ${number(value, 2)}`;
      if (absent) said = "not there yet";
      else if (!may) text = state.view === "scores" ? "−∞" : "";
      else if (state.view === "rule") {
        [look, text] = [{ fill: "#0072B2", ink: "#fff" }, "✓"];
      } else {
        look = state.view === "scores"
          ? colour(PUOR, (value / limit + 1) / 2) : colour(CIVIDIS, value);
        text = number(value, 2);
      }
      cell.className = `cell${absent ? " later" : may ? "" : " blocked"}`;
      cell.style.background = may && !absent ? look.fill : "";
      cell.style.color = may && !absent ? look.ink : "";
      cell.textContent = text;
      cell.tabIndex = i === state.row && j === at ? 0 : -1;
      cell.setAttribute("aria-label",
        `query ${name(i)}, key ${name(j)}: ${may ? "allowed" : "blocked"}` +
        (may || absent ? `, ${said}` : ""));
    }

    // The chosen row: score → + mask → exp → ÷ sum, with the numbers.
    function drawWork(rows, steps, allowed) {
      const i = state.row;
      const row = state.step > 0 ? steps[i] : rows[i];
      const seen = range(row.scores.length);
      const label = (j) => `${j} ${state.tokens[j]}`;
      const title = `Query ${name(i)}, worked out: score = q·k / √` +
        `${(own ?? { q: [range(WIDTH)] }).q[0].length}` +
        (state.temperature === 1 ? "" : ` / ${state.temperature.toFixed(1)}`);
      const heads = ["exp(·\u00a0−\u00a0max)", "÷\u00a0sum"];
      const bar = (value) => element("span", {}, number(value, 3));
      const out = element("p", { className: "out" },
        "Output, Σ weight · value: ", element("span", {}, vector(row.out)));
      let made;
      const notes = [];
      if (!seen.some((j) => allowed[i][j]) && !state.late) {
        const policies = emptyRow(row.scores);
        made = table("steps", `Query ${name(i)}: an empty row, four answers`,
          ["key", "score", "−∞", "−10⁹ filled", "−10⁴ added", "mattn"],
          seen.map((j) => [label(j), number(row.scores[j], 2),
            ...Object.values(policies).map((weights) => number(weights[j], 2))]),
          [["sum", "", ...Object.values(policies).map((weights) => number(sum(weights), 2))]]);
        notes.push("This query may see nothing. −∞ gives 0 ÷ 0. −10⁹ filled in gives all keys " +
          "the same weight. −10⁴ added to every score cancels: as if there were no mask. mattn " +
          "gives weights and output of exactly 0.");
      } else if (state.late) {
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
      const T = state.tokens.length;
      const t = state.step;
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
        range(T).map((i) => [`${i} ${state.tokens[i]}`,
          i < t ? vector(problem.k[i]) : "–", i < t ? vector(problem.v[i]) : "–"])));
      const [D, Dv] = [problem.q[0].length, problem.v[0].length];
      const costs = range(t).map((i) => multiplications(i + 1, D, Dv, own ? 0 : WIDTH));
      const total = (kind) => thousands(sum(costs.map((cost) => cost[kind])));
      $(".count").replaceChildren(table("steps", "Multiplications",
        ["", "this step", "so far"],
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

    // -------------------------------------------------------------- events

    sentence.readOnly = own !== null;
    if (own) $(".sentence .label").textContent = "Sentence (fixed: q, k and v are your own)";
    sentence.addEventListener("input", typed);
    sentence.addEventListener("change", () => { sentence.value = state.tokens.join(" "); });
    $(".number input").addEventListener("input", (event) => {
      const T = state.tokens.length;
      const n = Math.round(+event.target.value);
      if (!(n >= 1 && n <= T)) return;
      set({ n, flips: [] }, `Mask ${expression(state.preset, T, n)}.`);
    });
    $(".number input").addEventListener("change", (event) => { event.target.value = state.n; });
    $(".heat input").addEventListener("input", (event) =>
      set({ temperature: +event.target.value }));
    $(".heat input").addEventListener("change", () => {
      const largest = Math.max(...attention(problemOf(state, own))[state.row].weights);
      say(`Temperature ${state.temperature.toFixed(1)}: the largest weight of query ` +
        `${name(state.row)} is ${number(largest, 2)}.`);
    });
    $(".switch input").addEventListener("change", (event) => {
      set({ late: event.target.checked });
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
    shadow.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button && button.getAttribute("aria-disabled") !== "true") {
        ACTIONS[button.dataset.do]();
      }
      const cell = event.target.closest("[data-cell]");
      if (cell) {
        const [i, j] = cell.dataset.cell.split(",").map(Number);
        toggle(i, j);
        cells[i][j].focus({ preventScroll: true });
      }
      const head = event.target.closest(".grid tbody th");
      if (head) chooseRow(head.parentElement.sectionRowIndex);
    });
    grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest("[data-cell]");
      if (!cell || event.altKey || event.metaKey) return;
      const last = state.tokens.length - 1;
      let [i, j] = cell.dataset.cell.split(",").map(Number);
      if (event.key === " " || event.key === "Enter") toggle(i, j);
      else {
        if (event.key === "ArrowUp") i--;
        else if (event.key === "ArrowDown") i++;
        else if (event.key === "ArrowLeft") j--;
        else if (event.key === "ArrowRight") j++;
        else if (event.key === "Home") [i, j] = [event.ctrlKey ? 0 : i, 0];
        else if (event.key === "End") [i, j] = [event.ctrlKey ? last : i, last];
        else return;
        at = clamp(j, 0, last);
        set({ row: clamp(i, 0, last) });
      }
      event.preventDefault();
      event.stopPropagation();
      cells[state.row][at].focus();
    });
    details.querySelector("summary").addEventListener("click", (event) => {
      event.preventDefault();
      if (state.step) set({ step: 0 }, "All queries at once.");
      else walk(1);
    });

    function read() {
      const mark = `#${host.id}&`;
      if (!addressed || !location.hash.startsWith(mark)) return false;
      state = fromAddress(location.hash.slice(mark.length), start, own);
      draw();
      if (state.audit) runAudit();
      return true;
    }

    const theme = () => host.toggleAttribute("data-dark", isDark(host));
    const watcher = new MutationObserver(theme);
    for (const watched of [document.documentElement, document.body]) {
      watcher.observe(watched, { attributes: true });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
    new ResizeObserver(fit).observe($(".map"));
    new ResizeObserver(reach).observe($(".work"));
    window.addEventListener("hashchange", read);
    $("[data-do=copy]").hidden = !addressed;
    // Notebook editors listen for single keys everywhere but here.
    host.setAttribute("data-lm-suppress-shortcuts", "true");
    theme();
    draw();
    say("Change the mask, and see what each query makes of it.");
    if (read()) host.scrollIntoView();
  }

  function mountAll() {
    document.querySelectorAll(".mattn-playground[data-config]").forEach(mount);
  }
  window.mattnPlayground = { ...core, mount, mountAll };
  mountAll();
  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", mountAll);
  }
})();

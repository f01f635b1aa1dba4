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

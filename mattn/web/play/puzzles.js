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

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

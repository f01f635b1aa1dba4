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

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
  let cells = [];
  let drawn = ""; // the tokens that the grid was built for
  let timer = 0;
  const past = timeline();
  let stroke = null; // what the mouse is painting: { value, layer of cells done }
  let later = ""; // said after what a change says of itself

  const sentence = $(".sentence input");
  const grid = $(".grid");
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
  };
  const model = modelView(play);
  const puzzles = puzzleView(play, model);

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

  const shownMask = () => allowedOf(state, state.layer === "2" ? 1 : 0);
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

  const audited = () => {
    const problem = problemOf(state, own);
    return audit(problem, change(problem, state.tokens, own));
  };

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

  const ACTIONS = {
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
      drawSmall();
    } else drawHash();
  }

  // The whole matrix of a short text, with the weights of the chosen head.
  function drawSmall() {
    const T = state.tokens.length;
    if (T > MOST + 2 || !model.ready()) return;
    rebuild();
    grid.caption.replaceChildren(`Layer ${(state.head >> 1) + 1}, head ` +
      `${(state.head & 1) + 1}: ${SAYS[state.view]}`);
    const allowed = shownMask();
    const weights = model.answer().weights[state.head >> 1][state.head & 1];
    [...grid.tBodies[0].rows].forEach((line, i) => {
      line.classList.toggle("chosen", i === state.row);
      range(T).forEach((j) => paint(cells[i][j], i, j, { allowed,
        shown: { weights: weights[i], scores: weights[i] }, absent: false, limit: 1 }));
      line.querySelector(".sum").textContent = number(sum(weights[i]), 2);
    });
  }

  function rebuild() {
    const key = JSON.stringify(state.tokens);
    if (key !== drawn) build();
    drawn = key;
  }

  function drawHash() {
    const T = state.tokens.length;
    const problem = problemOf(state, own);
    const { allowed } = problem;
    const rows = attention(problem);
    const steps = decode(problem);
    const found = state.audit ? audited() : null;
    const deciding = state.step > 0;
    rebuild();
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
  shadow.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button && button.getAttribute("aria-disabled") !== "true") {
      ACTIONS[button.dataset.do]();
    }
    const cell = event.target.closest("[data-cell]");
    if (cell && !painted) {
      const [i, j] = placeOf(cell);
      toggle(i, j, event);
      focusCell(cell, i, j);
    }
    painted = false;
    const head = event.target.closest(".grid tbody th");
    if (head) chooseRow(head.parentElement.sectionRowIndex);
    const looks = event.target.closest("[data-head]");
    if (looks) set({ head: +looks.dataset.head }, `${looks.innerText.replace(/\n/g, ": ")}.`);
    const word = event.target.closest("[data-word]");
    if (word) model.hangs(word.dataset.word);
    const goal = event.target.closest("[data-goal]");
    if (goal) puzzles.begin(+goal.dataset.goal);
    const map = event.target.closest(".where svg");
    if (map) {
      const { top, height } = map.getBoundingClientRect();
      const T = state.tokens.length;
      const row = Math.floor((event.clientY - top) / height * (T + 1) - 0.5);
      walkRow(clamp(row, 0, T - 1) - state.row);
    }
  });

  // ------------------------------------------------ painting with the mouse

  let painted = false; // a click that ends a stroke changes nothing more
  const placeOf = (cell) => cell.dataset.cell.split(",").map(Number);
  function focusCell(cell, i, j) {
    if (cell.closest(".strip")) model.focus(j);
    else cells[i][j].focus({ preventScroll: true });
  }
  shadow.addEventListener("pointerdown", (event) => {
    const cell = event.target.closest("[data-cell]");
    painted = false;
    if (!cell || event.button || event.pointerType === "touch") return;
    const [i, j] = placeOf(cell);
    stroke = { value: !shownMask()[i][j], name: `stroke ${event.timeStamp}`,
      done: new Set([cell.dataset.cell]), strip: cell.closest(".strip") !== null };
    toggle(i, j, event, stroke.value, stroke.name);
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
    toggle(...placeOf(cell), {}, stroke.value, stroke.name);
  });
  window.addEventListener("pointerup", () => {
    if (stroke && stroke.done.size > 1) {
      say(`${several(stroke.done.size, "cell")} ${stroke.value ? "allowed" : "blocked"}.` +
        (state.mode === "model" && model.ready() ? ` Next word: ${model.top(state.row)}.` : ""));
    }
    stroke = null;
  });

  // ------------------------------------------------------------------- keys

  shadow.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
      go(key === "y" || event.shiftKey ? "redo" : "undo");
      event.preventDefault();
    } else if (event.key === "Escape" && model.playing) {
      model.stop();
      say("Stopped.");
    } else if (event.key === "?" && event.target.localName !== "input") {
      ACTIONS.keys();
    } else return;
    event.stopPropagation();
  });
  $(".strip").addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-cell]");
    if (!cell || event.ctrlKey || event.metaKey) return;
    const last = state.tokens.length - 1;
    const [i, j] = placeOf(cell);
    const to = { ArrowLeft: j - 1, ArrowRight: j + 1, Home: 0, End: last }[event.key];
    if (event.key === " " || event.key === "Enter") toggle(i, j, event);
    else if (event.key === "ArrowUp") walkRow(-1);
    else if (event.key === "ArrowDown") walkRow(1);
    else if (to === undefined) return;
    else {
      at = clamp(to, 0, last);
      model.draw();
    }
    event.preventDefault();
    event.stopPropagation();
    model.focus(at);
  });
  $(".seed input").addEventListener("change", (event) => {
    const seed = clamp(Math.round(+event.target.value) || 0, 0, 9999);
    set({ seed }, seed ? `Words are thrown, with dice ${seed}.` : "The likeliest word.");
  });
  $(".cached input").addEventListener("change", (event) => set(
    { cached: event.target.checked },
    event.target.checked ? "Read word by word, with a cache." : "Read all at once."));
  $(".writing").addEventListener("toggle", () => state.mode === "model" && draw());
  grid.addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-cell]");
    if (!cell || event.metaKey) return;
    const last = state.tokens.length - 1;
    let [i, j] = cell.dataset.cell.split(",").map(Number);
    if (event.key === " " || event.key === "Enter") toggle(i, j, event);
    else if (event.altKey) return;
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
  new ResizeObserver(fit).observe($(".map"));
  new ResizeObserver(reach).observe($(".work"));
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

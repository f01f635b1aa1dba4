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

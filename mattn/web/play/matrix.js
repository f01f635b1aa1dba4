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

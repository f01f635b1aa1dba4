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

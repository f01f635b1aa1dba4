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

// Widgets of the chapters: shows the state that the controls of a widget say.
//
// book/site/states.py computes every state and book/site/widgets.py writes the page;
// here is no arithmetic. Tested in tests/book/test_widgets.py, in a browser too.
(() => {
  "use strict";

  const host = document.currentScript.previousElementSibling;
  const { states } = JSON.parse(host.dataset.config);
  const live = host.querySelector(".live");
  const controls = [...live.querySelectorAll("[name]")];
  const CELLS = {
    1: ["allowed", "✓", "allowed"], 0: ["blocked", "", "blocked"],
    x: ["leak", "✕", "leak"], ".": ["", "", "not asked"],
  };

  function value(control) {
    return control.type === "checkbox" ? Number(control.checked) : control.value;
  }

  // What a slider stands for: not its place, but the word or number there.
  function name(slider) {
    const said = JSON.parse(slider.dataset.values)[slider.value];
    slider.closest("label").querySelector("b").textContent = said;
    slider.setAttribute("aria-valuetext", said);
  }

  function fill(cell, sign) {
    const [kind, seen, said] = CELLS[sign];
    cell.className = kind;
    cell.innerHTML = `<span aria-hidden="true">${seen}</span><span class="unseen">${said}</span>`;
  }

  function draw() {
    const { bars, grid, says } = states[controls.map(value).join(" ")];
    live.querySelectorAll("[type=range]").forEach(name);
    bars?.forEach(([p, said], i) => {
      const [, bar, number] = live.querySelectorAll("table:not(.grid) tbody tr")[i].cells;
      bar.firstChild.style.setProperty("--p", p);
      number.textContent = said;
    });
    grid?.forEach((signs, i) => {
      const cells = live.querySelectorAll(".grid tbody tr")[i].querySelectorAll("td");
      cells.forEach((cell, j) => fill(cell, signs[j]));
    });
    live.querySelector(".says").innerHTML = says;
  }

  live.addEventListener("input", draw);
  live.addEventListener("click", ({ target }) => {
    if (!target.dataset.of) return;
    target.value = (Number(target.value) + 1) % Number(target.dataset.of);
    draw();
  });
  host.classList.add("alive");
  draw();
})();

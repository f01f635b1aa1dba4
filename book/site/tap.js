// The first thing to touch on the first page: which word tells you how it goes on?
//
// book/site/tap.py computes every number, arrow and sentence; this script shows those
// that a reader asks for. Four beats: a guess is answered, the two nouns change their
// number, the card is lifted, and put back. tests/book/test_tap.py works it in a
// browser and holds what it shows against Python.
(() => {
  "use strict";

  const host = document.currentScript.previousElementSibling;
  const { acts, asks, answers, states } = JSON.parse(host.dataset.config);
  const $ = (selector) => host.querySelector(`.live ${selector}`);
  const buttons = [...host.querySelectorAll(".live button.word")];
  const changed = { [acts]: false, [asks]: false };
  let lifted = false;

  buttons.forEach((button, i) => button.addEventListener("click", () => tap(i)));
  $(".lift").addEventListener("click", lift);
  host.classList.add("alive");

  function tap(i) {
    if (!host.classList.contains("answered")) {
      host.classList.add("answered");
      buttons.forEach((button, j) => {
        if (!(j in changed)) button.setAttribute("aria-disabled", "true");
      });
      draw(answers[i]);
    } else if (i in changed) {
      changed[i] = !changed[i];
      host.classList.add("changed");
      draw();
    }
  }

  function lift() {
    lifted = !lifted;
    host.classList.toggle("lifted", lifted);
    $(".lift").textContent = lifted ? "Put the card back" : "Lift the card";
    draw();
  }

  function draw(answer) {
    const state = states[[changed[acts], changed[asks], lifted].map(Number).join("")];
    buttons.forEach((button, i) => { button.textContent = state.words[i]; });
    $(".last > span").innerHTML = lifted
      ? state.words.at(-1) : '<span class="unseen">a covered word</span>';
    $("svg").innerHTML = state.arrows;
    $(".most").textContent = state.most;
    $(".most").style.cssText = state.place;
    [...$("tbody").rows].forEach((row, i) => {
      const [p, said] = state.bars[i];
      row.cells[1].firstChild.style.setProperty("--p", p);
      row.cells[2].textContent = said;
    });
    $("[role=status]").innerHTML = answer ?? state.says;
  }
})();

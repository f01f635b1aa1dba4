// Predict: answers to choose from before a fold opens.
//
// book/site/choices.py marks the questions of a page. Here each answer becomes a
// button: who presses one is told whether it is right, or else what it believes, which
// the fold says; then the fold opens, and what the code beside it put out. Tested in
// tests/book/test_choices.py.
(() => {
  "use strict";

  const FOLDS = "details, .mattn-choices";
  const letter = (element) => element.textContent.trim().match(/^\(([a-h])\)/)?.[1];
  const isOutput = (fold) => fold.matches(".cell.tag_hide-output details");

  // Below the question: outputs that are folded, up to the answer, and the next one
  // if it stands right behind the answer.
  function foldsOf(list) {
    const all = [...document.querySelectorAll(FOLDS)];
    const below = all.slice(all.indexOf(list) + 1);
    const answer = below.findIndex((fold) => !fold.matches(".hide"));
    const next = below[answer].nextElementSibling?.querySelector("details.hide");
    return {
      answer: below[answer],
      outputs: [...below.slice(0, answer), next].filter((fold) => fold && isOutput(fold)),
    };
  }

  function answered(list, says, item) {
    const { answer, outputs } = foldsOf(list);
    const right = list.dataset.right;
    const believes = [...answer.querySelectorAll("li")]
      .find((line) => letter(line) === letter(item));
    for (const other of list.children) {
      other.querySelector("button").setAttribute("aria-pressed", `${other === item}`);
    }
    if (letter(item) === right) says.textContent = `(${right}) is right.`;
    else if (believes) says.innerHTML = `No: ${believes.firstElementChild.innerHTML}`;
    else says.textContent = `No, it was not (${letter(item)}), but (${right}).`;
    for (const fold of [answer, ...outputs]) fold.open = true;
  }

  for (const list of document.querySelectorAll(".mattn-choices")) {
    const says = document.createElement("p");
    says.className = "mattn-choices-says";
    says.role = "status";
    list.after(says);
    for (const item of list.children) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.append(...item.firstElementChild.childNodes);
      item.replaceChildren(button);
      item.classList.toggle("right", letter(item) === list.dataset.right);
      button.addEventListener("click", () => answered(list, says, item));
    }
    list.classList.add("alive");
  }
})();

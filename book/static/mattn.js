// What a page does on every screen: wide formulas are set smaller, what is still
// too wide shows that it scrolls and is reached by keyboard, tables of text become
// cards on a phone, a side bar that closes gives the focus back.
// Tested in tests/book/test_published.py.
"use strict";
(() => {
  const SMALLEST = 0.7; // of its size; a formula that needs less scrolls
  const LONG = 24; // characters in a cell: a table that has one is text
  const SCROLLS =
    "article :is(mjx-container[display], span.math, pre, .output, " +
    ".mattn-scroll, .pst-scrollable-table-container)";

  function fit(formula) {
    formula.dataset.size ??= formula.style.fontSize || "100%";
    formula.style.fontSize = formula.dataset.size;
    const share = formula.clientWidth / formula.scrollWidth;
    if (share >= 1) return;
    const smaller = Math.max(0.99 * share, SMALLEST);
    formula.style.fontSize = `calc(${formula.dataset.size} * ${smaller})`;
  }

  // At which edges of a box there is more; data-more is what the style sheet reads.
  // In a line a formula overhangs by its slanted letters: only its width counts.
  function mark(box) {
    const inline = box.matches("span") && box.querySelector("mjx-math");
    const beyond = (inline ? inline.offsetWidth : box.scrollWidth) - box.clientWidth;
    const left = box.scrollLeft;
    const more = [left > 1 && "left", beyond - left > 1 && "right"].filter(Boolean);
    if (more.length) box.dataset.more = more.join(" ");
    else delete box.dataset.more;
    if (beyond > 0) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }

  const widths = new WeakMap();
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const width = target.clientWidth;
      if (target.matches("mjx-container") && widths.get(target) !== width) fit(target);
      widths.set(target, width);
      mark(target);
    }
  });

  const scrolled = ({ currentTarget }) => mark(currentTarget);
  function watch() {
    for (const box of document.querySelectorAll(SCROLLS)) {
      watcher.observe(box);
      box.addEventListener("scroll", scrolled, { passive: true });
    }
  }

  // Three columns of text are too narrow on a phone. Roles are written out: a
  // table whose parts are blocks is none to assistive technology.
  function cards(table) {
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((e) => e.innerText.trim());
    const cells = [...table.querySelectorAll("tbody :is(td, th)")];
    if (heads.length < 3 || !cells.some((e) => e.textContent.length > LONG)) return;
    table.classList.add("mattn-cards");
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody")) part.role = "rowgroup";
    for (const row of table.rows) row.role = "row";
    for (const cell of cells) {
      cell.role = cell.tagName === "TH" ? "rowheader" : "cell";
      if (heads[cell.cellIndex]) cell.dataset.column = heads[cell.cellIndex];
    }
  }

  // The theme closes a side bar and moves what is in it, the focus too.
  function giveBack(name) {
    const toggle = document.querySelector(`.${name}-toggle`);
    const bar = document.getElementById(`pst-${name}-sidebar-modal`);
    bar?.addEventListener("close", () => setTimeout(() => toggle?.focus()));
  }

  document.querySelectorAll("article table").forEach(cards);
  ["primary", "secondary"].forEach(giveBack);
  watch();
  window.addEventListener("load", () => {
    window.MathJax?.startup?.promise?.then(watch);
  });
})();

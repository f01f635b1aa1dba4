// The atlas: filter its rows by words, and sort them by a column.
//
// book/site/atlas.py puts this behind the table of the page, which is whole without it.
// tests/book/test_atlas_page.py works it in a browser.
(() => {
  "use strict";

  const host = document.currentScript.previousElementSibling;
  const body = host.querySelector("tbody");
  const rows = [...body.rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const bar = document.createElement("p");
  bar.className = "controls";
  bar.innerHTML = '<label>Show what says <input type="search"></label> ' +
    '<label><input type="checkbox"> masks alone</label> ' +
    '<span role="status" aria-live="polite"></span>';
  host.before(bar);
  const [words, alone] = bar.querySelectorAll("input");
  const told = bar.querySelector("span");

  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/u).filter(Boolean);
    rows.forEach((row, i) => {
      row.hidden = !asked.every((word) => texts[i].includes(word)) ||
        (alone.checked && row.dataset.kind !== "mask");
    });
    told.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }
  words.addEventListener("input", filter);
  alone.addEventListener("change", filter);

  // A text that begins with a number is sorted by it, after texts without.
  const keyOf = (row, column) => {
    const key = row.cells[column].dataset.sort;
    const number = parseFloat(key.replace(/,/gu, ""));
    return Number.isNaN(number) ? [0, 0, key] : [1, number, key];
  };
  const heads = [...host.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = rows.map((row) => [keyOf(row, column), row]).sort(([a], [b]) =>
        (a[0] - b[0] || a[1] - b[1] || a[2].localeCompare(b[2])) * (down ? -1 : 1));
      body.append(...sorted.map(([, row]) => row));
    });
  });
  filter();
})();

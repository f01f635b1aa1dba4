// Words and symbols that light up the cells of which they speak.
//
// book/site/lights.py makes links of the words, and tells where the grids of a figure
// lie. While a link is pointed at or has the focus, its cells are outlined, and so is
// what it names in the formula above it; to point at that symbol does the same. Tested
// in tests/book/test_lights.py.
(() => {
  "use strict";

  const links = [...document.querySelectorAll(".mattn-lights")];
  const NAME = /^mjx-c([0-9A-F]+)$/;
  let lit = [];

  function range(part, n) {
    if (part === "*") return [...Array(n).keys()];
    const [first, last = first] = part.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  }

  function outline(link) {
    const figure = document.getElementById(link.hash.slice(1));
    const svg = figure?.querySelector("svg[data-grids]");
    const grid = svg?.dataset.grids.split(";")[link.dataset.grid];
    if (!grid) return;
    const [x, y, side, rows, columns] = grid.split(" ").map(Number);
    for (const pair of link.dataset.cells.split(" ")) {
      const [i, j] = pair.split(",");
      const [down, across] = [range(i, rows), range(j, columns)];
      const box = document.createElementNS(svg.namespaceURI, "rect");
      const place = {
        x: x + across[0] * side, y: y + down[0] * side,
        width: across.length * side, height: down.length * side,
      };
      Object.entries(place).forEach(([name, value]) => box.setAttribute(name, value));
      box.classList.add("mattn-lit");
      svg.append(box);
      lit.push(box);
    }
  }

  // A letter that MathJax drew: its code is in its class.
  const drawn = (element) => [...element.querySelectorAll("mjx-c")];
  function letter(glyph) {
    const code = [...glyph.classList].map((name) => name.match(NAME)?.[1]).find(Boolean);
    return code ? String.fromCodePoint(parseInt(code, 16)).normalize("NFKC") : "";
  }

  // The letters of what a link names, in the last formula before it.
  function symbol(link) {
    const before = [...document.querySelectorAll("article div.math")].filter((formula) =>
      link.compareDocumentPosition(formula) & Node.DOCUMENT_POSITION_PRECEDING);
    const glyphs = before.length ? drawn(before.at(-1)) : [];
    const own = drawn(link);
    const name = own.length ? own.map(letter).join("") : link.textContent.trim();
    const text = glyphs.map(letter);
    for (let i = 0; i < glyphs.length; i++) {
      let end = i, found = "";
      while (end < glyphs.length && found.length < name.length) found += text[end++];
      if (found === name) return glyphs.slice(i, end);
    }
    return [];
  }

  function dark() {
    for (const element of lit) {
      if (element.matches("rect")) element.remove();
      else element.classList.remove("mattn-lit");
    }
    lit = [];
  }

  function light(link) {
    dark();
    outline(link);
    for (const element of [link, ...symbol(link)]) {
      element.classList.add("mattn-lit");
      lit.push(element);
    }
  }

  for (const link of links) {
    for (const on of ["pointerenter", "focus"]) link.addEventListener(on, () => light(link));
    for (const off of ["pointerleave", "blur"]) link.addEventListener(off, dark);
  }
  document.querySelector("article").addEventListener("pointerover", ({ target }) => {
    const glyph = target.closest("div.math mjx-c");
    if (glyph?.classList.contains("mattn-lit")) return;
    const link = glyph && links.find((one) => symbol(one).includes(glyph));
    if (link) light(link);
    else if (!target.closest(".mattn-lights") && !document.activeElement.matches(".mattn-lights")) dark();
  });
})();

"""What is wrong with the figures of a page as a browser shows it, in any theme."""

# A figure lies on no ground of its own, what it has drawn covers no more of it than
# cells do, none of its text is below 11 pixels, and all of it can be read on what
# lies under it: 4.5 to 1, a single sign 3 to 1. In the dark, what is blocked is
# darker than what is allowed. Tables and samples lie on the ground of the page, too.
# What a piece shows on paper and without scripts is looked at in its place.
FIGURES = """() => {
  const faults = [];
  const alive = [...document.querySelectorAll(".mattn-piece.alive")];
  for (const piece of alive) piece.classList.remove("alive");
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const clear = (e) => rgb(getComputedStyle(e).backgroundColor)[3] === 0;
  const ground = getComputedStyle(document.body).backgroundColor;
  const dark = document.documentElement.dataset.theme === "dark";
  for (const figure of document.querySelectorAll("article .mattn-figure")) {
    const say = (fault) => faults.push(`${figure.ariaLabel?.slice(0, 40)}: ${fault}`);
    for (let e = figure; e.tagName !== "ARTICLE"; e = e.parentElement) {
      if (!clear(e)) say(`${e.tagName} has a ground`);
    }
    const { width, height } = figure.viewBox.baseVal;
    const scale = figure.getBoundingClientRect().width / width;
    const shapes = [...figure.querySelectorAll("path, rect")].filter((shape) =>
      !shape.closest("defs") && getComputedStyle(shape).fill.startsWith("rgb"));
    for (const shape of shapes) {
      const box = shape.getBBox();
      const all = box.width * box.height > 0.95 * width * height;
      if (all && contrast(getComputedStyle(shape).fill, ground) > 3) {
        say("a shape is as large as the figure");
      }
    }
    for (const text of figure.querySelectorAll("text")) {
      const style = getComputedStyle(text), box = text.getBBox();
      const size = parseFloat(style.fontSize) * scale;
      if (size < 10.95) say(`${text.textContent}: ${size.toFixed(1)} px`);
      if (text.hasAttribute("transform")) continue;
      const middle = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
      const below = shapes.filter((shape) => shape.isPointInFill(middle)).at(-1);
      const under = below ? getComputedStyle(below).fill : ground;
      const least = text.textContent.length === 1 ? 3 : 4.5;
      const found = contrast(style.fill, under);
      if (found < least) say(`${text.textContent}: ${found.toFixed(1)} to 1`);
    }
    const [allowed, blocked] = ["allowed", "blocked"].map((name) =>
      shapes.find((shape) => shape.getAttribute("style")?.includes(`mattn-${name},`)));
    if (dark && allowed && blocked) {
      const [a, b] = [allowed, blocked].map((e) => light(getComputedStyle(e).fill));
      if (b >= a) say("what is blocked is brighter than what is allowed");
    }
  }
  for (const table of document.querySelectorAll("article [class^=mattn-t]")) {
    for (let e = table; e.tagName !== "ARTICLE"; e = e.parentElement) {
      if (!clear(e)) faults.push(`${e.tagName} of a table has a ground`);
    }
    for (const cell of table.querySelectorAll("caption, th, td")) {
      const found = contrast(getComputedStyle(cell).color, ground);
      if (found < 4.5) faults.push(`${cell.textContent}: ${found.toFixed(1)} to 1`);
    }
  }
  for (const piece of alive) piece.classList.add("alive");
  return faults;
}"""

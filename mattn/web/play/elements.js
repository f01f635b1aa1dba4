// Pieces of a page: elements, tables, numbers as they are read. What they make is seen
// in tests/book/test_playground_browser.py.

const SAYS = {
  weights: "Weights: row = query, column = key, hatched = blocked.",
  scores: "Scores + mask: row = query, column = key. Blocked scores become −∞.",
  rule: "Rule: ✓ = the query of this row may see the key of this column.",
};

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") {
      made.setAttribute(name, value);
    } else made[name] = value;
  }
  made.append(...children);
  return made;
}

function table(name, caption, heads, rows, foot = []) {
  const line = (cells, tag) => element("tr", {}, ...cells.map((cell, i) => {
    const properties = tag === "th" ? { scope: "col" } : i === 0 ? { scope: "row" } : {};
    const made = element(tag === "th" || i === 0 ? "th" : "td", properties);
    made.append(cell);
    return made;
  }));
  const made = element("table", { className: name }, element("caption", {}, caption));
  made.append(
    element("thead", {}, line(heads, "th")),
    element("tbody", {}, ...rows.map((row) => line(row, "td"))),
  );
  if (foot.length) made.append(element("tfoot", {}, ...foot.map((row) => line(row, "td"))));
  return made;
}

// Is the text around it light, so the page dark? Whoever made the page dark.
function isDark(host) {
  const rgb = getComputedStyle(host).color.match(/[\d.]+/g) ?? [0, 0, 0];
  return dot(rgb.slice(0, 3).map(Number), [0.299, 0.587, 0.114]) > 127.5;
}

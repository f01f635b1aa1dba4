// Numbers and lists as they are read: seen wherever a page is read.

const minus = (text) => text.replace("-", "−");
function number(value, digits) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const text = value.toFixed(digits);
  return minus(+text === 0 ? text.replace("-", "") : text);
}
const vector = (values) => {
  const shown = values.slice(0, 4).map((value) => number(value, 2));
  return `(${shown.join(", ")}${values.length > 4 ? ", …" : ""})`;
};
const thousands = (n) => `${n}`.replace(/\B(?=(\d{3})+$)/g, " ");
const list = (items) =>
  items.length < 2 ? `${items}` : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
const several = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
// A share of 1 with three digits; what is nearly all or nearly nothing says so.
const shared = (p) => (p < 0.001 ? "< 0.001" : p > 0.999 ? "> 0.999" : p.toFixed(3));

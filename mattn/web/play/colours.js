// Colours of weights and scores, those of the figures: tests/package/test_playground.py.

const HUE = ("fefefe" + "0071b1").match(/.{6}/g);
const PUOR = (
  "7f3b08b25706e08214fcb761fee0b6f6f6f7d8daebb1aad18073ac5326872d004b"
).match(/.{6}/g);

// The colour at 0 … 1 of a map, between its two nearest stops, and its ink.
function colour(stops, at) {
  const x = clamp(at, 0, 1) * (stops.length - 1);
  const i = Math.min(Math.floor(x), stops.length - 2);
  const rgb = [0, 2, 4].map((c) => {
    const [a, b] = [stops[i], stops[i + 1]].map((s) => parseInt(s.slice(c, c + 2), 16));
    return Math.round(a + (b - a) * (x - i));
  });
  const linear = rgb.map((c) => (c / 255) ** 2.2);
  const dark = dot(linear, [0.2126, 0.7152, 0.0722]) < 0.18;
  return { fill: `rgb(${rgb.join(", ")})`, ink: dark ? "#fff" : "#000" };
}


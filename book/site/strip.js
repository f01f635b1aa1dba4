// The strip of the first page: press a word, and the model may not look back at it.
//
// book/site/strip.py writes the page and what it says without scripts. This script
// turns the words into buttons, loads decoder.js and the weights once the strip is
// near the screen, and reruns the model at every press. tests/book/test_strip.py works it
// in a browser and holds what it shows against Python.
(() => {
  "use strict";

  const host = document.currentScript.previousElementSibling;
  const { story, number, bars } = JSON.parse(host.dataset.config);
  const $ = (selector) => host.querySelector(selector);
  const blocked = new Set();
  const last = story.length - 1;
  let model;

  const buttons = [...host.querySelectorAll(".word")].map((span, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = span.className;
    button.textContent = span.textContent;
    button.setAttribute("aria-pressed", "false");
    button.tabIndex = i === number ? 0 : -1;
    button.addEventListener("click", () => toggle(i));
    span.replaceWith(button);
    return button;
  });
  $(".story").setAttribute("role", "toolbar");
  $(".story").setAttribute("aria-label", "The story: press a word to block it");
  $(".bars").append($(".still table").cloneNode(true));
  $(".bars caption").textContent = "The four likeliest next words";
  $(".guess").textContent = $(".bars th").textContent;
  $(".guess").hidden = false;
  host.classList.add("alive");

  function toggle(i) {
    if (!blocked.delete(i)) blocked.add(i);
    buttons[number].classList.remove("hint");
    go(i);
    draw();
  }

  // One word of the story is a stop of the Tab key; arrows walk from word to word.
  function go(i) {
    buttons.forEach((button, j) => { button.tabIndex = i === j ? 0 : -1; });
    buttons[i].focus();
  }

  $(".story").addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    const to = {
      ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
      Home: 0, End: last,
    }[event.key];
    if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    go(Math.min(Math.max(to, 0), last));
  });

  $(".again").addEventListener("click", () => {
    blocked.clear();
    draw();
  });

  // The likeliest next words, when the last word may not look at those blocked.
  function look() {
    const tokens = ["<start>", ...story].map((word) => model.vocabulary.indexOf(word));
    const mask = tokens.map((_, q) => tokens.map(
      (_, k) => k <= q && !(q === tokens.length - 1 && blocked.has(k - 1))));
    const { logits } = model.read(tokens, Array(model.n_layers).fill(mask));
    const row = logits.at(-1);
    const most = Math.max(...row);
    const sizes = [...row].map((value) => Math.exp(value - most));
    const total = sizes.reduce((a, b) => a + b, 0);
    return sizes
      .map((size, i) => ({ word: model.vocabulary[i], p: size / total }))
      .sort((a, b) => b.p - a.p).slice(0, bars);
  }

  const printed = (p) =>
    p < 0.001 ? "< 0.001" : p > 0.999 ? "> 0.999" : p.toFixed(3);

  function sentence({ word, p }) {
    const [right, n] = [story[number], blocked.size];
    const says = `says “${word}” with probability ${printed(p)}`;
    if (!n) return `With every word in view it ${says}.`;
    if (blocked.has(number) && word !== right) {
      return `It has forgotten “${right}”. It ${says}${p > 0.9 ? ", just as sure as before" : ""}.`;
    }
    const these = n === 1 ? `“${story[[...blocked][0]]}”` : `these ${n} words`;
    return `Without ${these} it ${word === right ? "still " : ""}${says}.`;
  }

  function draw() {
    buttons.forEach((button, i) =>
      button.setAttribute("aria-pressed", `${blocked.has(i)}`));
    $(".again").setAttribute("aria-disabled", `${!blocked.size}`);
    if (!model) return;
    const found = look();
    [...$(".bars tbody").rows].forEach((row, i) => {
      row.cells[0].textContent = found[i].word;
      row.cells[1].firstChild.style.setProperty("--p", found[i].p.toFixed(4));
      row.cells[2].textContent = printed(found[i].p);
    });
    $(".guess").textContent = found[0].word;
    $("[role=status]").textContent = sentence(found[0]);
  }

  function script(name) {
    return new Promise((done, failed) => {
      const element = document.createElement("script");
      Object.assign(element, { src: host.dataset.static + name, onload: done, onerror: failed });
      document.head.append(element);
    });
  }

  // Without its files the strip stays what it is without scripts.
  async function load() {
    try {
      await Promise.all(["decoder.js", "stories_covered.js"].map(script));
      model = globalThis.mattnDecoder(globalThis.mattnStories.covered);
      draw();
      if (!blocked.size) buttons[number].classList.add("hint");
    } catch {
      host.classList.remove("alive");
      $(".guess").hidden = true;
      for (const button of buttons) button.disabled = true;
    }
  }

  new IntersectionObserver(([entry], watcher) => {
    if (!entry.isIntersecting) return;
    watcher.disconnect();
    load();
  }, { rootMargin: "400px" }).observe(host);
})();

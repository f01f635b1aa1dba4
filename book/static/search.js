// The search of the book: sections ranked, each shown with one of its sentences.
// MiniSearch and the index (book/site/search.py) are loaded when a reader begins.
// Tested in tests/book/test_search.py, what stands in the page in
// tests/book/test_search_browser.py.
"use strict";
(() => {
  const COMMON = new Set(
    ("a an and are as at be by can do does for from has how i in is it its not of on " +
      "or that the this to was what when which who why will with you").split(" "));
  // What a hit counts, by the kind of page that it is on; a page's own heading more.
  const WEIGHT = {
    chapter: 1, appendix: 0.8, glossary: 0.8, exercise: 0.45, api: 0.4, source: 0.3 };
  const FIELDS = { heading: 4, text: 1, code: 0.2 };
  const PAGE = 1.6;
  // A query that is the whole name of something leads there, in this order.
  const NAMED = { chapter: 3000, glossary: 2000, appendix: 1500 };
  const AN_API_NAME = 1000;
  const WORD = /\p{Script=Han}+|[\p{L}\p{N}_]+/gu;
  const CAMEL = /\p{Lu}+(?!\p{Ll})|\p{Lu}?\p{Ll}+|\p{N}+/gu;

  // A text as its words, to look for phrases in; kept, for every key asks again.
  const kept = new Map();
  function plain(text) {
    if (!kept.has(text)) kept.set(text, ` ${terms(text).map((t) => t.term).join(" ")} `);
    return kept.get(text);
  }
  const unique = (list) => [...new Set(list)];

  // Masks are found by mask. No more: what a word begins with is looked for anyway.
  function stem(word) {
    const w = word.toLowerCase();
    return w.length > 3 && /[^siu]s$/u.test(w) ? w.slice(0, -1) : w;
  }

  // The words of a text as they are looked for, and where they stand. Chinese has no
  // spaces: two characters are a word. In the index the parts of a name are, too.
  function terms(text, { index = false } = {}) {
    const found = [];
    for (const { 0: word, index: at } of text.normalize("NFC").matchAll(WORD)) {
      const add = (term, from, to) => found.push({ term, start: at + from, end: at + to });
      if (/\p{Script=Han}/u.test(word)) {
        const size = word.length > 1 ? 2 : 1;
        for (let i = 0; i + size <= word.length; i++) {
          add(word.slice(i, i + size), i, i + size);
        }
        if (index) for (let i = 0; i < word.length; i++) add(word[i], i, i + 1);
        continue;
      }
      add(stem(word), 0, word.length);
      if (!index) continue;
      const parts = [...word.matchAll(CAMEL)];
      if (parts.length < 2) continue;
      for (const part of parts) add(stem(part[0]), part.index, part.index + part[0].length);
    }
    return found;
  }

  // A promise of the engine: piece by piece, so that the page answers meanwhile.
  function build(MiniSearch, [pages, rows]) {
    const engine = new MiniSearch({
      fields: Object.keys(FIELDS),
      storeFields: ["name", "kind", "page", "anchor", "heading", "text", "code", "first"],
      tokenize: (text) => terms(text, { index: true }).map((t) => t.term),
      processTerm: (term) => term,
    });
    const shown = new Set();
    const documents = rows.map(([number, anchor, heading, text, code], id) => {
      const [name, kind, page] = pages[number];
      const first = !shown.has(number);
      shown.add(number);
      return { id, name, kind, page, anchor, heading, text, code, first };
    });
    return engine.addAllAsync(documents, { chunkSize: 40 }).then(() => engine);
  }

  // All that a heading may be called: "2. The mask matrix: who may see whom?" is also
  // "mask matrix", "causal mask · 因果掩码†" is either, a.b.c is c.
  function names({ heading, kind }) {
    const bare = heading.replace(/^[\d.]+ /u, "");
    const all = [bare, bare.split(":")[0], ...bare.split(" · ")];
    if (kind === "api") all.push(bare.split(".").at(-1));
    return unique(all.map((n) => plain(n.replace(/^(the|on an?) /iu, ""))));
  }

  // Is it written as programs write names?
  const isName = (query) => /\w[_.]\w|\p{Ll}\p{Lu}|\p{Lu}{2}\p{Ll}/u.test(query);

  function score(found, query) {
    const asked = plain(query);
    const heading = plain(found.heading);
    let sum = found.score * (found.first ? PAGE : 1);
    const called = names(found);
    if (called.includes(asked)) {
      sum *= 2;
      if (found.kind === "api") sum += isName(query) ? AN_API_NAME : 0;
      else if (found.first || found.kind === "glossary") sum += NAMED[found.kind] ?? 0;
    } else if (called.some((name) => name.startsWith(asked.trimEnd()))) sum *= 1.3;
    if (asked.trim().includes(" ")) {
      if (heading.includes(asked)) sum *= 2;
      if (plain(found.text).includes(asked)) sum *= 1.6;
    }
    return sum;
  }

  // First what is spelled so, then what comes close, then what has some of the words.
  const CLOSE = (term) => (term.length > 3 && !isName(term) ? 0.25 : false);
  const TRIES = [
    { combineWith: "AND" },
    { combineWith: "AND", fuzzy: CLOSE },
    { combineWith: "OR", fuzzy: CLOSE },
  ];

  function find(engine, text) {
    const quoted = [...text.matchAll(/["“”„]([^"“”„]+)["“”„]/gu)].map((m) => plain(m[1]));
    const query = text.replace(/["“”„]/gu, " ").trim();
    const words = unique(terms(query).map((t) => t.term));
    const rare = words.filter((w) => !COMMON.has(w));
    const asked = rare.length ? rare : words;
    if (!asked.length) return { close: false, found: [] };
    for (const [i, how] of TRIES.entries()) {
      const found = engine.search(asked.join(" "), {
        ...how,
        tokenize: () => asked,
        boost: FIELDS,
        prefix: (term) => term.length > 1 || /\p{Script=Han}/u.test(term),
        boostDocument: (id, term, { kind }) => WEIGHT[kind],
      }).filter((f) => quoted.every((q) => plain(`${f.heading} ${f.text}`).includes(q)));
      if (!found.length) continue;
      for (const f of found) f.rank = score(f, query);
      found.sort((a, b) => b.rank - a.rank || a.id - b.id);
      return { close: i > 0, found };
    }
    return { close: false, found: [] };
  }

  // A sentence in pieces: [text, is it a hit?]
  function marked(sentence, hits) {
    const pieces = [];
    let at = 0;
    const spans = terms(sentence, { index: true }).filter((t) => hits.has(t.term))
      .sort((a, b) => a.start - b.start || b.end - a.end);
    for (const { start, end } of spans) {
      if (end <= at) continue;
      if (start > at) pieces.push([sentence.slice(at, start), false]);
      const last = pieces.at(-1);
      if (last?.[1]) last[0] += sentence.slice(Math.max(at, start), end);
      else pieces.push([sentence.slice(Math.max(at, start), end), true]);
      at = end;
    }
    if (at < sentence.length) pieces.push([sentence.slice(at), false]);
    return pieces;
  }

  // The sentence that holds most of what was found; of equals the first,
  // and rather a whole sentence than an item of a list.
  // Where only code holds any, its first line that does.
  function snippet({ text, code, terms: matched, heading }, query) {
    const hits = new Set(matched);
    const asked = plain(query);
    const held = (sentence) => {
      const there = new Set(terms(sentence, { index: true }).map((t) => t.term));
      return matched.filter((term) => there.has(term)).length;
    };
    const worth = (sentence) => {
      const phrase = asked.trim().includes(" ") && plain(sentence).includes(asked);
      const whole = /[.?!:。？！]$/u.test(sentence);
      return held(sentence) + (phrase ? 1 : 0) + (whole ? 0.5 : 0);
    };
    let [best, most] = ["", -1];
    for (const sentence of text.split("\n")) {
      const n = sentence ? worth(sentence) : -1;
      if (n > most) [best, most] = [sentence, n];
    }
    const line = held(best) || held(heading) ? "" : code.split("\n").find(held)?.trim();
    return {
      heading: marked(heading, hits), sentence: marked(line || best, hits), code: !!line };
  }

  const core = { build, find, marked, snippet, terms };
  if (typeof module === "object") {
    module.exports = core;
    return;
  }

  const ROOT = document.documentElement.dataset.content_root ?? "./";
  const IN_DIALOG = 8, ON_PAGE = 60;
  const SCRIPTS = ["_static/minisearch/minisearch.js", "_static/search-index.js"];

  // As scripts, in turn: a page from a folder may not read another file.
  const script = (source) => new Promise((done, failed) => {
    const element = document.createElement("script");
    element.src = ROOT + source;
    element.onload = done;
    element.onerror = failed;
    document.head.append(element);
  });
  let loading;
  function load() {
    loading ??= Promise.all(SCRIPTS.map(script))
      .then(() => build(window.MiniSearch, window.mattnIndex))
      .catch(() => { loading = undefined; throw new Error("the index did not load"); });
    return loading;
  }

  function element(name, options = {}, children = []) {
    const made = Object.assign(document.createElement(name), options);
    made.append(...children);
    return made;
  }
  const pieces = (list) =>
    list.map(([text, hit]) => (hit ? element("mark", { textContent: text }) : text));

  function item(found, query) {
    const { heading, sentence, code } = snippet(found, query);
    const link = element("a", { href: `${ROOT}${found.name}.html#${found.anchor}` }, [
      ...(found.first ? [] : [element("span", { textContent: `${found.page} › ` })]),
      ...pieces(heading)]);
    const shown = pieces(sentence);
    return element("li", {}, [link, element("p", { className: "context" },
      code ? [element("code", {}, shown)] : shown)]);
  }

  function said(query, { found, close }, limit) {
    if (!query.trim()) return "";
    if (!found.length) return `Nothing is found for “${query}”.`;
    const n = found.length === 1 ? "One place" : `${found.length} places`;
    const shown = found.length > limit ? `${n}, the first ${limit}:` : `${n}:`;
    return close ? `Nothing has just these words. What comes close: ${shown}` : shown;
  }

  // What an event is for, also inside a playground, which has a tree of its own.
  const within = (event) => event.composedPath()[0];

  // It reads the index as soon as it opens; when it closes, the focus is where it was:
  // the theme takes it away from a button before it opens this.
  function overPage(dialog, input) {
    let before;
    document.addEventListener("focusin", (event) => {
      if (!dialog.contains(event.target)) before = within(event);
    });
    input.addEventListener("focus", ({ relatedTarget }) => {
      if (dialog.contains(relatedTarget)) return;
      input.select();
      load().catch(() => {});
    });
    dialog.addEventListener("close", () =>
      setTimeout(() => before?.focus({ preventScroll: true })));
  }

  // The field, and what it finds below it. `dialog`: where it opens over a page.
  function attach(form, place, dialog) {
    const input = form.querySelector("input");
    const status = element("p", { className: "mattn-said", role: "status" });
    const list = element("ol");
    const all = element("a", { className: "mattn-all", hidden: true });
    place.classList.add("mattn-found");
    place.append(status, list, all);
    const limit = dialog ? IN_DIALOG : ON_PAGE;

    async function look() {
      const query = input.value;
      let engine;
      try {
        if (!loading) status.textContent = "The index is being read.";
        engine = await load();
      } catch (error) {
        status.textContent = `The search does not work: ${error.message}. Load this ` +
          "page again.";
        return;
      }
      if (query !== input.value) return;
      const result = find(engine, query);
      status.textContent = said(query, result, limit);
      list.replaceChildren(...result.found.slice(0, limit).map((f) => item(f, query)));
      all.hidden = !dialog || result.found.length <= limit;
      all.textContent = `All ${result.found.length} places`;
      all.href = `${ROOT}search.html?q=${encodeURIComponent(query)}`;
      if (!dialog) {
        const address = `?q=${encodeURIComponent(query)}`;
        history.replaceState(null, "", query ? address : location.pathname);
      }
    }

    // Arrows go through what is found, and back to the field.
    function go(event) {
      const stops = [input, ...list.querySelectorAll("a"), ...(all.hidden ? [] : [all])];
      const at = stops.indexOf(document.activeElement);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || at < 0 || event.isComposing) return;
      event.preventDefault();
      stops[Math.min(Math.max(at + step, 0), stops.length - 1)].focus();
    }

    input.addEventListener("input", look);
    form.addEventListener("keydown", go);
    place.addEventListener("keydown", go);
    place.addEventListener("click", (event) => {
      if (event.target.closest("a") && !event.ctrlKey && !event.metaKey) dialog?.close();
    });
    if (dialog) {
      overPage(dialog, input);
      return;
    }
    form.addEventListener("submit", (event) => { event.preventDefault(); look(); });
    input.value = new URLSearchParams(location.search).get("q") ?? "";
    input.focus();
    if (input.value) look();
  }

  const dialog = document.getElementById("pst-search-dialog");
  const results = document.getElementById("search-results");
  if (results) attach(document.querySelector(".bd-search-container form"), results);
  if (dialog) {
    dialog.ariaLabel = "Search";
    const place = dialog.appendChild(element("div"));
    attach(dialog.querySelector("form"), place, dialog);
    // "/" opens it, as Ctrl+K does; where the page has a field itself, goes there.
    document.addEventListener("keydown", (event) => {
      const { key, ctrlKey, metaKey, altKey } = event;
      const target = within(event);
      if (key !== "/" || ctrlKey || metaKey || altKey) return;
      if (target.isContentEditable || target.matches("input, textarea, select")) return;
      event.preventDefault();
      const field = document.querySelector(".bd-search-container input");
      if (field) field.focus();
      else if (!dialog.open) dialog.showModal();
    });
  }
})();

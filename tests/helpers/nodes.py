"""The playground's arithmetic in Node, which comes with Playwright."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import playwright
from roots import ROOT

from mattn.playground import script

NODE = Path(playwright.__file__).parent / "driver" / "node"
WEB = ROOT / "mattn" / "web"
DRIVER = """
const [source, calls] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const made = { exports: {} };
new Function("module", source)(made);
const core = made.exports;
const web = process.argv[1];
const decoders = {};
const decoder = (name) => {
  require(`${web}/decoder.js`);
  require(`${web}/stories_${name}.js`);
  return (decoders[name] ??= mattnDecoder(mattnStories[name]));
};
core.audited = (problem, tokens, own) =>
  core.audit(problem, core.change(problem, tokens, own));
core.visit = (address, config) => {
  const start = core.initial(config);
  const state = core.fromAddress(address, start, config.own);
  const again = core.toAddress(state, start);
  return { state, again, allowed: core.allowedOf(state), masks: core.masksOf(state) };
};
core.there = (state, config) => core.toAddress(state, core.initial(config));
const rows = (found) => ({ ...found, logits: found.logits.map((row) => [...row]) });
core.modelled = (state, cached, name = "covered") =>
  rows(core.readWords(decoder(name), state, cached));
core.guessed = (state, row) => core.expected(decoder("covered"),
  core.readWords(decoder("covered"), state).logits[row], state.temperature);
core.hanging = (state, row, word) => core.hangsOn(decoder("covered"), state, row, word);
core.begun = (goal, config) => {
  const start = core.initial(config);
  const { start: own } = core.PUZZLES[goal - 1];
  return { ...core.startIn(start, own.mode), ...core.NONE, ...own, goal,
    row: own.tokens.length - 1 };
};
core.judged = (state) => {
  for (const name of ["covered", "uncovered"]) decoder(name);
  return core.verdict(state, decoders);
};
core.edited = (state, steps) => steps.map(([layer, cells, value]) => {
  state = { ...state, ...core.put({ ...state, layer }, cells, value) };
  return [core.masksOf(state), core.nEdits(state), state];
});
core.walked = (steps) => {
  const past = core.timeline(3);
  let state = steps[0][1];
  return steps.slice(1).map(([what, changes, stroke]) => {
    if (what === "undo" || what === "redo") state = past[what](state)?.state ?? state;
    else {
      const next = { ...state, ...changes };
      past.record(state, next, what, stroke ?? null);
      state = next;
    }
    return [state.n, past.depth];
  });
};
const plain = (key, value) =>
  typeof value === "number" && !Number.isFinite(value) ? `${value}` : value;
process.stdout.write(JSON.stringify(
  calls.map(([name, ...given]) => core[name](...given)), plain));
"""


def node(calls: list[list]) -> list:
    """What the script's functions return: ``[name, argument, …]`` each."""
    done = subprocess.run(
        [NODE, "-e", DRIVER, WEB],
        input=json.dumps([script(), calls]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout)

// What scrolls sideways can be reached, and so scrolled, by keyboard.
"use strict";
(() => {
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const scrolls =
    "article :is(mjx-container[display], pre, .pst-scrollable-table-container)";
  const watch = () => {
    for (const element of document.querySelectorAll(scrolls)) watcher.observe(element);
  };
  watch();
  window.addEventListener("load", () => {
    window.MathJax?.startup?.promise?.then(watch);
  });
})();

/* What the theme leaves out for readers who use a keyboard or a screen reader. */
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
    const page = summary.parentElement.parentElement.querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${page.textContent.trim()}`);
  }
  const boxes = document.querySelectorAll(".bd-article :is(pre, .cell_output, .text_html, figure, p:has(> img))");
  const fade = (box) => box.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const reach = () => {
    for (const box of boxes) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
      const caption = box.querySelector(":scope > figcaption");
      if (caption) box.style.setProperty("--caption", `${caption.offsetHeight}px`);
      fade(box);
    }
  };
  for (const box of boxes) box.addEventListener("scroll", () => fade(box), { passive: true });
  window.addEventListener("resize", reach);
  window.addEventListener("load", reach);
  document.addEventListener("toggle", reach, true); // what was folded had no width
});

/* What the interactive parts share: making elements, and the data that the page brings along for a part. */
window.course = (() => {
  const filled = (made, attributes, inside) => {
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  };
  const node = (kind, attributes = {}, ...inside) => filled(document.createElement(kind), attributes, inside);
  const draw = (kind, attributes = {}, ...inside) =>
    filled(document.createElementNS("http://www.w3.org/2000/svg", kind), attributes, inside);
  const dataFor = (id) => {
    const place = document.getElementById(id);
    const stored = document.getElementById(`${id}-data`);
    return { place, data: place && stored && JSON.parse(stored.textContent) };
  };
  return { node, draw, dataFor };
})();

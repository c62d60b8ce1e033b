/* What the theme leaves out for readers who use a keyboard or a screen reader. */
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
    const page = summary.parentElement.parentElement.querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${page.textContent.trim()}`);
  }
  const reach = () => {
    for (const box of document.querySelectorAll(".bd-article :is(.cell_output, .text_html, figure, p:has(> img))")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  window.addEventListener("resize", reach);
  window.addEventListener("load", reach);
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

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

// Everything that the tests ask about a page, gathered in one go.
() => {
  const main = document.querySelector(".bd-main") ?? document.body;
  const article = document.querySelector(".bd-article") ?? document.body;
  const wide = document.documentElement.clientWidth;
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const inWindow = (e) => {
    const box = e.getBoundingClientRect();
    return shown(e) && box.width > 0 && box.right > 0 && box.left < wide;
  };
  const name = (e) => `${e.tagName.toLowerCase()} ${e.className} "${(e.textContent ?? "").trim().slice(0, 40)}"`;
  // Reachable: in the window, or in a box that scrolls.
  const cut = (e) => {
    const box = e.getBoundingClientRect();
    if (!shown(e) || box.width === 0 || (box.right <= wide + 1 && box.left >= -1)) return false;
    for (let up = e.parentElement; up; up = up.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(up).overflowX)) return false;
    }
    return !e.closest(".bd-sidebar-primary, .bd-sidebar-secondary, dialog");
  };
  const pictures = [...article.querySelectorAll("img")].filter((e) => shown(e));
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  const text = article.cloneNode(true);
  text.querySelectorAll("script, style, mjx-container").forEach((e) => e.remove());
  return {
    width: document.documentElement.scrollWidth,
    window: wide,
    cut: [...main.querySelectorAll("*")].filter(cut).map(name),
    // The page of results has a field of its own.
    searches: [...document.querySelectorAll(".search-button, .search-button__button, input[type=search]")].filter(
      (e) => inWindow(e) && !e.closest(".bd-search-container"),
    ).length,
    links: [...document.querySelectorAll("a[href]")].map((e) => e.href),
    onward: [...document.querySelectorAll(".prev-next-area a")].map((e) => e.href),
    ids,
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    broken: [...document.images].filter((e) => shown(e) && e.complete && e.naturalWidth === 0).map((e) => e.src),
    // A button with a name of its own speaks for its picture.
    noAlt: pictures.filter((e) => !e.alt.trim() && !e.closest("button[aria-label]")).map((e) => e.src),
    // Small pictures of cards and buttons lead to the large ones.
    scales: pictures
      .filter((e) => e.naturalWidth && !e.closest(".sd-card, button"))
      .map((e) => {
        const style = getComputedStyle(e);
        const inner = e.getBoundingClientRect().width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        return [e.src, inner / e.naturalWidth];
      }),
    code: [...article.querySelectorAll("div.highlight pre")].filter(shown).map((e) => parseFloat(getComputedStyle(e).fontSize)),
    cutCode: [...article.querySelectorAll(".cell_input pre")]
      .filter((e) => shown(e) && e.scrollWidth > e.clientWidth)
      .map((e) => e.textContent.split("\n").reduce((a, b) => (a.length > b.length ? a : b))),
    text: text.textContent,
    guesses: [...article.querySelectorAll("details.guess")].map((e) => e.className),
    description: document.querySelector("meta[name=description]")?.content ?? "",
    picture: document.querySelector("meta[property='og:image']")?.content ?? "",
    icon: document.querySelector("link[rel~=icon]")?.href ?? "",
    notebook: [...document.querySelectorAll(".dropdown-download-buttons a, a[download]")].map((e) => e.href),
  };
}

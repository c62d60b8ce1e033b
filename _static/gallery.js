/* The gallery of chapter 9: which scenes gain by going on, and what the four exits find in one. The page brings its data
   along (tools/gallery.py computes them, tools/book_pages.py puts them into the page), so this works from a file, too.
   Without this script the page shows a table instead. */
document.addEventListener("DOMContentLoaded", () => {
  const { node, draw, dataFor } = window.course;
  const { place, data } = dataFor("gallery");
  if (!data) return;
  const EXITS = [0, 1, 2, 3];
  const percent = (value) => `${value}\u00a0%`;
  const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const objects = (count) => (count === 0 ? "no object" : count === 1 ? "1 object" : `${count} objects`);

  // What filters ask of a picture. Sizes are sides of the smallest object, as a part of the picture's.
  const side = ([, left, top, right, bottom]) => Math.sqrt((right - left) * (bottom - top)) / data.side;
  const pictures = data.pictures.map((picture) => ({
    ...picture,
    number: picture.objects.length,
    size: Math.min(...picture.objects.map(side)),
    gain: picture.success[3] - picture.success[0],
  }));
  const between = (low, high) => (value) => value >= low && value < high;
  const same = (wanted) => (value) => value === wanted;
  const FILTERS = [
    ["exit", "Leaves at", [...EXITS.map((k) => [`exit ${k + 1}`, same(k + 1)])]],
    ["number", "Objects", [0, 1, 2, 3, 4].map((count) => [count ? `${count}` : "none", same(count)])],
    ["size", "Smallest object", [
      ["under a third of the side", between(0, 1 / 3)],
      ["a third to a half", between(1 / 3, 1 / 2)],
      ["over a half", between(1 / 2, 2)],
    ]],
    ["gain", "Gain", [
      ["loses (below \u22120.1)", between(-9, -0.1)],
      ["about nothing (up to 0.1)", between(-0.1, 0.1)],
      ["something (0.1 to 0.5)", between(0.1, 0.5)],
      ["much (0.5 to 1)", between(0.5, 1)],
      ["very much (over 1)", between(1, 9)],
    ]],
  ];

  const filters = FILTERS.map(([name, title, choices]) => {
    const select = node("select", { id: `gallery-${name}` }, node("option", { value: "" }, "all"));
    choices.forEach(([said], n) => select.append(node("option", { value: n }, said)));
    select.addEventListener("change", () => show());
    const passes = (picture) => select.value === "" || choices[Number(select.value)][1](picture[name]);
    return { select, passes, field: node("div", {}, node("label", { for: select.id }, title), select) };
  });
  const clear = node("button", { type: "button" }, "Clear");
  clear.addEventListener("click", () => {
    filters.forEach(({ select }) => (select.value = ""));
    show();
  });

  // An exit's view of a picture: the objects dashed, its detections in its colour.
  const box = ([left, top, right, bottom], attributes) =>
    draw("rect", { x: left, y: top, width: Math.max(1, right - left), height: Math.max(1, bottom - top), ...attributes });
  const view = (picture, k) => {
    const svg = draw("svg", { viewBox: `0 0 ${data.side} ${data.side}`, "aria-hidden": "true" });
    svg.append(draw("image", { href: picture.src, width: data.side, height: data.side }));
    for (const [, ...corners] of picture.objects) svg.append(box(corners, { class: "object" }));
    for (const [, , ...corners] of picture.found[k])
      svg.append(box(corners, { class: "under" }), box(corners, { class: "detection" }));
    const said = picture.found[k].map(([label, score, , , , , right]) =>
      node("li", {}, `${right ? "\u2713" : "\u2717"} ${data.classes[label]} ${(score / 100).toFixed(2)}`),
    );
    const leaves = picture.exit === k + 1 ? node("span", { class: "leaves" }, "leaves here") : "";
    return node(
      "div",
      { class: `view exit-${k + 1}` },
      node("div", { class: "head" }, node("strong", {}, `Exit ${k + 1}`), leaves),
      svg,
      node("div", {}, `success ${picture.success[k].toFixed(2)}`),
      said.length ? node("ul", {}, ...said) : node("div", { class: "none" }, "no detection"),
    );
  };

  // It opens right behind its picture, so that it comes next for keyboards, too.
  const detail = node("li", { class: "detail", id: "gallery-detail" });
  let open = null;
  const openDetail = (tile) => {
    open = tile;
    tiles.forEach(({ button }) => button.setAttribute("aria-expanded", button === tile?.button));
    detail.remove();
    if (!tile) return;
    const { picture } = tile;
    const held = picture.objects.map(([label]) => data.classes[label]).join(", ") || "nothing";
    const told = `In the scene: ${held}. It leaves at exit ${picture.exit}; going on from exit 1 to exit 4 gains `;
    detail.replaceChildren(
      node("p", {}, told, node("strong", {}, signed(picture.gain)), "."),
      node("div", { class: "views" }, ...EXITS.map((k) => view(picture, k))),
    );
    tile.item.after(detail);
  };

  const tiles = pictures.map((picture, n) => {
    const said = `${objects(picture.number)}, leaves at exit ${picture.exit}, gain ${signed(picture.gain)}`;
    const button = node(
      "button",
      {
        type: "button",
        class: `exit-${picture.exit}`,
        "aria-controls": detail.id,
        "aria-label": `Scene ${n + 1}: ${said}`,
      },
      node("img", { src: picture.src, alt: "", width: 72, height: 72 }),
      node("span", { "aria-hidden": "true" }, signed(picture.gain)),
    );
    const tile = { picture, button, item: node("li", {}, button) };
    button.addEventListener("click", () => openDetail(open === tile ? null : tile));
    return tile;
  });

  const said = node("p", { class: "result", "aria-live": "polite" });
  const list = node("ul", { class: "tiles", "aria-label": "Scenes" });
  const show = () => {
    const passing = tiles.filter(({ picture }) => filters.every(({ passes }) => passes(picture)));
    passing.sort((a, b) => b.picture.gain - a.picture.gain);
    list.replaceChildren(...passing.map(({ item }) => item));
    openDetail(passing.includes(open) ? open : null);
    const these = passing.map(({ picture }) => picture);
    const count = node("strong", {}, `${these.length} of ${tiles.length} scenes`);
    if (!these.length) return said.replaceChildren(count, ".");
    const left = EXITS.map((k) => these.filter(({ exit }) => exit === k + 1).length);
    const means = [mean(these.map(({ number }) => number)).toFixed(1), signed(mean(these.map(({ gain }) => gain)))];
    said.replaceChildren(
      count,
      `: ${means[0]} objects on average, mean gain `,
      node("strong", {}, means[1]),
      `. At exits 1 to 4 leave ${left.join(", ")}.`,
    );
  };

  const legend =
    "The colour under a picture is that of its exit, the number its gain. Dashed: the objects. Boxes: detections with a " +
    `score of at least ${data.shown}; \u2713 and \u2717 say whether it is an object of that class (IoU at least 0.5).`;
  place.replaceChildren(
    node("div", { class: "filters", role: "group", "aria-label": "Filters" }, ...filters.map((f) => f.field), clear),
    said,
    list,
    node("p", { class: "legend" }, legend),
  );
  place.classList.add("interactive", "gallery");
  show();
});

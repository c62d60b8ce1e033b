/* The sliders of chapter 5: three thresholds, and what becomes of the images. The page brings its data along
   (tools/sliders.py computes them, tools/book_pages.py puts them into the page), so this works from a file, too.
   Without this script the page shows a table instead. */
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("threshold-sliders");
  const stored = document.getElementById("threshold-data");
  if (!place || !stored) return;
  const data = JSON.parse(stored.textContent);

  const EXITS = [0, 1, 2, 3];
  const STEPS = data.about.shares.length;
  const IMAGES = data.reached[0].length;
  const PLOT = { left: 44, right: 382, top: 12, bottom: 232 };

  // An image leaves at the first exit where its confidence reaches more thresholds than the slider has passed.
  const exitOf = (image, setting) => {
    const exit = setting.findIndex((step, k) => data.reached[k][image] > step);
    return exit < 0 ? 3 : exit;
  };

  const outcome = (setting) => {
    const counts = [0, 0, 0, 0];
    for (let image = 0; image < IMAGES; image++) counts[exitOf(image, setting)]++;
    const gmacs = EXITS.reduce((sum, k) => sum + counts[k] * data.gmacs[k], 0) / IMAGES;
    const map = data.maps[(setting[0] * STEPS + setting[1]) * STEPS + setting[2]];
    return { counts, gmacs, compute: (100 * gmacs) / data.gmacs[3], map };
  };

  const node = (kind, attributes = {}, ...inside) => {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  };

  const draw = (kind, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  };

  // The plot: mAP over compute, every setting as a dot, the paper's settings as a line.
  const least = Math.floor((100 * data.gmacs[0]) / data.gmacs[3]) - 1;
  const most = 10 * Math.ceil(Math.max(...data.maps) / 10);
  const x = (compute) => PLOT.left + ((compute - least) / (100 - least)) * (PLOT.right - PLOT.left);
  const y = (map) => PLOT.bottom - (map / most) * (PLOT.bottom - PLOT.top);
  const path = (points, join) => `M${points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join(join)}`;

  const cloud = () => {
    const points = [];
    for (let a = 0; a < STEPS; a++)
      for (let b = 0; b < STEPS; b++)
        for (let c = 0; c < STEPS; c++) {
          const { compute, map } = outcome([a, b, c]);
          points.push([compute, map]);
        }
    return points;
  };

  const svg = draw("svg", { viewBox: "0 0 400 276", role: "img" });
  for (let map = 0; map <= most; map += 10) {
    svg.append(draw("path", { d: `M${PLOT.left} ${y(map)}H${PLOT.right}`, class: "grid" }));
    if (map % 20 === 0) svg.append(draw("text", { x: PLOT.left - 6, y: y(map) + 4, "text-anchor": "end" }, `${map}`));
  }
  for (let compute = 100; compute > least; compute -= 4)
    svg.append(draw("text", { x: x(compute), y: PLOT.bottom + 18, "text-anchor": "middle" }, `${compute}`));
  const across = { x: (PLOT.left + PLOT.right) / 2, y: PLOT.bottom + 38, "text-anchor": "middle" };
  const turned = `translate(14 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)`;
  const upward = { x: 0, y: 0, "text-anchor": "middle", transform: turned };
  svg.append(draw("text", across, "GMACs (% of full depth)"), draw("text", upward, "mAP (%)"));
  const paper = data.curve.map(([gmacs, map]) => [(100 * gmacs) / data.gmacs[3], map]);
  svg.append(draw("path", { d: path(cloud(), "h0M") + "h0", class: "cloud" }));
  svg.append(draw("path", { d: path(paper, "L"), class: "paper" }));
  const point = draw("circle", { r: 7, class: "point" });
  svg.append(point);

  // The three sliders.
  const setting = [STEPS - 1, STEPS - 1, STEPS - 1];
  const written = (k, step) => {
    const limit = data.limits[k][step];
    if (limit === null) return "\u221e: nobody leaves";
    return limit === 0 ? "0: all leave" : limit.toFixed(4);
  };
  const controls = [0, 1, 2].map((k) => {
    const input = node("input", { type: "range", id: `threshold-${k + 1}`, min: 0, max: STEPS - 1, value: STEPS - 1 });
    const value = node("output", { for: input.id, "aria-live": "off" });
    input.addEventListener("input", () => {
      setting[k] = Number(input.value);
      show();
    });
    const label = node("label", { for: input.id }, `Threshold of exit ${k + 1}`);
    return { input, value, row: node("div", { class: `control exit-${k + 1}` }, label, input, value) };
  });

  // A lane for each exit, with its share of all images and those of the sixteen that leave there.
  const lanes = EXITS.map((k) => {
    const share = node("span", { class: "share" });
    const bar = node("div", { class: "bar" });
    const list = node("ul", { "aria-label": `Pictures that leave at exit ${k + 1}` });
    const head = node("div", { class: "head" }, `Exit ${k + 1}: `, share);
    return { share, bar, list, lane: node("div", { class: `lane exit-${k + 1}` }, head, bar, list) };
  });
  const pictures = data.pictures.map((picture) => {
    const image = node("img", { src: picture.src, width: 52, height: 52 });
    const mark = node("span", { "aria-hidden": "true" });
    return { ...picture, shown: image, mark, item: node("li", {}, image, mark) };
  });

  const said = node("p", { class: "result", "aria-live": "polite" });
  const show = () => {
    const { counts, gmacs, compute, map } = outcome(setting);
    const percent = counts.map((count) => `${Math.round((100 * count) / IMAGES)}\u00a0%`);
    controls.forEach(({ input, value }, k) => {
      value.textContent = written(k, setting[k]);
      input.setAttribute("aria-valuetext", value.textContent);
    });
    said.replaceChildren(
      node("strong", {}, `mAP ${map.toFixed(1)}`),
      ` with ${gmacs.toFixed(4)} GMACs, ${compute.toFixed(1)}\u00a0% of full depth. `,
      `Exits 1 to 4 take ${percent.join(", ")} of the images.`,
    );
    point.setAttribute("cx", x(compute));
    point.setAttribute("cy", y(map));
    const yours = `mAP ${map.toFixed(1)} with ${compute.toFixed(1)} percent of the GMACs`;
    svg.setAttribute("aria-label", `mAP over GMACs for all settings. Yours: ${yours}.`);
    lanes.forEach(({ share, bar }, k) => {
      share.textContent = percent[k];
      bar.style.width = `${(100 * counts[k]) / IMAGES}%`;
    });
    const held = EXITS.map(() => []);
    for (const picture of pictures) {
      const exit = exitOf(picture.image, setting);
      const found = picture.finds[exit];
      picture.mark.textContent = found ? "\u2713" : "\u2717";
      picture.shown.alt = `${picture.name}, ${found ? "found" : "not found"} at exit ${exit + 1}`;
      held[exit].push(picture.item);
    }
    lanes.forEach(({ list }, k) => list.replaceChildren(...held[k]));
  };

  const legend =
    "Large dot: your setting. Small dots: all settings of the sliders. Line: the paper's 34 settings. " +
    "In a picture, \u2713 and \u2717 say whether the surest detection at its exit finds the object (IoU at least 0.5).";
  place.replaceChildren(
    node("div", { class: "controls", role: "group", "aria-label": "Thresholds" }, ...controls.map(({ row }) => row)),
    said,
    node(
      "div",
      { class: "views" },
      node("div", { class: "plot" }, svg, node("p", { class: "legend" }, legend)),
      node("div", { class: "lanes" }, ...lanes.map(({ lane }) => lane)),
    ),
  );
  place.classList.add("live");
  show();
});

/* Sliders: three thresholds in chapter 5, one budget in chapter 11, and what becomes of the images. The page brings its
   data along (tools/sliders.py and tools/budget.py compute them, tools/book_pages.py puts them into the page), so this
   works from a file, too. Without this script the page shows a table instead. */
document.addEventListener("DOMContentLoaded", () => {
  const { node, draw, dataFor } = window.course;
  const EXITS = [0, 1, 2, 3];
  const sum = (values) => values.reduce((all, value) => all + value, 0);
  const percent = (value, digits = 0) => `${value.toFixed(digits)}\u00a0%`;

  // The plot: mAP over compute, with curves as [class, points, whether the points are joined], and one mark for each rule.
  const PLOT = { left: 44, right: 382, top: 12, bottom: 232 };
  const plot = (least, lowest, most, curves, marks) => {
    const x = (compute) => PLOT.left + ((compute - least) / (100 - least)) * (PLOT.right - PLOT.left);
    const y = (map) => PLOT.bottom - ((map - lowest) / (most - lowest)) * (PLOT.bottom - PLOT.top);
    const svg = draw("svg", { viewBox: "0 0 400 276", role: "img" });
    const rung = most - lowest > 40 ? 20 : 5;
    for (let map = lowest; map <= most; map += rung) {
      svg.append(draw("path", { d: `M${PLOT.left} ${y(map)}H${PLOT.right}`, class: "grid" }));
      svg.append(draw("text", { x: PLOT.left - 6, y: y(map) + 4, "text-anchor": "end" }, `${map}`));
    }
    const step = 100 - least > 40 ? 20 : 4;
    for (let compute = 100; compute > least; compute -= step)
      svg.append(draw("text", { x: x(compute), y: PLOT.bottom + 18, "text-anchor": "middle" }, `${compute}`));
    const across = { x: (PLOT.left + PLOT.right) / 2, y: PLOT.bottom + 38, "text-anchor": "middle" };
    const turned = `translate(14 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)`;
    const upward = { x: 0, y: 0, "text-anchor": "middle", transform: turned };
    svg.append(draw("text", across, "GMACs (% of full depth)"), draw("text", upward, "mAP (%)"));
    for (const [kind, points, joined] of curves) {
      const places = points.map(([compute, map]) => `${x(compute).toFixed(1)} ${y(map).toFixed(1)}`);
      svg.append(draw("path", { d: joined ? `M${places.join("L")}` : `M${places.join("h0M")}h0`, class: kind }));
    }
    const points = marks.map((kind) => draw("circle", { r: 7, class: `point ${kind}` }));
    svg.append(...points);
    const move = (reached, said) => {
      reached.forEach(({ compute, map }, n) => {
        points[n].setAttribute("cx", x(compute));
        points[n].setAttribute("cy", y(map));
      });
      svg.setAttribute("aria-label", `mAP over GMACs. ${said}`);
    };
    return { svg, move };
  };

  // A lane for each exit, with its share of all images and those of the sixteen that leave there.
  const lanes = (pictures) => {
    const rows = EXITS.map((k) => {
      const share = node("span", { class: "share" });
      const bar = node("div", { class: "bar" });
      const list = node("ul", { "aria-label": `Pictures that leave at exit ${k + 1}` });
      const head = node("div", { class: "head" }, `Exit ${k + 1}: `, share);
      return { share, bar, list, lane: node("div", { class: `lane exit-${k + 1}` }, head, bar, list) };
    });
    const shown = pictures.map((picture) => {
      const image = node("img", { src: picture.src, width: 52, height: 52 });
      const mark = node("span", { "aria-hidden": "true" });
      return { ...picture, image, mark, item: node("li", {}, image, mark) };
    });
    const move = (shares, exits) => {
      const held = EXITS.map(() => []);
      shown.forEach(({ image, mark, item, name, marks, said }, n) => {
        const exit = exits[n];
        mark.textContent = marks[exit];
        image.alt = `${name}, ${said[exit]} at exit ${exit + 1}`;
        held[exit].push(item);
      });
      rows.forEach(({ share, bar, list }, k) => {
        share.textContent = percent(shares[k]);
        bar.style.width = `${shares[k]}%`;
        list.replaceChildren(...held[k]);
      });
    };
    return { rows: rows.map(({ lane }) => lane), move };
  };

  const slider = (id, title, kind, most, start, written, moved) => {
    const input = node("input", { type: "range", id, min: 0, max: most, value: start });
    const value = node("output", { for: id, "aria-live": "off" });
    const write = () => {
      value.textContent = written(Number(input.value));
      input.setAttribute("aria-valuetext", value.textContent);
    };
    input.addEventListener("input", () => {
      write();
      moved(Number(input.value));
    });
    write();
    return node("div", { class: `control ${kind}` }, node("label", { for: id }, title), input, value);
  };

  const assemble = (place, name, controls, said, drawn, legend, sorted) => {
    place.replaceChildren(
      node("div", { class: "controls", role: "group", "aria-label": name }, ...controls),
      said,
      node(
        "div",
        { class: "views" },
        node("div", { class: "plot" }, drawn.svg, node("p", { class: "legend" }, ...legend)),
        node("div", { class: "lanes" }, ...sorted.rows),
      ),
    );
    place.classList.add("interactive");
  };

  const thresholds = ({ place, data }) => {
    const STEPS = data.about.shares.length;
    const IMAGES = data.reached[0].length;
    // An image leaves at the first exit where its confidence reaches more thresholds than the slider has passed.
    const exitOf = (image, setting) => {
      const exit = setting.findIndex((step, k) => data.reached[k][image] > step);
      return exit < 0 ? 3 : exit;
    };
    const outcome = (setting) => {
      const counts = [0, 0, 0, 0];
      for (let image = 0; image < IMAGES; image++) counts[exitOf(image, setting)]++;
      const of = (values) => sum(EXITS.map((k) => counts[k] * values[k])) / IMAGES;
      const map = data.maps[(setting[0] * STEPS + setting[1]) * STEPS + setting[2]];
      const shares = counts.map((count) => (100 * count) / IMAGES);
      return { shares, gmacs: of(data.gmacs), ms: of(data.ms), compute: (100 * of(data.gmacs)) / data.gmacs[3], map };
    };
    const cloud = [];
    for (let a = 0; a < STEPS; a++)
      for (let b = 0; b < STEPS; b++)
        for (let c = 0; c < STEPS; c++) {
          const { compute, map } = outcome([a, b, c]);
          cloud.push([compute, map]);
        }
    const paper = data.curve.map(([gmacs, map]) => [(100 * gmacs) / data.gmacs[3], map]);
    const least = Math.floor((100 * data.gmacs[0]) / data.gmacs[3]) - 1;
    const most = 10 * Math.ceil(Math.max(...data.maps) / 10);
    const drawn = plot(least, 0, most, [["cloud", cloud, false], ["curve", paper, true]], ["yours"]);
    const sorted = lanes(
      data.pictures.map((picture) => ({
        ...picture,
        marks: picture.finds.map((found) => (found ? "\u2713" : "\u2717")),
        said: picture.finds.map((found) => (found ? "found" : "not found")),
      })),
    );
    const written = (k) => (step) => {
      const limit = data.limits[k][step];
      if (limit === null) return "\u221e: nobody leaves";
      return limit === 0 ? "0: all leave" : limit.toFixed(4);
    };
    const setting = [STEPS - 1, STEPS - 1, STEPS - 1];
    const controls = [0, 1, 2].map((k) => {
      const moved = (step) => {
        setting[k] = step;
        show();
      };
      const title = `Threshold of exit ${k + 1}`;
      return slider(`threshold-${k + 1}`, title, `exit-${k + 1}`, STEPS - 1, STEPS - 1, written(k), moved);
    });
    const said = node("p", { class: "result", "aria-live": "polite" });
    const show = () => {
      const found = outcome(setting);
      said.replaceChildren(
        node("strong", {}, `mAP ${found.map.toFixed(1)}`),
        ` with ${found.gmacs.toFixed(4)} GMACs, ${percent(found.compute, 1)} of full depth, and about ` +
          `${found.ms.toFixed(1)}\u00a0ms an image. ` +
          `Exits 1 to 4 take ${found.shares.map((share) => percent(share)).join(", ")} of the images.`,
      );
      drawn.move([found], `Yours: mAP ${found.map.toFixed(1)} with ${found.compute.toFixed(1)} percent of the GMACs.`);
      sorted.move(found.shares, data.pictures.map(({ image }) => exitOf(image, setting)));
    };
    const legend = [
      "Large dot: your setting. Small dots: all settings of the sliders. Line: the paper's 34 settings. " +
        "In a picture, \u2713 and \u2717 say whether the surest detection at its exit finds the object (IoU at least " +
        `0.5). Milliseconds: each exit's recorded median, one image at a time on ${data.clock}, over these shares.`,
    ];
    assemble(place, "Thresholds", controls, said, drawn, legend, sorted);
    show();
  };

  const budget = ({ place, data }) => {
    const STEPS = data.about.budgets.length;
    const RULES = Object.keys(data.rules);
    const at = (rule, step) => {
      const [map, gmacs, shares, exits] = data.rules[rule][step];
      return { map, gmacs, shares, exits, compute: (100 * gmacs) / data.gmacs[3] };
    };
    const all = RULES.map((rule, n) => {
      const points = data.rules[rule].map((_, step) => at(rule, step));
      return [`curve rule-${n}`, points.map(({ compute, map }) => [compute, map]), true];
    });
    const maps = Object.values(data.rules).flatMap((rows) => rows.map(([map]) => map));
    const lowest = 5 * Math.floor(Math.min(...maps) / 5);
    const most = 5 * Math.ceil(Math.max(...maps) / 5);
    const least = Math.floor((100 * data.gmacs[0]) / data.gmacs[3]) - 1;
    const drawn = plot(least, lowest, most, all, RULES.map((_, n) => `rule-${n}`));
    const sorted = lanes(
      data.pictures.map((picture) => ({
        ...picture,
        marks: picture.finds.map((found) => (picture.objects ? `${found}/${picture.objects}` : "\u2013")),
        said: picture.finds.map((found) => `finds ${found} of ${picture.objects}`),
        name: picture.objects === 1 ? "1 object" : `${picture.objects || "no"} objects`,
      })),
    );
    let step = data.about.budgets.indexOf(0.5);
    let rule = RULES[0];
    const written = (n) => `${percent(100 * data.about.budgets[n])} of the GMACs`;
    const control = slider("budget", "Budget", "", STEPS - 1, step, written, (to) => {
      step = to;
      show();
    });
    const radios = RULES.map((name, n) => {
      const input = node("input", { type: "radio", name: "budget-rule", id: `rule-${n}`, value: name });
      input.checked = n === 0;
      input.addEventListener("change", () => {
        rule = name;
        show();
      });
      return node("label", { class: `rule-${n}` }, input, name);
    });
    const choice = node("fieldset", { class: "choice" }, node("legend", {}, "Who leaves, by"), ...radios);
    const said = node("p", { class: "result", "aria-live": "polite" });
    const show = () => {
      const found = at(rule, step);
      const others = RULES.map((name) => `${name} ${at(name, step).map.toFixed(1)}`).join(", ");
      said.replaceChildren(
        node("strong", {}, `mAP ${found.map.toFixed(1)}`),
        ` with ${found.gmacs.toFixed(3)} GMACs, ${percent(found.compute, 1)} of full depth. Exits 1 to 4 take ` +
          `${found.shares.map((share) => percent(share)).join(", ")} of the images. mAP at this budget: ${others}.`,
      );
      drawn.move(RULES.map((name) => at(name, step)), `At this budget: ${others}.`);
      sorted.move(found.shares, found.exits);
    };
    const legend = [
      "Dots: this budget. Lines, as in the choice above: the three ways over all budgets. A picture says how many of its " +
        "objects are found at its exit. Milliseconds were not recorded for this detector.",
    ];
    assemble(place, "Budget", [control, choice], said, drawn, legend, sorted);
    show();
  };

  for (const [id, build] of [["threshold-sliders", thresholds], ["budget-slider", budget]]) {
    const part = dataFor(id);
    if (part.data) build(part);
  }
});

/* The page with the live detector: the pictures, what one does to them, and what came of it. The detector itself is
   live-detector.mjs, which is loaded on a click; tools/live_page.py puts the card into the page. Without this script
   the page shows a text in its place. */
const liveScript = document.currentScript.src;

document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("live-detector");
  const stored = document.getElementById("live-card");
  if (!place || !stored) return;
  const card = JSON.parse(stored.textContent);

  const node = (kind, attributes = {}, ...inside) => {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  };

  if (card.missing) {
    const cure = "With a network, make book puts it in.";
    place.replaceChildren(node("p", { class: "hindrance" }, `This copy of the book has no detector: ${card.missing}. ${cure}`));
    return;
  }

  const SIDE = card.side;
  const SURE = 0.3; // detections with lower scores are not drawn
  const file = (name) => new URL(`${name}?${card.made_of}`, liveScript);
  const surface = () => Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const listed = (words) => words.join(", ").replace(/, ([^,]*)$/, " and $1");

  // What is in the picture: a scene or a photo, strokes of the brush, pieces of clutter.
  const [ground, strokes, picture] = [surface(), surface(), surface()];
  const brush = strokes.getContext("2d");
  const pen = picture.getContext("2d", { willReadFrequently: true });
  const cursor = { x: SIDE / 2, y: SIDE / 2, down: false, shown: false };
  let pieces = [];
  let detector = null;
  let outcome = null;

  // The slider, and the scenes, each marked with the exit at which it leaves. The marks need no detector.
  const slider = node("input", { type: "range", id: "live-threshold", min: 0, max: card.thresholds.length - 1 });
  slider.value = card.thresholds.indexOf(0.5);
  const shares = node("output", { for: "live-threshold" });
  const threshold = () => card.thresholds[slider.value];
  const exitOf = (scores) => {
    const exit = scores.findIndex((score) => score >= threshold());
    return exit < 0 ? 4 : exit + 1;
  };

  const rows = Math.ceil(card.scenes.length / card.columns);
  const scenes = card.scenes.map((scene, at) => {
    const input = node("input", { type: "radio", name: "live-scene", value: at });
    const thumb = node("span", { class: "thumb" });
    thumb.style.backgroundImage = `url("${file("live/scenes.jpg")}")`;
    thumb.style.backgroundSize = `${100 * card.columns}% ${100 * rows}%`;
    const [column, row] = [at % card.columns, Math.floor(at / card.columns)];
    thumb.style.backgroundPosition = `${(100 * column) / (card.columns - 1)}% ${(100 * row) / (rows - 1)}%`;
    const mark = node("span", { class: "mark", "aria-hidden": "true" });
    const label = node("label", {}, input, thumb, mark);
    input.addEventListener("change", () => choose(at));
    return { input, label, mark, scene };
  });

  const showMarks = () => {
    const counts = [0, 0, 0, 0];
    scenes.forEach(({ input, label, mark, scene }, at) => {
      const exit = exitOf(scene.scores);
      counts[exit - 1] += 1;
      label.className = `scene exit-${exit}`;
      mark.textContent = exit;
      const objects = scene.objects.length ? listed(scene.objects) : "nothing";
      input.setAttribute("aria-label", `Scene ${at + 1}: ${objects}; leaves at exit ${exit}`);
    });
    const value = { 0: "0, everybody leaves at exit 1", 1: "1, nobody leaves early" }[threshold()] ?? threshold().toFixed(3);
    slider.setAttribute("aria-valuetext", value);
    shares.textContent = `${value}. Of the ${scenes.length} scenes, ${listed(counts.map((n, k) => `${n} leave at exit ${k + 1}`))}.`;
  };

  // Two views: leaving early, where one can draw, and full depth.
  const view = (title, attributes) => {
    const canvas = node("canvas", attributes);
    const stage = node("div", { class: "stage" }, canvas);
    const said = node("p", { class: "found" });
    return { canvas, stage, said, figure: node("div", { class: "view" }, node("p", { class: "title" }, title), stage, said) };
  };
  const help = "The picture. Arrow keys move the brush, space puts it down and lifts it.";
  const early = view("Leaving early", { tabindex: 0, role: "application", "aria-label": help });
  const full = view("Full depth", { role: "img", "aria-label": "The same picture with the boxes of exit 4" });
  const result = node("p", { class: "result", role: "status" });
  const table = node("table", { class: "stages" });

  // Pieces of clutter: buttons over the picture, which are dragged, or moved by arrow keys.
  const SHAPES = [
    [[0, -1], [0.9, 0.7], [-0.9, 0.7]],
    [[-1, -0.35], [1, -0.35], [1, 0.35], [-1, 0.35]],
    [[0, -1], [0.7, 0], [0, 1], [-0.7, 0]],
  ];
  const drawPiece = ({ x, y, kind, colour, size }) => {
    pen.fillStyle = colour;
    pen.strokeStyle = "#333";
    pen.lineWidth = 1;
    pen.beginPath();
    if (SHAPES[kind]) SHAPES[kind].forEach(([a, b]) => pen.lineTo(x + a * size, y + b * size));
    else pen.ellipse(x, y, size, 0.6 * size, 0.5, 0, 2 * Math.PI);
    pen.closePath();
    pen.fill();
    pen.stroke();
  };

  const inside = (value) => Math.min(Math.max(value, 0), SIDE);
  const move = (piece, x, y) => {
    Object.assign(piece, { x: inside(x), y: inside(y) });
    piece.button.style.left = `${(100 * piece.x) / SIDE}%`;
    piece.button.style.top = `${(100 * piece.y) / SIDE}%`;
    changed();
  };
  const remove = (piece) => {
    pieces = pieces.filter((other) => other !== piece);
    piece.button.remove();
    early.canvas.focus();
    changed();
  };

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const at = (event) => {
    const box = early.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const dragged = (element, begin, go, end = () => {}) => {
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      begin(...at(event));
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) go(...at(event));
    });
    element.addEventListener("lostpointercapture", end);
  };

  let added = 0;
  const addClutter = () => {
    const colour = `hsl(${(added * 137 + 20) % 360} 65% 50%)`;
    const piece = { kind: added % 4, colour, size: 10 + ((added * 5) % 9), button: node("button", { type: "button", class: "piece" }) };
    added += 1;
    piece.button.setAttribute("aria-label", `Clutter ${added}: arrow keys move it, Delete takes it away`);
    piece.button.style.width = piece.button.style.height = `${(200 * piece.size) / SIDE}%`;
    dragged(piece.button, () => {}, (x, y) => move(piece, x, y));
    piece.button.addEventListener("keydown", (event) => {
      const [dx, dy] = ARROWS[event.key] ?? [0, 0];
      if (dx || dy) move(piece, piece.x + 4 * dx, piece.y + 4 * dy);
      else if (["Delete", "Backspace"].includes(event.key)) remove(piece);
      else return;
      event.preventDefault();
    });
    pieces.push(piece);
    early.stage.append(piece.button);
    move(piece, 28 + ((added * 41) % 72), 28 + ((added * 59) % 72));
    piece.button.focus({ preventScroll: true });
  };

  // The brush, by mouse or finger, and by keyboard.
  const colour = node("input", { type: "color", value: "#d55e00" });
  const width = node("input", { type: "range", min: 2, max: 30, value: 10 });
  const stroke = (x, y) => {
    Object.assign(brush, { strokeStyle: colour.value, lineWidth: Number(width.value), lineCap: "round" });
    brush.beginPath();
    brush.moveTo(cursor.x, cursor.y);
    Object.assign(cursor, { x: inside(x), y: inside(y) });
    brush.lineTo(cursor.x, cursor.y + 0.01); // a line of no length would not be drawn
    brush.stroke();
    changed();
  };
  const begin = (x, y) => {
    Object.assign(cursor, { x: inside(x), y: inside(y), shown: false });
    stroke(x, y);
  };
  dragged(early.canvas, begin, stroke);
  early.canvas.addEventListener("keydown", (event) => {
    const [dx, dy] = ARROWS[event.key] ?? [0, 0];
    if (!dx && !dy && event.key !== " ") return;
    event.preventDefault();
    cursor.shown = true;
    if (event.key === " ") cursor.down = !cursor.down;
    const [x, y] = [inside(cursor.x + 3 * dx), inside(cursor.y + 3 * dy)];
    if (cursor.down) return stroke(x, y);
    Object.assign(cursor, { x, y });
    paint();
  });
  early.canvas.addEventListener("blur", () => {
    Object.assign(cursor, { down: false, shown: false });
    paint();
  });

  const clean = () => {
    brush.clearRect(0, 0, SIDE, SIDE);
    pieces.forEach((piece) => piece.button.remove());
    pieces = [];
    changed();
  };

  // What stands behind: a scene of the sheet, or the middle of somebody's photo.
  const sheet = new Image();
  sheet.src = file("live/scenes.jpg");
  const choose = async (number) => {
    await sheet.decode();
    const [x, y] = [(number % card.columns) * SIDE, Math.floor(number / card.columns) * SIDE];
    ground.getContext("2d").drawImage(sheet, x, y, SIDE, SIDE, 0, 0, SIDE, SIDE);
    place.classList.remove("photo");
    clean();
  };
  const photo = node("input", { type: "file", accept: "image/*" });
  photo.addEventListener("change", async () => {
    if (!photo.files.length) return;
    try {
      const image = await createImageBitmap(photo.files[0]);
      const side = Math.min(image.width, image.height);
      const on = ground.getContext("2d");
      on.imageSmoothingQuality = "high";
      on.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    } catch {
      say("This file is no picture that the browser can read.");
      return;
    }
    scenes.forEach(({ input }) => (input.checked = false));
    place.classList.add("photo");
    clean();
  });

  // Painting: the picture, and on it the boxes of both ways.
  const boxesOn = (canvas, found, exit) => {
    const scale = window.devicePixelRatio || 1;
    const side = Math.round(canvas.clientWidth * scale) || SIDE;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const on = canvas.getContext("2d");
    on.drawImage(picture, 0, 0, side, side);
    on.font = `${12 * scale}px sans-serif`;
    on.textBaseline = "top";
    const zoom = side / SIDE;
    for (const { box, label, score } of [...found].reverse()) {
      const [x, y, w, h] = [box[0], box[1], box[2] - box[0], box[3] - box[1]].map((value) => value * zoom);
      for (const [style, line] of [["#fff", 4], [getComputedStyle(place).getPropertyValue(`--exit-${exit}`), 2]]) {
        Object.assign(on, { strokeStyle: style, lineWidth: line * scale });
        on.strokeRect(x, y, w, h);
      }
      const text = `${card.classes[label]} ${score.toFixed(2)}`;
      const [wide, high] = [on.measureText(text).width + 4 * scale, 15 * scale];
      const [left, top] = [Math.max(0, Math.min(x, side - wide)), y >= high ? y - high : y];
      on.fillStyle = "#fff";
      on.fillRect(left, top, wide, high);
      on.fillStyle = "#222";
      on.fillText(text, left + 2 * scale, top + 2 * scale);
    }
    return on;
  };

  const paint = () => {
    pen.drawImage(ground, 0, 0);
    pen.drawImage(strokes, 0, 0);
    pieces.forEach(drawPiece);
    const sure = (found) => found.filter(({ score }) => score >= SURE);
    const on = boxesOn(early.canvas, outcome ? sure(outcome.early) : [], outcome?.exit);
    boxesOn(full.canvas, outcome ? sure(outcome.full) : [], 4);
    if (!cursor.shown) return;
    const zoom = early.canvas.width / SIDE;
    Object.assign(on, { strokeStyle: cursor.down ? colour.value : "#fff", lineWidth: 2 });
    on.beginPath();
    on.arc(cursor.x * zoom, cursor.y * zoom, (Math.max(width.value, 4) / 2) * zoom, 0, 2 * Math.PI);
    on.stroke();
  };

  // Looking: exit by exit until the score is enough. Only then the rest, for comparison.
  const look = async () => {
    const limit = threshold();
    const walk = detector.start(pen.getImageData(0, 0, SIDE, SIDE).data);
    const stages = [];
    do stages.push(await walk.advance());
    while (walk.exit < 4 && stages.at(-1).score < limit);
    const exit = walk.exit;
    const left = await walk.detect();
    stages[exit - 1].headMs = left.ms;
    while (walk.exit < 4) stages.push(await walk.advance());
    const deep = exit === 4 ? left : await walk.detect();
    stages[3].headMs = deep.ms;
    const total = (some) => some.reduce((sum, { ms }) => sum + ms, 0);
    const [ms, fullMs] = [total(stages.slice(0, exit)) + left.ms, total(stages) + deep.ms];
    return { exit, early: left.found, full: deep.found, stages, ms, fullMs };
  };

  const names = (found) => {
    const said = found.filter(({ score }) => score >= SURE).map(({ label, score }) => `${card.classes[label]} ${score.toFixed(2)}`);
    return said.length ? said.join(", ") : "nothing";
  };
  const time = (ms) => (ms === undefined ? "" : ms.toFixed(1));
  const report = () => {
    const { exit, stages, ms, fullMs } = outcome;
    const compute = (100 * card.gmacs[exit - 1]) / card.gmacs[3];
    early.figure.className = `view exit-${exit}`;
    early.said.textContent = `Exit ${exit}, ${time(ms)} ms: ${names(outcome.early)}`;
    full.said.textContent = `Exit 4, ${time(fullMs)} ms: ${names(outcome.full)}`;
    result.textContent =
      `Leaves at exit ${exit} with ${names(outcome.early)}, after ${time(ms)} ms and ${compute.toFixed(0)} % of the ` +
      `compute. Full depth takes ${time(fullMs)} ms.`;
    const head = ["Exit", "Score", "Decision", "Backbone, ms", "Neck and head, ms"].map((word) => node("th", { scope: "col" }, word));
    const lines = stages.map((stage, k) => {
      const passed = k + 1 < exit;
      const decision = passed ? "goes on" : k + 1 === exit ? "leaves" : "for full depth only";
      const cells = [k < 3 ? stage.score.toFixed(3) : "", decision, time(stage.ms), time(stage.headMs)];
      const first = node("th", { scope: "row", class: `exit-${k + 1}` }, `${k + 1}`);
      return node("tr", { class: k + 1 > exit ? "beyond" : "" }, first, ...cells.map((text) => node("td", {}, text)));
    });
    table.replaceChildren(node("thead", {}, node("tr", {}, ...head)), node("tbody", {}, ...lines));
    place.dataset.result = JSON.stringify(outcome);
  };

  let [asked, answered, looking] = [0, 0, false];
  const changed = async () => {
    asked += 1;
    paint();
    if (looking || !detector) return;
    looking = true;
    place.dataset.busy = "";
    while (answered !== asked) {
      answered = asked;
      await new Promise((resume) => setTimeout(resume)); // lets the browser show what was done
      outcome = await look();
      paint();
      report();
    }
    looking = false;
    delete place.dataset.busy;
  };
  slider.addEventListener("input", () => {
    showMarks();
    changed();
  });

  // Loading, on a click.
  const button = node("button", { type: "button", class: "load" }, `Load the detector, ${card.megabytes} MB`);
  const progress = node("progress", { "aria-label": "Loading", max: card.megabytes * 1e6, value: 0 });
  const status = node("p", { class: "status", role: "status" });
  const say = (...words) => status.replaceChildren(...words);
  const SORRY =
    "The detector needs WebAssembly, as current versions of Firefox, Chrome, Edge and Safari have it, unless a " +
    "company's settings or a lockdown mode switch it off. Try another browser, or run the same in Python, as below.";
  const hindrance = () => {
    if (location.protocol === "file:")
      return "This page was opened as a file, and a browser lets no file load a detector. Run make serve, and open the address that it prints.";
    return typeof WebAssembly === "object" && "DecompressionStream" in window ? "" : SORRY;
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    say(progress);
    try {
      const { load } = await import(file("live-detector.mjs"));
      detector = await load(card, (name) => file(`live/${name}`), (bytes) => (progress.value += bytes));
    } catch (error) {
      button.disabled = false;
      say(`It did not load (${error.message}). ${SORRY}`);
      return;
    }
    button.remove();
    say("The detector is loaded, and runs here: no picture leaves this machine.");
    place.classList.add("loaded");
    slider.focus({ preventScroll: true });
    changed();
  });
  const stopped = hindrance();
  if (stopped) say(stopped);

  const pressed = (text, act) => {
    const made = node("button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  };
  place.replaceChildren(
    node("div", { class: "way-in" }, ...(stopped ? [] : [button]), status),
    node(
      "fieldset",
      {},
      node("legend", {}, "A scene; its number is the exit at which it leaves"),
      node("div", { class: "scenes" }, ...scenes.map(({ label }) => label)),
    ),
    node("div", { class: "control" }, node("label", { for: "live-threshold" }, "Threshold"), slider, shares),
    node("div", { class: "views" }, early.figure, full.figure),
    node(
      "div",
      { class: "tools", role: "group", "aria-label": "What is done to the picture" },
      pressed("Add clutter", addClutter),
      node("label", {}, "Brush ", colour),
      node("label", {}, "Width ", width),
      pressed("Clean", clean),
      node("label", {}, "A photo of your own ", photo),
    ),
    node("p", { class: "honest" }, "A photo: the detector has seen drawings of twenty things only. What it says of a photo is a guess."),
    result,
    node("div", { class: "wide" }, table),
  );
  place.classList.add("live");
  showMarks();
  window.addEventListener("resize", paint);
  const first = Math.max(0, card.scenes.findIndex(({ objects, scores }) => objects.length > 1 && exitOf(scores) < 4));
  scenes[first].input.checked = true;
  choose(first);
});

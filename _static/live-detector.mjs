// The detector "scenes-many" in a browser: its graphs from exit to exit run in onnxruntime, and what the library does
// between them in Python is done here: the rule of leaving (earlyexit/model/exits.py, `Worth`), the boxes from anchors
// and non-maximum suppression (earlyexit/model/detector.py). tools/live_page.py makes the graphs and the card.

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// A file as bytes; `told` hears of every piece that arrives. What is packed comes unpacked.
async function fetched(url, told) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const pieces = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    told(value.length);
  }
  const file = new Blob(pieces);
  const start = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const packed = start[0] === 0x1f && start[1] === 0x8b; // a server may have unpacked it already
  const whole = packed ? new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))) : file;
  return new Uint8Array(await whole.arrayBuffer());
}

// Loads everything; `address(name)` says where a file is, `told(bytes)` hears how much has arrived.
export async function load(card, address, told) {
  const onnx = await import(address("ort.mjs"));
  onnx.env.wasm.numThreads = 1; // more would need headers that a plain server does not send
  onnx.env.wasm.wasmBinary = await fetched(address("ort-wasm.bin"), told);
  const session = async (part) => onnx.InferenceSession.create(await fetched(address(part.file), told));
  const steps = [];
  for (const exit of card.exits)
    steps.push({ ...exit, backboneGraph: await session(exit.backbone), headGraph: await session(exit.head) });
  const detector = new Detector(onnx, card, steps);
  // The first run of a graph is a slow one.
  const walk = detector.start(new Uint8ClampedArray(4 * card.side * card.side));
  for (let exit = 1; exit <= steps.length; exit++) {
    await walk.advance();
    await walk.detect();
  }
  return detector;
}

class Detector {
  constructor(onnx, card, steps) {
    Object.assign(this, { onnx, card, steps });
  }

  // A walk through the exits for one picture of side x side pixels, given as RGBA bytes.
  start(pixels) {
    const { mean, std, side } = this.card;
    const area = side * side;
    const values = new Float32Array(3 * area);
    for (let at = 0; at < area; at++)
      for (let c = 0; c < 3; c++) values[c * area + at] = (pixels[4 * at + c] / 255 - mean[c]) / std[c];
    return new Walk(this, { images: new this.onnx.Tensor("float32", values, [1, 3, side, side]) });
  }
}

class Walk {
  constructor(detector, known) {
    Object.assign(this, { detector, known, exit: 0 });
  }

  async run(graph, part) {
    const inputs = Object.fromEntries(part.inputs.map((name) => [name, this.known[name]]));
    const began = performance.now();
    const outputs = await graph.run(inputs);
    return { outputs, ms: performance.now() - began };
  }

  // Go on to the next exit: the rule's score there, and how long it took.
  async advance() {
    const step = this.detector.steps[this.exit];
    const { outputs, ms } = await this.run(step.backboneGraph, step.backbone);
    Object.assign(this.known, outputs);
    this.exit += 1;
    return { exit: this.exit, ms, score: this.exit === 4 ? 1 : score(this.detector.card.rule, this.known, this.exit) };
  }

  // Neck, head and boxes at the exit that was reached.
  async detect() {
    const step = this.detector.steps[this.exit - 1];
    const { outputs, ms } = await this.run(step.headGraph, step.head);
    const began = performance.now();
    const found = detections(outputs, step, this.detector.card);
    return { found, ms: ms + performance.now() - began };
  }
}

// How surely an image may leave: 0.5 where the best of the later exits adds as much as it costs.
export function score(rule, known, exit) {
  const features = worthFeatures(known, exit);
  const weights = rule.weights[exit - 1];
  const worth = rule.biases[exit - 1].map((bias, later) => {
    const gain = features.reduce((sum, value, f) => sum + value * weights[f][later], bias);
    return gain - rule.price * rule.costs[exit - 1][exit + later];
  });
  return sigmoid(-Math.max(...worth));
}

function worthFeatures(known, exit) {
  const logits = [];
  for (let k = 1; k <= exit; k++) logits.push(...Array.from(known[`logits_${k}`].data).sort((a, b) => b - a));
  const latents = known[`latents_${Math.min(exit, 2)}`];
  const [, count, channels] = latents.dims;
  const means = Array(channels).fill(0);
  latents.data.forEach((value, at) => (means[at % channels] += value / count));
  return [...logits, ...logits.map(sigmoid), ...means];
}

const highestFirst = (a, b) => b.score - a.score;

// [{ box: [x0, y0, x1, y1], score, label }], the surest first.
export function detections({ cls_logits: logits, bbox_regression: deltas }, step, card) {
  const classes = logits.dims[2];
  const found = [];
  let anchor = 0;
  for (const level of step.levels) {
    const here = [];
    for (let y = 0; y < level.size[0]; y++)
      for (let x = 0; x < level.size[1]; x++)
        for (const around of level.anchors) {
          for (let label = 0; label < classes; label++) {
            const value = sigmoid(logits.data[anchor * classes + label]);
            if (value > card.score_thresh) here.push({ score: value, label, anchor, around, x, y, level });
          }
          anchor += 1;
        }
    found.push(...here.sort(highestFirst).slice(0, card.topk_candidates));
  }
  for (const one of found) one.box = decoded(one, deltas.data, card);
  const [gain, shift] = step.scale;
  return suppressed(found.sort(highestFirst), card.nms_thresh)
    .slice(0, card.detections_per_img)
    .map(({ box, label, score }) => ({ box, label, score: sigmoid(gain * Math.log(score / (1 - score)) + shift) }));
}

function decoded({ anchor, around, x, y, level }, deltas, { clip, side }) {
  const [x0, y0, x1, y1] = around;
  const [dx, dy, dw, dh] = deltas.subarray(4 * anchor, 4 * anchor + 4);
  const [width, height] = [x1 - x0, y1 - y0];
  const middle = [x * level.stride + x0 + width / 2 + dx * width, y * level.stride + y0 + height / 2 + dy * height];
  const half = [(width * Math.exp(Math.min(dw, clip))) / 2, (height * Math.exp(Math.min(dh, clip))) / 2];
  const inside = (value) => Math.min(Math.max(value, 0), side);
  return [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]].map(inside);
}

function overlap([a0, b0, a1, b1], [c0, d0, c1, d1]) {
  const both = Math.max(0, Math.min(a1, c1) - Math.max(a0, c0)) * Math.max(0, Math.min(b1, d1) - Math.max(b0, d0));
  return both / ((a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - both);
}

function suppressed(found, threshold) {
  const kept = [];
  for (const one of found)
    if (!kept.some((k) => k.label === one.label && overlap(k.box, one.box) > threshold)) kept.push(one);
  return kept;
}

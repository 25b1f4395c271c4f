"use strict";
// The page: files in, ranked classes out. Names of files and classes are only ever set as text.

const about = JSON.parse(document.getElementById("about").textContent);
const [drop, state, results, clear] = ["drop", "status", "results", "clear"].map((id) => document.getElementById(id));
const camera = document.getElementById("camera"), video = camera.querySelector("video");
const SHOWN = 5; // classes of an answer
const OUTSIDE = "Out-of-distribution: this image differs from the training images, so the probabilities may be meaningless.";
let queue = Promise.resolve(); // one image at a time
let round = 0; // "Remove all" begins a new one

function element(tag, words = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = words;
  made.className = kind;
  return made;
}

/** A file of the page: what is inside it, or what lies beside it and has the right hash. */
async function bytesOf({ name, integrity }) {
  const inside = document.getElementById(name);
  if (!inside) return new Uint8Array(await (await fetch(name, { integrity })).arrayBuffer());
  const packed = atob(inside.textContent), bytes = new Uint8Array(packed.length);
  for (let k = 0; k < packed.length; k += 1) bytes[k] = packed.charCodeAt(k);
  inside.remove();
  return bytes;
}

/** Load the runtime and the model: a function from pixels to probabilities and the share of features outside. */
async function load() {
  if (!checkCanvas()) throw new Refused("This browser changes the pixels that a page reads. Allow this page to use the canvas, then reload it.");
  const [code, wasm, graph] = await Promise.all(["code", "wasm", "graph"].map((kind) => bytesOf(about.files[kind])));
  const ort = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1 });
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return async (pixels) => {
    const raw_rgb = new ort.Tensor("float32", Float32Array.from(pixels), [1, about.size, about.size, 3]);
    const { probabilities, outside } = await session.run({ raw_rgb });
    return { probabilities: Array.from(probabilities.data), outside: outside.data[0] };
  };
}

/** Whether a page can read the pixels that it draws: some browsers change them against tracking. */
function checkCanvas() {
  const context = element("canvas").getContext("2d", { willReadFrequently: true });
  const drawn = context.createImageData(16, 16);
  for (let k = 0; k < drawn.data.length; k += 1) drawn.data[k] = k % 4 === 3 ? 255 : (k * 37) % 256;
  context.putImageData(drawn, 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((value, k) => value === drawn.data[k]);
}

/** The predicted class first, then from most to least probable. */
function ranked(probabilities) {
  const pairs = about.classes.map((name, k) => ({ name, probability: probabilities[k] }));
  pairs.sort((one, other) => other.probability - one.probability);
  if (!about.rule) return pairs;
  const { positive, threshold } = about.rule;
  const found = pairs.find(({ name }) => name === positive).probability >= threshold;
  return pairs.sort((one, other) => ((one.name === positive) !== found) - ((other.name === positive) !== found));
}

/** Everything that is shown of one file: a small copy, its name, and the answer or why there is none. */
async function answer(model, file, item) {
  const words = item.querySelector("div");
  try {
    const bitmap = await decoded(file, about.most);
    item.prepend(thumbnail(bitmap));
    const pixels = resized(bitmap, about.size, about.resize);
    bitmap.close();
    const { probabilities, outside } = await model(pixels);
    const pairs = ranked(probabilities), flagged = about.limit !== null && outside > about.limit;
    words.lastChild.remove();
    words.append(element("p", pairs[0].name, "predicted"), bars(pairs.slice(0, SHOWN)));
    if (flagged) words.append(element("p", OUTSIDE, "warning"));
    item.dataset.answer = JSON.stringify({ class: pairs[0].name, probabilities, outOfDistribution: flagged });
    return `${file.name}: ${pairs[0].name}, probability ${pairs[0].probability.toFixed(2)}${flagged ? ". " + OUTSIDE : ""}`;
  } catch (error) {
    const reason = error instanceof Refused ? error.message : `The browser could not predict this image (${error.message}).`;
    words.lastChild.remove();
    words.append(element("p", reason, "refused"));
    return `${file.name}: ${reason}`;
  }
}

function thumbnail(bitmap) {
  const canvas = element("canvas"), scale = 160 / Math.max(bitmap.width, bitmap.height);
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-hidden", "true"); // the file's name stands beside it
  return canvas;
}

function bars(pairs) {
  const list = element("ol");
  for (const { name, probability } of pairs) {
    const row = element("li"), bar = element("span", "", "bar");
    bar.style.width = `${100 * probability}%`;
    row.append(element("span", name), element("span", probability.toFixed(2), "number"), bar);
    list.append(row);
  }
  return list;
}

/** Put files in the queue; each has its place in the list at once. */
function add(files) {
  for (const file of files) {
    const item = element("li"), words = element("div"), here = round;
    words.append(element("p", file.name, "name"), element("p", "waiting ...", "hint"));
    item.append(words);
    results.append(item);
    clear.hidden = false;
    queue = queue.then(async () => {
      if (here !== round) return;
      const run = await model.catch(() => null);
      if (!run) return;
      words.lastChild.textContent = "predicting ...";
      await new Promise((painted) => setTimeout(painted, 30));
      const sentence = await answer(run, file, item);
      if (here === round) state.textContent = sentence;
    });
  }
}

async function photograph() {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
    camera.showModal();
  } catch {
    document.getElementById("capture").click(); // a phone's own camera, or a choice of files
  }
}

function shoot() {
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => blob && add([new File([blob], `photo ${new Date().toLocaleTimeString()}`)]), "image/png");
  camera.close();
}

for (const id of ["files", "capture"])
  document.getElementById(id).addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = ""; // the same file can be chosen again
  });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
document.getElementById("photograph").addEventListener("click", photograph);
document.getElementById("shoot").addEventListener("click", shoot);
document.getElementById("close").addEventListener("click", () => camera.close());
camera.addEventListener("close", () => video.srcObject.getTracks().forEach((track) => track.stop()));
clear.addEventListener("click", () => {
  round += 1;
  results.replaceChildren();
  clear.hidden = true;
  state.textContent = "All predictions have been removed.";
  document.getElementById("files").focus();
});

const model = load();
model.then(
  () => (state.textContent = "Ready: choose images."),
  (error) => {
    const opened = location.protocol === "file:" && !(error instanceof Refused);
    const remedy = "This page was opened as a file, which browsers do not let load its parts. Put its folder on a web server, or make it with --single-file.";
    state.textContent = opened ? remedy : error instanceof Refused ? error.message : `The model could not be loaded (${error.message}). Reload the page.`;
    state.className = "warning";
  },
);

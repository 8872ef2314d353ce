// Generates images in the browser. Everything is computed here; no file but those of this folder is asked for.
import * as ort from "./runtime/ort.wasm.min.mjs";
import { latentOfSeed, slerp } from "./latents.js";

const element = (id) => document.getElementById(id);
const field = Object.fromEntries(
  ["seed", "second", "psi", "blend", "mix", "zoom", "class"].map((id) => [id, element(id)]),
);
let model, mapping, synthesis, zooming;
let galleryPage = 0; // 0: typical images; then seeds in order

ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // threads need headers that a plain web server does not send

async function session(name) {
  const file = await fetch(name);
  if (!file.ok) throw new Error(`${name}: ${file.status}`);
  return ort.InferenceSession.create(new Uint8Array(await file.arrayBuffer()), { executionProviders: ["wasm"] });
}

/** Style of one latent: Float32Array (wDim). */
async function styleOf(z, psi, label) {
  const inputs = {
    z: new ort.Tensor("float32", z, [1, model.zDim]),
    truncation: new ort.Tensor("float32", Float32Array.of(psi), [1]),
  };
  if (model.classNames.length) inputs.labels = new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1]);
  return (await mapping.run(inputs)).w.data;
}

/** Image of styles, one for each place: {pixels: Float32Array (C, side, side) in [-1, 1], side}. */
async function render(styles, zoomed = false) {
  const w = new Float32Array(model.numStyles * model.wDim);
  styles.forEach((style, place) => w.set(style, place * model.wDim));
  const made = await synthesis.run({ w: new ort.Tensor("float32", w, [1, model.numStyles, model.wDim]) });
  if (!zoomed) return { pixels: made.images.data, side: model.resolution };
  return { pixels: (await zooming.run({ tokens: made.tokens })).images.data, side: model.resolution * model.zoom };
}

function paint(canvas, { pixels, side }) {
  canvas.width = canvas.height = side;
  const area = side * side;
  const image = new ImageData(side, side);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) {
      // Clamped and rounded by the array's own type.
      image.data[4 * i + c] = pixels[(model.channels === 1 ? 0 : c) * area + i] * 127.5 + 127.5;
    }
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const chosen = () => ({
  seed: Math.floor(Number(field.seed.value)) >>> 0,
  second: Math.floor(Number(field.second.value)) >>> 0,
  psi: Number(field.psi.value),
  blend: Number(field.blend.value) / 100,
  layers: Number(field.mix.value),
  zoomed: field.zoom.checked,
  label: field.class.value === "" ? null : Number(field.class.value),
});

/** The class that is chosen, else the seed's own, as `vitgan sample --seeds` has it. */
const classOf = (seed, label) => label ?? model.classesInTurn[seed % model.classesInTurn.length] ?? 0;

async function show() {
  const { seed, second, psi, blend, layers, zoomed, label: asked } = chosen();
  const label = classOf(seed, asked); // of both: blends and mixtures stay in one class
  const a = latentOfSeed(seed, model.zDim);
  const b = latentOfSeed(second, model.zDim);
  const early = await styleOf(blend ? slerp(a, b, blend) : a, psi, label);
  const late = layers < model.numStyles ? await styleOf(b, psi, label) : early;
  const styles = Array.from({ length: model.numStyles }, (_, place) => (place < layers ? early : late));
  paint(element("image"), await render(styles, zoomed));
}

const called = (seed, label) => {
  const name = model.classNames[classOf(seed, label)];
  return `Seed ${seed}${name ? `, ${name}` : ""}`;
};

async function showGallery() {
  const { psi, label } = chosen();
  const buttons = element("gallery").children;
  const first = (galleryPage - 1) * buttons.length;
  const last = first + buttons.length - 1;
  element("gallery-title").textContent = galleryPage ? `Seeds ${first} to ${last}` : "Typical images";
  element("back").disabled = galleryPage === 0;
  for (let i = 0; i < buttons.length; i++) {
    const seed = galleryPage ? first + i : model.typicalSeeds[i];
    const style = await styleOf(latentOfSeed(seed, model.zDim), psi, classOf(seed, label));
    paint(buttons[i].firstChild, await render(Array(model.numStyles).fill(style)));
    buttons[i].dataset.seed = seed;
    buttons[i].setAttribute("aria-label", called(seed, label));
    if (waiting) return; // something newer is wanted
  }
}

// One picture at a time; what was asked for meanwhile is drawn once, at the end.
let busy = false, waiting = false, galleryFor = "";
async function update() {
  element("psi-shown").value = Number(field.psi.value).toFixed(2);
  element("blend-shown").value = `${field.blend.value}%`;
  element("mix-shown").value = `${field.mix.value}/${model.numStyles}`;
  waiting = true;
  if (busy) return;
  busy = true;
  try {
    while (waiting) {
      waiting = false;
      const start = performance.now();
      await show();
      const { seed, psi, label } = chosen();
      element("status").textContent = `${called(seed, label)}, ${(performance.now() - start).toFixed(0)} ms`;
      if (!waiting && galleryFor !== `${galleryPage} ${psi} ${label}`) {
        await showGallery();
        if (!waiting) galleryFor = `${galleryPage} ${psi} ${label}`;
      }
    }
  } catch (error) {
    element("status").textContent = `Something went wrong: ${error.message}`;
    throw error;
  } finally {
    busy = false;
  }
}

function set(input, value) {
  input.value = value;
  update();
}

function turnGallery(pages) {
  galleryPage = Math.max(0, galleryPage + pages);
  update();
}

/** The address of what is shown: all that is not as at the start. */
function address() {
  const query = new URLSearchParams({ seed: chosen().seed });
  for (const [name, start] of Object.entries(starts)) {
    if (valueOf(name) !== start) query.set(name, valueOf(name));
  }
  return `${location.pathname}?${query}`;
}

const valueOf = (name) => {
  if (name === "zoom") return field.zoom.checked ? "1" : "0";
  return name === "class" ? field.class.selectedOptions[0].text : field[name].value;
};

/** Sets what an address asks for; a class goes by its name or number. */
function follow(query) {
  const options = [...field.class.options];
  for (const [name, value] of query) { // a name comes first: it may be another class's number
    const option = options.find(({ text }) => text === value) ?? options.find((one) => one.value === value);
    if (name === "zoom") field.zoom.checked = value === "1";
    else if (name === "class") field.class.value = option?.value ?? "";
    else if (name in field) field[name].value = value;
  }
}

let starts; // what each control has if no address says otherwise

function connect() {
  element("controls").addEventListener("input", update);
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("previous").onclick = () => set(field.seed, Math.max(0, chosen().seed - 1));
  element("next").onclick = () => set(field.seed, chosen().seed + 1);
  element("random").onclick = () => set(field.seed, Math.floor(Math.random() * 1e6));
  element("back").onclick = () => turnGallery(-1);
  element("more").onclick = () => turnGallery(1);
  element("share").onclick = async () => {
    history.replaceState(null, "", address());
    try {
      await navigator.clipboard.writeText(location.href);
      element("status").textContent = "The link is copied";
    } catch { // a browser may forbid it
      element("status").textContent = "The link is in the address bar";
    }
  };
  element("save").onclick = () => {
    const link = document.createElement("a");
    link.download = `seed${chosen().seed}.png`;
    link.href = element("image").toDataURL("image/png");
    link.click();
  };
  const image = element("image");
  const drag = (event) => {
    const box = image.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    set(field.blend, Math.round(100 * Math.min(1, Math.max(0, share))));
  };
  image.addEventListener("pointerdown", (event) => { image.setPointerCapture(event.pointerId); drag(event); });
  image.addEventListener("pointermove", (event) => { if (image.hasPointerCapture(event.pointerId)) drag(event); });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: element("previous").onclick,
      ArrowRight: element("next").onclick,
      ArrowUp: () => set(field.psi, chosen().psi + 0.05),
      ArrowDown: () => set(field.psi, chosen().psi - 0.05),
      r: element("random").onclick,
      z: () => { if (model.zoom > 1) { field.zoom.checked = !field.zoom.checked; update(); } },
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) { event.preventDefault(); act(); }
  });
  for (let i = 0; i < model.typicalSeeds.length; i++) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("canvas"));
    button.onclick = () => {
      field.blend.value = 0;
      field.mix.value = model.numStyles;
      set(field.seed, button.dataset.seed);
      element("image").scrollIntoView({ block: "nearest" }); // on a low screen the image is elsewhere
    };
    element("gallery").append(button);
  }
}

function describe() {
  document.title = element("title").textContent = model.title;
  field.mix.max = model.numStyles; // before the value, which it bounds
  field.mix.value = model.numStyles;
  element("mix-field").hidden = model.numStyles < 2;
  element("zoom-field").hidden = element("zoom-key").hidden = model.zoom < 2;
  element("zoom-label").textContent = `Detail, ${model.zoom}×`;
  document.documentElement.style.setProperty("--side", `${8 * model.resolution}px`);
  element("class-field").hidden = !model.classNames.length;
  model.classesInTurn.forEach((i) => field.class.add(new Option(model.classNames[i], `${i}`))); // those of training
  field.seed.value = model.typicalSeeds[0];
  starts = Object.fromEntries(["second", "psi", "blend", "mix", "class", "zoom"].map((name) => [name, valueOf(name)]));
  follow(new URLSearchParams(location.search));
}

async function start() {
  try {
    model = await (await fetch("model.json")).json();
    [mapping, synthesis] = [await session("mapping.onnx"), await session("synthesis.onnx")];
    if (model.zoom > 1) zooming = await session("zoom.onnx");
  } catch (error) {
    element("status").textContent = `The model could not be loaded: ${error.message}`;
    throw error;
  }
  describe();
  connect();
  await update();
}

// For scripts: the image of a seed as numbers, and whether all that was asked for is on the screen.
globalThis.vitgan = {
  ready: start(),
  idle: () => !busy && !waiting,
  async image(seed, psi = 1, label = null, zoomed = false) {
    const style = await styleOf(latentOfSeed(seed, model.zDim), psi, classOf(seed, label));
    return Array.from((await render(Array(model.numStyles).fill(style), zoomed)).pixels);
  },
};

"use strict";

const $ = (id) => document.getElementById(id);
const form = $("form"), canvas = $("canvas"), photo = $("photo"), box = $("box");
const sides = ["left", "top", "right", "bottom"];
const maxBytes = Number(document.body.dataset.maxBytes);

// --- the files

function show(element, visible = true) { element.hidden = !visible; }

function fail(message) {
  $("error").textContent = message;
  show($("error"), Boolean(message));
}

function warn(message) {
  const line = document.createElement("p");
  line.textContent = message;
  $("warnings").append(line);
  show($("warnings"));
}

function takesDrops(drop, accept) {
  const input = drop.querySelector("input");
  const mark = (on) => (event) => { event.preventDefault(); drop.classList.toggle("over", on); };
  drop.addEventListener("dragover", mark(true));
  drop.addEventListener("dragleave", mark(false));
  drop.addEventListener("drop", (event) => {
    mark(false)(event);
    input.files = event.dataTransfer.files;
    accept(input.files);
  });
  input.addEventListener("change", () => accept(input.files));
}

takesDrops($("photo-drop"), ([file]) => {
  if (!file) return;
  fail("");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(file);
});

photo.addEventListener("load", () => {
  for (const side of sides) form[side].value = "";
  drawBox();
  canvas.style.maxWidth = `${75 * photo.naturalWidth / photo.naturalHeight}vh`; // so that all of it is in view
  showPhoto(true);
});

photo.addEventListener("error", () => {
  const name = form.photo.files[0]?.name;
  form.photo.value = "";
  showPhoto(false);
  fail(`${name} is no picture that this browser can show: choose a JPEG or PNG file`);
});

function showPhoto(visible) {
  show(canvas, visible);
  show($("photo-hint"), visible);
  show($("photo-drop"), !visible);
}

$("other-photo").addEventListener("click", () => form.photo.click());

// A photo dropped anywhere else must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

for (const drop of form.querySelectorAll(".drop.small")) {
  const name = drop.querySelector("span");
  takesDrops(drop, (files) => {
    fail("");
    drop.classList.toggle("filled", files.length > 0);
    name.textContent = [...files].map((file) => file.name).join(", ") || "Choose a file";
  });
}

// --- the box

let start = null;

function pixelOf(event) {
  const area = canvas.getBoundingClientRect();
  const limit = (value, size) => Math.min(Math.max(value, 0), size);
  return [
    limit((event.clientX - area.left) / area.width * photo.naturalWidth, photo.naturalWidth),
    limit((event.clientY - area.top) / area.height * photo.naturalHeight, photo.naturalHeight),
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  start = pixelOf(event);
  canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener("pointermove", (event) => {
  if (!start) return;
  const end = pixelOf(event);
  const corners = [Math.min, Math.max].flatMap((pick) => [0, 1].map((axis) => pick(start[axis], end[axis])));
  sides.forEach((side, i) => { form[side].value = Math.round(corners[i]); });
  drawBox();
});

for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { start = null; });

function drawBox() {
  const [left, top, right, bottom] = sides.map((side) => parseFloat(form[side].value));
  show(box, right > left && bottom > top);
  const share = (value, size) => `${100 * value / size}%`;
  box.style.left = share(left, photo.naturalWidth);
  box.style.top = share(top, photo.naturalHeight);
  box.style.width = share(right - left, photo.naturalWidth);
  box.style.height = share(bottom - top, photo.naturalHeight);
}

for (const side of sides) form[side].addEventListener("input", drawBox);

// --- the camera

function showCamera() {
  for (const row of form.querySelectorAll("[data-camera]")) show(row, row.dataset.camera === form.camera.value);
}

form.addEventListener("change", showCamera);
showCamera(); // a reload may have kept another choice

// --- the pose

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  fail("");
  const missing = whatIsMissing();
  if (missing) return fail(missing);
  $("find").disabled = true;
  show($("result"), false);
  $("warnings").replaceChildren();
  show($("warnings"), false);
  tell({ doing: "Sending" });
  try {
    await ask(new FormData(form));
  } catch {
    fail("The program does not answer: check in its terminal that it is still running");
  }
  show($("progress"), false);
  $("find").disabled = false;
});

function whatIsMissing() {
  if (!form.photo.files.length) return "Choose a photo first";
  const inputs = [...form.querySelectorAll("[type=file]")];
  const missing = inputs.find((input) => input.dataset.missing && !input.files.length);
  if (missing) return missing.dataset.missing;
  const bytes = inputs.flatMap((input) => [...input.files]).reduce((sum, file) => sum + file.size, 0);
  const mega = (count) => `${(count / 2 ** 20).toFixed(count < 2 ** 20 ? 2 : 0)} MB`;
  if (bytes > maxBytes) return `The files have ${mega(bytes)} together: choose smaller ones, at most ${mega(maxBytes)}`;
  if (form.mask?.files.length) return "";
  const given = sides.filter((side) => form[side].value.trim()).length;
  if (given === 0 && !form.mask) return ""; // an object with a mesh is looked for
  return given < sides.length ? "Draw a box around the object on the photo" : "";
}

// The answer is a line of JSON for each step, the last of them the result or an error.
async function ask(data) {
  const answer = await fetch("/pose", { method: "POST", body: data });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", done = false; !done;) {
    const part = await reader.read();
    done = part.done;
    const lines = (text + (part.value ?? "")).split("\n");
    text = lines.pop();
    for (const line of lines) take(JSON.parse(line));
  }
}

function take(message) {
  if (message.error) fail(message.error);
  else if (message.warning) warn(message.warning);
  else if (message.result) showResult(message.result);
  else tell(message);
}

function tell({ doing, done, total }) {
  const bar = $("progress").querySelector("progress");
  $("progress-text").textContent = total ? `${doing}: ${done} of ${total}` : `${doing} …`;
  if (total) bar.value = done / total;
  else bar.removeAttribute("value");
  show($("progress"));
}

function showResult({ numbers, size, overlay, matches, scene }) {
  const [pose] = numbers.poses;
  const fixed = (values, digits) => values.map((value) => value.toFixed(digits)).join("  ");
  $("overlay").src = `data:image/jpeg;base64,${overlay}`;
  if (matches) $("matches").src = `data:image/jpeg;base64,${matches}`;
  $("position").textContent = `${fixed(pose.translation.map((value) => 1000 * value), 1)} mm`;
  $("quaternion").textContent = fixed(pose.quaternion_xyzw, 4);
  $("size").textContent = size;
  $("focal").textContent = `${fixed([numbers.K[0][0]], 1)} px`;
  const percent = (share) => `${Math.round(100 * share)} %`;
  $("belief").textContent = pose.verdict ? "Confidence" : "Points";
  $("verdict").textContent = pose.verdict ? `${pose.verdict}, ${percent(pose.confidence)} sure` : `${percent(pose.inlier_ratio)} of ${pose.points} fit`;
  $("verdict").dataset.verdict = pose.verdict ?? "";
  $("matrix").textContent = pose.cam_from_obj.map((row) => row.map((value) => value.toFixed(4).padStart(8)).join(" ")).join("\n");
  offer($("download-json"), JSON.stringify(numbers, null, 1), "application/json");
  offer($("download-scene"), Uint8Array.from(atob(scene), (c) => c.charCodeAt(0)), "model/gltf-binary");
  show($("result"));
  $("result").scrollIntoView({ behavior: "smooth" });
}

function offer(link, content, type) {
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content], { type }));
}

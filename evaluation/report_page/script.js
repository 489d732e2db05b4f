"use strict";
const gallery = document.getElementById("gallery");
const statusLine = document.getElementById("status");
const sortButtons = [...document.querySelectorAll("[data-sort]")];
const filters = [...document.querySelectorAll("[data-filter]")];
const cases = [...gallery.children];

let sortedBy = sortButtons.find(button => button.getAttribute("aria-pressed") === "true");
let direction = sortedBy.dataset.direction;

// Equal cases are told apart by the other error, at last by their place in the data set.
const tieBreaks = { mssd: "mspd", mspd: "mssd" };

function compare(a, b, key, sign) {
  const [x, y] = [Number(a.dataset[key]), Number(b.dataset[key])];
  return x === y ? 0 : sign * (x < y ? -1 : 1);
}

function refresh() {
  const key = sortedBy.dataset.sort;
  const sign = direction === "up" ? 1 : -1;
  cases.sort((a, b) =>
    compare(a, b, key, sign) || compare(a, b, tieBreaks[key] ?? "order", sign) || compare(a, b, "order", 1));
  gallery.append(...cases);
  let shown = 0;
  for (const item of cases) {
    item.hidden = !filters.every(filter => !filter.value || item.dataset[filter.dataset.filter] === filter.value);
    shown += !item.hidden;
  }
  for (const button of sortButtons) button.setAttribute("aria-pressed", button === sortedBy);
  const sense = direction === "up" ? "smallest first" : "largest first";
  statusLine.textContent = `${shown} cases by ${sortedBy.textContent}, ${sense}`;
}

for (const button of sortButtons) {
  button.addEventListener("click", () => {
    const opposite = direction === "up" ? "down" : "up";
    direction = button === sortedBy ? opposite : button.dataset.direction;
    sortedBy = button;
    refresh();
  });
}
for (const filter of filters) filter.addEventListener("change", refresh);
for (const box of document.querySelectorAll("[data-layer]")) {
  box.addEventListener("change", () => document.body.classList.toggle(`no-${box.dataset.layer}`, !box.checked));
}

const dialog = document.getElementById("enlarged");
gallery.addEventListener("click", event => {
  const pictures = event.target.closest(".pictures");
  if (!pictures) return;
  const copy = document.createElement("div");
  copy.className = "pictures";
  for (const picture of pictures.children) copy.append(picture.cloneNode(true));
  dialog.lastElementChild.replaceChildren(copy);
  dialog.showModal();
});

// Pointing at a match shows its other end.
document.addEventListener("pointerover", event => {
  for (const circle of document.querySelectorAll("circle.active")) circle.classList.remove("active");
  const pictures = event.target.closest?.(".pictures");
  if (event.target.tagName !== "circle" || !pictures) return;
  for (const circle of pictures.querySelectorAll(`[data-i="${event.target.dataset.i}"]`)) circle.classList.add("active");
});

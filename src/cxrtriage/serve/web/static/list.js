// The reading list: moving by keys, waiting times that go on, and saying so when the node does not answer.
"use strict";

const list = document.getElementById("list");
const search = document.getElementById("search");
const lost = document.getElementById("lost");
let answeredAt = new Date();

const rows = () => [...list.querySelectorAll(".row")];

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step));
  all[next].focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target === search) {
    if (event.key === "Escape") search.blur();
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      move(1);
    }
    return;
  }
  const steps = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
  if (event.key in steps) {
    event.preventDefault();
    move(steps[event.key]);
  } else if (event.key === "/") {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

document.getElementById("search-form").addEventListener("submit", (event) => event.preventDefault());

// as `words.duration` writes it
function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

// the clocks of browser and node may differ: the page says what the node's showed
const apart = Date.parse(list.dataset.now) - Date.now();
function goOn() {
  const now = Date.now() + apart;
  for (const time of list.querySelectorAll("time[data-since]")) {
    const text = duration(Math.max(0, (now - Date.parse(time.dataset.since)) / 1000));
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(goOn, 5000);

// where the focused row was, in case it is gone with the next answer: its place keeps the focus
let place = -1;
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target === list) place = rows().indexOf(document.activeElement);
});
document.body.addEventListener("htmx:afterSettle", () => {
  const all = rows();
  if (place >= 0 && document.activeElement === document.body && all.length) {
    all[Math.min(place, all.length - 1)].focus({ preventScroll: true });
  }
  place = -1;
});

function answered() {
  answeredAt = new Date();
  lost.hidden = true;
}
function silent() {
  lost.querySelector("span").textContent = answeredAt.toLocaleTimeString();
  lost.hidden = false;
}
document.body.addEventListener("htmx:afterRequest", (event) => (event.detail.successful ? answered() : silent()));
document.body.addEventListener("htmx:sendError", silent);

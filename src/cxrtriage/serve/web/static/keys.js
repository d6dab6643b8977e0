// Keys for what a page offers: an element with data-key is clicked by that key, one with data-dialog opens a dialog.
"use strict";

const typing = (target) => target.closest("input:not([type=hidden]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const wanted = event.key === "=" ? "+" : event.key;
  const found = [...document.querySelectorAll("[data-key]")].find((element) => element.dataset.key === wanted);
  if (!found || found.disabled) return;
  event.preventDefault();
  found.click();
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog").close();
});

// a second click on a slow line must not say the same twice
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  else if (event.target.method === "post") event.target.dataset.sent = "1";
});

"use strict";
(() => {
  const tables = () => [...document.querySelectorAll("details.numbers")];
  const button = document.getElementById("tables");
  const all = () => [...document.querySelectorAll("details")];
  const show = (open) => {
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? "Close every table" : "Open every table";
  };
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    tables().forEach((table) => { table.open = open; });
    show(open);
  });
  let opened = [];
  addEventListener("beforeprint", () => {
    const closed = all().filter((part) => !part.open);
    closed.forEach((part) => { part.open = true; });
    opened = opened.concat(closed);
  });
  addEventListener("afterprint", () => {
    opened.forEach((part) => { part.open = false; });
    opened = [];
  });
})();

"use strict";
// Draws each figure when it comes into view, in the colours of the page; the system may change these at any time.
const { texts, figures } = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

function withColours(layout) {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  const coloured = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: text }, font: { color: text, size: 12 } };
  for (const axis of ["xaxis", "yaxis"]) {
    if (axis in layout) coloured[axis] = { ...layout[axis], gridcolor: line, zerolinecolor: line, linecolor: line };
  }
  return coloured;
}

function draw(element) {
  const figure = figures[Number(element.dataset.figure)];
  const data = figure.data.map((trace) => Array.isArray(trace.text) && Number.isInteger(trace.text[0])
    ? { ...trace, text: trace.text.map((number) => texts[number]) } : trace);
  Plotly.react(element, data, withColours(figure.layout), config);
  element.dataset.drawn = "";
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "300px" });
for (const element of document.querySelectorAll(".figure")) watcher.observe(element);
dark.addEventListener("change", () => document.querySelectorAll(".figure[data-drawn]").forEach(draw));

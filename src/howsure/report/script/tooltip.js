// One box for the whole page, at the cell under the pointer or in focus.

const tooltip = make("div", { role: "tooltip", id: "tooltip", hidden: true });

function showTooltip(cell, lines) {
  tooltip.replaceChildren(...lines.map((text, i) => make(i ? "div" : "strong", { text })));
  tooltip.hidden = false;
  const box = cell.getBoundingClientRect();
  const [wide, high] = [tooltip.offsetWidth, tooltip.offsetHeight];
  const below = box.bottom + 6 + high < window.innerHeight;
  const left = Math.min(Math.max(6, box.left), document.documentElement.clientWidth - wide - 6);
  tooltip.style.left = `${Math.max(6, left) + window.scrollX}px`;
  tooltip.style.top = `${(below ? box.bottom + 6 : box.top - high - 6) + window.scrollY}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}

// A table of cells that is walked with the arrow keys: one tab stop, as the ARIA grid pattern says.

function walkable(table) {
  const cells = () => [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll(".cell")]);
  const first = table.querySelector(".cell");
  if (first) first.tabIndex = 0;
  table.addEventListener("focusin", (event) => {
    if (!event.target.classList.contains("cell")) return;
    table.querySelectorAll('.cell[tabindex="0"]').forEach((cell) => (cell.tabIndex = -1));
    event.target.tabIndex = 0;
  });
  table.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTooltip();
    if (!event.target.classList.contains("cell")) return;
    const rows = cells();
    const r = rows.findIndex((row) => row.includes(event.target));
    const to = target(event, rows, r, rows[r].indexOf(event.target));
    if (!to) return;
    event.preventDefault();
    to.focus();
  });
}

function target(event, rows, r, c) {
  const last = rows[r].length - 1;
  const steps = {
    ArrowRight: [r, c + 1],
    ArrowLeft: [r, c - 1],
    ArrowDown: [r + 1, c],
    ArrowUp: [r - 1, c],
    Home: [event.ctrlKey ? 0 : r, 0],
    End: [event.ctrlKey ? rows.length - 1 : r, last],
  };
  const [row, column] = steps[event.key] ?? [-1, -1];
  return rows[row]?.[column];
}

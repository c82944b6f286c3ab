// The table of coloured numbers: subjects x (model x method), or x units of a difference.

function heatmap(page, data, state, redraw) {
  const quantity = quantityOf(data, state);
  const columns =
    state.view === "values"
      ? valueColumns(page, data, state, quantity)
      : differenceColumns(page, data, state, quantity);
  const sorted = columns.filter((c) => state.column == null || c.key === state.column);
  const by = state.sort === "column" && sorted.length ? sorted : columns;
  const lowerFirst = state.view === "values" && quantity.better === "lower";
  const rows = orderedRows(data, state, (r) => by.map((c) => c.sortValue(r)), lowerFirst);
  const table = make(
    "table",
    { class: "grid", role: "grid", "aria-label": gridName(data, state, quantity) },
    head(columns, state, redraw),
    make("tbody", {}, ...rows.map((r) => gridRow(data, r, columns))),
  );
  walkable(table);
  const scroll = make("div", { class: "scroll sticky" }, table);
  scroll.addEventListener("mouseleave", hideTooltip);
  return columns.length && rows.length
    ? scroll
    : make("p", { class: "note", text: "Nothing is left to show: the filters exclude it all." });
}

function gridName(data, state, quantity) {
  if (state.view === "values") return `${quantity.label} by subject, model and method`;
  const [a, b] = comparedOf(data, state).map((i) => data[state.view][i].label);
  return `${quantity.label}: ${a} minus ${b}, by subject`;
}

function head(columns, state, redraw) {
  const groups = [];
  for (const c of columns) {
    if (groups.at(-1)?.[0] === c.group) groups.at(-1)[1] += 1;
    else groups.push([c.group, 1]);
  }
  const corner = make("th", { class: "name", scope: "col", rowspan: 2, text: "Subject" });
  const n = make("th", { class: "n", scope: "col", rowspan: 2, text: "n" });
  const above = groups.map(([text, span]) =>
    make(
      "th",
      { scope: "colgroup", colspan: span, class: span < 2 && groups.length > 1 ? "model lone" : "model" },
      make("span", { text }),
    ),
  );
  return make(
    "thead",
    {},
    make("tr", {}, corner, n, ...above),
    make("tr", {}, ...columns.map((c) => columnHead(c, state, redraw))),
  );
}

function columnHead(column, state, redraw) {
  const sorted = state.sort === "column" && state.column === column.key;
  const sort = () => redraw({ sort: "column", column: column.key, reverse: sorted && !state.reverse });
  const button = make("button", {
    type: "button",
    class: column.baseline ? "turn baseline" : "turn",
    text: column.label,
    title: `Sort by ${column.group ? `${column.group}, ` : ""}${column.label}`,
    onclick: sort,
  });
  const order = sorted ? (state.reverse ? "descending" : "ascending") : null;
  return make("th", { scope: "col", "aria-sort": order, class: column.starts ? "starts" : null }, button);
}

function gridRow(data, r, columns) {
  const row = data.rows[r];
  return make(
    "tr",
    { class: row.kind },
    make("th", { scope: "row", class: "name", text: row.label }),
    make("td", { class: "n", text: row.n }),
    ...columns.map((c) => gridCell(c, r, row.label)),
  );
}

function gridCell(column, r, rowLabel) {
  const shown = column.cell(r);
  const kinds = ["cell", shown.kind, column.starts && "starts"].filter(Boolean).join(" ");
  const cell = make("td", { class: kinds, role: "gridcell", tabindex: -1, text: shown.text });
  if (shown.rgb) paint(cell, shown.rgb);
  const lines = () => [`${rowLabel} · ${column.name}`, ...shown.lines];
  cell.setAttribute("aria-label", `${rowLabel}, ${column.name}: ${shown.lines.join("; ")}`);
  cell.addEventListener("mouseenter", () => showTooltip(cell, lines()));
  cell.addEventListener("focus", () => showTooltip(cell, lines()));
  cell.addEventListener("blur", hideTooltip);
  cell.addEventListener("click", () => cell.focus());
  return cell;
}

function valueColumns(page, data, state, quantity) {
  const colour = painter(page.colours, quantity);
  let before = null;
  return shownColumns(data, state).map((j) => {
    const [m, k] = data.columns[j];
    const starts = before !== null && before !== m;
    before = m;
    const [model, method] = [data.models[m], data.methods[k]];
    return {
      key: `${m}/${k}`,
      group: model.label,
      label: method.short,
      name: `${model.label}, ${method.label}`,
      baseline: method.baseline,
      starts,
      sortValue: (r) => cellOf(data, quantity, r, j).value,
      cell: (r) => valueCell(quantity, cellOf(data, quantity, r, j), colour),
    };
  });
}

function valueCell(quantity, cell, colour) {
  if (cell.value == null) {
    return { kind: "empty", text: "", lines: [`${quantity.label}: no value, or undefined here`] };
  }
  const lines = [`${quantity.label} ${number(cell.value)} (${quantity.note})`];
  if (cell.low != null) lines.push(`95% interval ${number(cell.low)} to ${number(cell.high)}`);
  if (cell.floor != null) lines.push(`noise floor ${number(cell.floor)}`);
  if (cell.n != null) lines.push(`n = ${cell.n}`);
  if (cell.perfect) lines.push("not distinguishable from perfect at this n");
  const rgb = colour(cell.value);
  return { kind: cell.perfect ? "perfect" : "", text: short(cell.value), lines, rgb };
}

// The controls above the heatmap.

function controls(data, state, redraw) {
  const parts = [
    choice(
      "Show",
      data.quantities.map((q) => [q.key, q.label]),
      state.quantity,
      (quantity) => redraw({ quantity }),
    ),
    choice("View", views(data), state.view, (view) => redraw({ view, a: 1, b: 0, ...unsorted(state) })),
    ...(state.view === "values" ? [] : compared(data, state, redraw)),
    choice("Sort subjects by", sorts(data, state), state.sort, (sort) => redraw({ sort, column: null })),
    tick("reversed", state.reverse, (reverse) => redraw({ reverse })),
    make("button", { type: "button", text: "Reset", onclick: () => redraw(newState(data)) }),
  ];
  return make("div", { class: "controls", role: "group", "aria-label": "What is shown" }, ...parts);
}

function views(data) {
  const found = [["values", "values"]];
  if (data.methods.length > 1) found.push(["methods", "difference of two methods"]);
  if (data.models.length > 1) found.push(["models", "difference of two models"]);
  return found;
}

function compared(data, state, redraw) {
  const all = data[state.view].map((item, i) => [String(i), item.label]);
  const [a, b] = comparedOf(data, state).map(String);
  return [
    choice("A", all, a, (value) => redraw({ a: Number(value) })),
    choice("minus B", all, b, (value) => redraw({ b: Number(value) })),
  ];
}

function sorts(data, state) {
  const found = [
    ["table", "order of the table"],
    ["name", "name"],
    ["value", state.view === "values" ? "mean, best first" : "mean, A best first"],
    ["spread", "spread, widest first"],
  ];
  if (data.categories.length) found.unshift(["category", "category"]);
  if (state.sort === "column") found.push(["column", "one column, best first"]);
  return found;
}

function unsorted(state) {
  return state.sort === "column" ? { sort: "value", column: null } : {};
}

// Check boxes for models, methods and categories, folded away.
function filters(data, state, redraw) {
  const kinds = [
    ["models", "Models", data.models.map((m) => m.label)],
    ["methods", "Methods", data.methods.map((m) => m.label)],
    ["categories", "Categories", data.categories],
  ].filter(([, , labels]) => labels.length > 1);
  const sets = kinds.map(([kind, title, labels]) =>
    make(
      "fieldset",
      {},
      make("legend", { text: title }),
      ...labels.map((label, i) =>
        tick(label, state[kind].has(i), (on) => redraw({ [kind]: toggled(state[kind], i, on) })),
      ),
    ),
  );
  const hidden = kinds.reduce((n, [kind, , labels]) => n + labels.length - state[kind].size, 0);
  const text = hidden ? `Filters (${hidden} left out)` : "Filters";
  return sets.length ? make("details", { class: "filters" }, make("summary", { text }), ...sets) : null;
}

function toggled(set, item, on) {
  const made = new Set(set);
  if (on) made.add(item);
  else made.delete(item);
  return made;
}

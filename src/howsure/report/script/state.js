// What is shown of one format. Every change draws the section anew.

function newState(data) {
  return {
    quantity: data.quantities[0].key,
    view: "values", // or "methods", "models": the difference of two of them
    a: 1,
    b: 0,
    sort: data.categories.length ? "category" : "table",
    column: null, // a column by whose values the rows are sorted
    reverse: false,
    before: false, // reliability before calibration
    models: new Set(data.models.keys()),
    methods: new Set(data.methods.keys()),
    categories: new Set(data.categories.keys()),
  };
}

function quantityOf(data, state) {
  return data.quantities.find((q) => q.key === state.quantity);
}

// The two that are compared, kept within what there is.
function comparedOf(data, state) {
  const n = data[state.view].length;
  return [Math.min(state.a, n - 1), Math.min(state.b, n - 1)];
}

function shownColumns(data, state) {
  return [...data.columns.keys()].filter((j) => {
    const [model, method] = data.columns[j];
    return state.models.has(model) && state.methods.has(method);
  });
}

function isShown(row, state) {
  return row.category == null || row.kind === "mean" || state.categories.has(row.category);
}

// Row indices in the order shown; `scores(row)` gives the values that "value" and "spread" sort by.
function orderedRows(data, state, scores, lowerFirst) {
  const rows = [...data.rows.keys()].filter((r) => isShown(data.rows[r], state));
  if (state.sort === "category") return rows;
  const head = rows.filter((r) => data.rows[r].kind !== "subject");
  const subjects = rows.filter((r) => data.rows[r].kind === "subject");
  const key = {
    table: (r) => data.rows[r].place,
    name: (r) => data.rows[r].label.toLowerCase(),
    value: (r) => sortKey(mean(scores(r)), lowerFirst),
    column: (r) => sortKey(scores(r)[0] ?? null, lowerFirst),
    spread: (r) => sortKey(spread(scores(r)), false),
  }[state.sort];
  const keys = new Map(subjects.map((r) => [r, key(r)]));
  subjects.sort((x, y) => (keys.get(x) < keys.get(y) ? -1 : keys.get(x) > keys.get(y) ? 1 : 0));
  return [...head, ...(state.reverse ? subjects.reverse() : subjects)];
}

function sortKey(value, lowerFirst) {
  if (value == null) return Infinity;
  return lowerFirst ? value : -value;
}

function spread(values) {
  const known = values.filter((v) => v != null);
  return known.length ? Math.max(...known) - Math.min(...known) : null;
}

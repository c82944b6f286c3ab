// The view of the difference between two methods (a column per model) or models (per method).

const REACH = { ece: 0.1, ece_decision: 0.1, auroc: 0.2, brier: 0.1, aurc: 0.15, accuracy: 0.3 };

function differenceColumns(page, data, state, quantity) {
  const across = state.view === "methods" ? "models" : "methods";
  const colour = differencePainter(page.colours, REACH[quantity.metric]);
  const pair = comparedOf(data, state).map((i) => data[state.view][i].label);
  return [...data[across].keys()]
    .filter((u) => state[across].has(u))
    .filter((u) => data.rows.some((_, r) => differenceOf(data, state, quantity, r, u)))
    .map((u) => ({
      key: `unit/${u}`,
      group: `${pair[0]} minus ${pair[1]}`,
      label: across === "methods" ? data.methods[u].short : data.models[u].label,
      name: data[across][u].label,
      baseline: data[across][u].baseline,
      sortValue: (r) => differenceOf(data, state, quantity, r, u)?.gain ?? null,
      cell: (r) => differenceCell(quantity, differenceOf(data, state, quantity, r, u), pair, colour),
    }));
}

function differenceCell(quantity, found, [a, b], colour) {
  if (!found) return { kind: "empty", text: "", lines: ["unknown or undefined for one of the two"] };
  const lines = [`${quantity.label}: ${a} minus ${b} is ${number(found.value, 3, true)}`];
  if (found.low != null) {
    lines.push(`95% interval ${number(found.low, 3, true)} to ${number(found.high, 3, true)}`);
  }
  lines.push(verdictWords(found.verdict, a, b));
  const text = short(found.value, true);
  if (!found.verdict) return { kind: "unsure", text, lines };
  return { kind: "sure", text, lines, rgb: colour(found.gain) };
}

// How many subjects speak for either, under the controls of the difference view.
function tally(data, state) {
  const quantity = quantityOf(data, state);
  const across = state.view === "methods" ? "models" : "methods";
  const [a, b] = comparedOf(data, state).map((i) => data[state.view][i].label);
  if (a === b) return `Choose two different ${state.view}.`;
  const counts = { better: 0, worse: 0, even: 0, unknown: 0 };
  for (const [r, row] of data.rows.entries()) {
    if (row.kind !== "subject" || !isShown(row, state)) continue;
    for (const u of state[across]) {
      const found = differenceOf(data, state, quantity, r, u);
      if (!found) continue;
      const kind = found.verdict == null ? "unknown" : ["worse", "even", "better"][found.verdict + 1];
      counts[kind] += 1;
    }
  }
  const total = counts.better + counts.worse + counts.even;
  if (counts.unknown && !total) {
    return (
      "Single cells have no verdict: the table holds no predictions to resample. " +
      "The mean's interval is over subjects."
    );
  }
  if (!total) return "No cell has a value for both.";
  return (
    `${quantity.label}, by subject: ${a} is better in ${counts.better}, worse in ${counts.worse}, ` +
    `and the data can't tell in ${counts.even} of ${total} cells (paired bootstrap over questions, 95%).`
  );
}

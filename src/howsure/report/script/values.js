// The numbers of a cell. Tables are stored row by row in ten-thousandths; null is unknown.

const UNIT = 10000;

function at(table, row, column, width) {
  const value = table == null ? null : table[row * width + column];
  return value == null ? null : value / UNIT;
}

function cellOf(data, quantity, row, column) {
  const width = data.columns.length;
  const get = (name) => at(quantity[name], row, column, width);
  const cell = { value: get("value"), low: get("low"), high: get("high"), floor: get("floor") };
  cell.n = data.n[row * width + column];
  // Like a perfectly calibrated one, as far as n questions can tell.
  cell.perfect = cell.floor != null && cell.value != null && (cell.low ?? cell.value) <= cell.floor;
  return cell;
}

// The difference A - B of one unit (a model, where methods are compared; else a method).
function differenceOf(data, state, quantity, row, unit) {
  const [a, b] = comparedOf(data, state);
  const pairs = (data.differences[quantity.key] ?? {})[state.view] ?? [];
  const pair = pairs.find((p) => (p.a === a && p.b === b) || (p.a === b && p.b === a));
  if (!pair) return null;
  const units = data[state.view === "methods" ? "models" : "methods"].length;
  const sign = pair.a === a ? 1 : -1;
  const [value, low, high] = ["value", "low", "high"].map((k) => at(pair[k], row, unit, units));
  if (value == null) return null;
  const ends = low == null ? [null, null] : sign === 1 ? [low, high] : [-high, -low];
  const verdict = { b: sign, w: -sign, n: 0 }[pair.verdict[row * units + unit]] ?? null;
  const gain = sign * value * (quantity.better === "higher" ? 1 : -1);
  return { value: sign * value, low: ends[0], high: ends[1], verdict, gain };
}

function verdictWords(verdict, a, b) {
  if (verdict == null) return "no verdict: the table has no predictions to resample";
  if (verdict === 0) return "can't tell";
  return verdict > 0 ? `${a} is better` : `${a} is worse than ${b}`;
}

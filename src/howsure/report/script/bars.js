// Means over subjects, a panel per model and a bar per method, with intervals and noise floors.

const LONGEST = 22; // letters of a method's name under its bar

function bars(data, state) {
  const quantity = quantityOf(data, state);
  const base = quantity.metric === "auroc" ? 0.5 : 0;
  const columns = shownColumns(data, state);
  const cells = new Map(columns.map((j) => [j, cellOf(data, quantity, 0, j)]));
  const known = [...cells.values()].flatMap((c) => [c.value, c.low, c.high, c.floor, base]);
  const numbers = known.filter((v) => v != null);
  const top = Math.max(...numbers, base + 0.1) + 0.02;
  const bottom = base ? Math.min(...numbers, base) - 0.02 : 0;
  const models = [...state.models].sort((a, b) => a - b);
  const panels = models.map((m) => {
    const mine = columns.filter((j) => data.columns[j][0] === m);
    return mine.length ? barPanel(data, data.models[m].label, mine, cells, [bottom, top], base) : null;
  });
  const narrow = data.methods.length === 1; // then the key above names it
  return make("div", { class: narrow ? "panels dense" : "panels" }, ...panels);
}

function barPanel(data, title, columns, cells, [bottom, top], base) {
  const names = columns.map((j) => cut(data.methods[data.columns[j][1]].short, LONGEST));
  const alone = data.methods.length === 1;
  const foot = alone ? 8 : 14 + 5.6 * Math.max(6, ...names.map((name) => name.length));
  const [wide, left] = [alone ? 150 : 230, 26];
  const high = 128 + foot;
  const y = (v) => 8 + (high - foot - 8) * (1 - (v - bottom) / (top - bottom));
  const step = (wide - left - 6) / columns.length;
  const parts = axis(wide, left, y, ticksBetween(bottom, top));
  parts.push(line(left, y(base), wide - 6, y(base), "axis"));
  const words = [];
  columns.forEach((j, i) => {
    const { value, low, high: upper, floor } = cells.get(j);
    const method = data.methods[data.columns[j][1]];
    const x = left + step * (i + 0.5);
    if (!alone) parts.push(turned(x, high - foot + 8, names[i]));
    if (value == null) return;
    words.push(`${method.label} ${number(value)}`);
    const [from, to] = [Math.min(y(value), y(base)), Math.max(y(value), y(base))];
    const half = Math.min(step * 0.36, 17);
    const size = { x: x - half, y: from, width: 2 * half, height: Math.max(to - from, 0.5) };
    parts.push(draw("rect", { ...size, fill: method.colour }, draw("title", { text: words.at(-1) })));
    if (low != null) parts.push(line(x, y(low), x, y(upper), "whisker"));
    if (floor != null) parts.push(line(x - 1.2 * half, y(floor), x + 1.2 * half, y(floor), "floor"));
  });
  const label = `${title}: ${words.join(", ")}`;
  const picture = draw("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label }, ...parts);
  return make("figure", {}, make("figcaption", { text: title }), picture);
}

function cut(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

function axis(wide, left, y, ticks) {
  return ticks.flatMap((v) => [
    line(left, y(v), wide - 6, y(v), "rule"),
    draw("text", { x: left - 4, y: y(v) + 3, class: "tick end", text: short(v) }),
  ]);
}

function line(x1, y1, x2, y2, kind) {
  return draw("line", { x1, y1, x2, y2, class: kind });
}

function turned(x, y, text) {
  const transform = `translate(${x + 3} ${y}) rotate(-90)`;
  return draw("text", { transform, class: "tick end", text });
}

function ticksBetween(low, high) {
  const step = [0.02, 0.05, 0.1, 0.2].find((s) => (high - low) / s <= 5) ?? 0.25;
  const ticks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9; v += step) ticks.push(v);
  return ticks;
}

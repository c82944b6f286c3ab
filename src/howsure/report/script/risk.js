// The share of wrong answers (up) among the surest share (right), a panel per model.

function risk(data, state) {
  const panels = [...state.models].sort((a, b) => a - b).map((m) => {
    const curves = data.risk.filter(
      (c) => data.columns[c.column][0] === m && state.methods.has(data.columns[c.column][1]),
    );
    return curves.length ? riskPanel(data, data.models[m].label, curves) : null;
  });
  return make("div", { class: "panels" }, ...panels);
}

function riskPanel(data, title, curves) {
  const [wide, high, left, foot] = [260, 190, 34, 30];
  const top = Math.min(1, Math.max(0.05, 1.06 * Math.max(...curves.flatMap((c) => c.risk)) / UNIT));
  const x = (v) => left + v * (wide - left - 8);
  const y = (v) => 8 + (high - foot - 8) * (1 - v / top);
  const parts = axis(wide, left, y, ticksBetween(0, top));
  for (const v of [0, 0.5, 1]) {
    parts.push(draw("text", { x: x(v), y: high - 16, class: "tick middle", text: short(v) }));
  }
  parts.push(draw("text", { x: x(0.5), y: high - 3, class: "tick middle", text: "share let through" }));
  const words = [];
  for (const curve of curves) {
    const method = data.methods[data.columns[curve.column][1]];
    const points = curve.coverage.map((c, i) => `${x(c / UNIT).toFixed(1)},${y(curve.risk[i] / UNIT).toFixed(1)}`);
    const dash = method.baseline ? "4 3" : null;
    words.push(method.label);
    const style = { points: points.join(" "), stroke: method.colour, "stroke-dasharray": dash, class: "curve" };
    parts.push(draw("polyline", style, draw("title", { text: method.label })));
  }
  const all = curves[0].risk.at(-1) / UNIT;
  const label = `${title}: ${number(all)} of all answers are wrong; curves of ${words.join(", ")}`;
  const picture = draw("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label }, ...parts);
  return make("figure", {}, make("figcaption", { text: title }), picture);
}

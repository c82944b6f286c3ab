// Value → background and ink. The colours are those of the pictures, and told apart in grey too.

function parse(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

// A function [0, 1] → "rgb(...)" through evenly spaced colours.
function ramp(hexes) {
  const stops = hexes.map(parse);
  return (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((c, i) => Math.round(c + (at - low) * (stops[low + 1][i] - c)));
  };
}

function painter(colours, quantity) {
  const blues = ramp(colours.blues);
  const browns = ramp(colours.browns);
  const [low, high] = quantity.ends;
  if (quantity.better === "lower") return (v) => blues((v - low) / (high - low));
  if (quantity.metric === "accuracy") return (v) => blues(1 - (v - low) / (high - low));
  const middle = (low + high) / 2; // AUROC: chance
  return (v) => (v < middle ? browns((middle - v) / (middle - low)) : blues((high - v) / (high - middle)));
}

// Of a difference in the better direction: blue where A is better, brown where B is.
function differencePainter(colours, reach) {
  const blues = ramp([...colours.blues].reverse().slice(0, -1));
  const browns = ramp(colours.browns);
  return (gain) => (gain < 0 ? browns : blues)(0.25 + 0.75 * Math.min(1, Math.abs(gain) / reach));
}

function paint(cell, rgb) {
  const light = rgb.reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * (c / 255) ** 2.2, 0);
  cell.style.backgroundColor = `rgb(${rgb.join(",")})`;
  cell.style.color = light > 0.2 ? "#1c1c1c" : "#fff";
}

// The colours with the numbers at their ends: what the key says in words.
function scale(page, quantity) {
  const colour = painter(page.colours, quantity);
  const [low, high] = quantity.ends;
  const steps = [...Array(24).keys()].map((i) => {
    const step = make("span");
    step.style.backgroundColor = `rgb(${colour(low + ((i + 0.5) / 24) * (high - low)).join(",")})`;
    return step;
  });
  const ends = [low, high].map((v) => make("span", { class: "end", text: short(v) }));
  return make("div", { class: "ramp", "aria-hidden": "true" }, ends[0], ...steps, ends[1]);
}

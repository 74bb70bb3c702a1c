// What a model says at another vigilance: the last score, of "none of these", rises by `shift`; as labels_of has it.
function told(scores, classes, shift) {
  const none = scores[scores.length - 1] + shift, own = scores.slice(0, -1);
  const best = own.indexOf(Math.max(...own)), top = Math.max(none, ...own);
  const refused = !(own[best] > none);
  const whole = own.reduce((sum, v) => sum + Math.exp(v - top), Math.exp(none - top));
  return { label: refused ? null : classes[best], probability: Math.exp((refused ? none : own[best]) - top) / whole };
}

// One of: right, wrong (another name), refused (though taught), none (never taught, refused), accepted (never taught).
function kind(label, truth, classes) {
  if (classes.includes(truth)) return label === truth ? "right" : label === null ? "refused" : "wrong";
  return label === null ? "none" : "accepted";
}

function dial() {
  const at = (name) => document.getElementById(name), board = at("dial"), slider = at("vigilance");
  const classes = JSON.parse(board.dataset.classes);
  const figures = [...document.querySelectorAll("figure")];
  const order = new Map(figures.map((one, i) => [one, i]));
  function show() {
    const vigilance = Number(slider.value), shift = (vigilance - Number(board.dataset.at)) * Number(board.dataset.step);
    const counts = { right: 0, wrong: 0, refused: 0, none: 0, accepted: 0 };
    for (const one of figures) {
      const said = told(JSON.parse(one.dataset.scores), classes, shift);
      const what = kind(said.label, one.dataset.truth, classes);
      counts[what] += 1;
      one.className = what === "accepted" ? "wrong" : what;
      one.querySelector(".said").textContent = said.label ?? "none of these";
      one.querySelector(".sure").textContent = `${Math.round(100 * said.probability)} %`;
      const home = at(what === "right" || what === "none" ? "fine" : "mistakes");
      if (one.parentNode !== home) {
        home.insertBefore(one, [...home.children].find((other) => order.get(other) > order.get(one)) ?? null);
      }
    }
    for (const [name, n] of Object.entries(counts)) if (at(`n-${name}`)) at(`n-${name}`).textContent = n;
    at("n-mistakes").textContent = counts.wrong + counts.refused + counts.accepted;
    at("n-fine").textContent = counts.right + counts.none;
    at("shown").textContent = at("kept").textContent = vigilance.toFixed(1);
  }
  slider.addEventListener("input", show);
  board.hidden = false;
  show();
}

if (typeof document !== "undefined") dial();

"use strict";
(() => {
  const curve = JSON.parse(document.getElementById("curve").textContent);
  const svg = document.getElementById("chart");
  const slider = document.getElementById("budget");
  const shown = { series: new Set(curve.series.map((one) => one.key)), statistics: new Set(["mean", "p10"]) };
  const budgets = [...new Set(curve.series.flatMap((one) => one.points.map((point) => point.budget)))]
    .sort((a, b) => a - b);
  const first = budgets[0], last = budgets[budgets.length - 1];
  const hasObjective = curve.objective.some((point) => point.value !== 0);
  const whole = new Intl.NumberFormat("en");
  const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  let scale = "log";
  let place = Math.max(0, budgets.indexOf(curve.budget));

  const node = (name, attributes = {}, text = null, parent = svg) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    parent.append(made);
    return made;
  };
  const at = (points, budget) => points.find((point) => point.budget === budget);

  // Equal ratios are equally far apart; from 0 to 1 the scale is linear.
  const stretch = (budget) => (scale === "linear" ? budget : budget < 1 ? 0.4 * budget : 0.4 + Math.log10(budget));
  const size = { left: 58, right: 14, top: 10, gap: 34, bottom: 46, lower: hasObjective ? 96 : 0 };
  let width = 0, height = 0, floor = 0, upperEnd = 0, lowerStart = 0;

  const x = (budget) => {
    const low = stretch(first), span = stretch(last) - low || 1;
    return size.left + ((stretch(budget) - low) / span) * (width - size.left - size.right);
  };
  const y = (cosine) => size.top + ((1 - cosine) / (1 - floor)) * (upperEnd - size.top);
  const values = curve.objective.map((point) => point.value);
  const most = Math.max(0, ...values), least = Math.min(0, ...values);
  const yObjective = (value) => lowerStart + ((most - value) / (most - least || 1)) * size.lower;

  const path = (points, toY) =>
    points.map((point, i) => `${i ? "L" : "M"}${x(point.budget).toFixed(1)} ${toY(point).toFixed(1)}`).join("");

  function ticks() {
    if (scale === "linear") {
      const rough = last / 6, power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
      const step = Math.max(1, [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) || 1);
      return Array.from({ length: Math.floor(last / step) + 1 }, (_, i) => i * step).filter((one) => one >= first);
    }
    const steps = last <= 1000 ? [1, 2, 5] : last <= 10000 ? [1, 3] : [1];
    const found = first === 0 ? [0] : [];
    for (let power = 1; power <= last; power *= 10) found.push(...steps.map((one) => one * power));
    const kept = [];
    for (const one of found.filter((tick) => tick >= first && tick <= last)) {
      if (!kept.length || x(one) - x(kept[kept.length - 1]) > 36) kept.push(one);
    }
    return kept;
  }

  function draw() {
    width = Math.max(300, svg.parentNode.clientWidth);
    upperEnd = Math.max(300, Math.min(470, width * 0.56));
    lowerStart = upperEnd + size.gap;
    const plotEnd = hasObjective ? lowerStart + size.lower : upperEnd;
    height = plotEnd + size.bottom;
    const lows = curve.series.flatMap((one) => one.points.map((point) => point.p10_low ?? point.p10));
    floor = Math.floor((Math.min(0.85, ...lows) - 0.005) * 20) / 20;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.replaceChildren();
    node("title", { id: "chart-title" }, svg.dataset.title);
    drawAxes(plotEnd);
    for (const one of [...curve.series].reverse()) drawSeries(one);
    if (hasObjective) drawObjective(plotEnd);
    drawMarks(plotEnd);
    const group = node("g", { id: "cursor" });
    node("line", { class: "cursor", y1: size.top, y2: plotEnd }, null, group);
    move(place);
  }

  function drawAxes(plotEnd) {
    const step = 1 - floor > 0.55 ? 0.2 : 0.1;
    for (let i = 0; 1 - i * step >= floor - 1e-9; i += 1) {
      const cosine = 1 - i * step;
      node("line", { class: "grid", x1: size.left, x2: width - size.right, y1: y(cosine), y2: y(cosine) });
      node("text", { x: size.left - 9, y: y(cosine) + 4, "text-anchor": "end" }, cosine.toFixed(1));
    }
    for (const tick of ticks()) {
      node("line", { class: "grid", x1: x(tick), x2: x(tick), y1: size.top, y2: plotEnd });
      node("text", { x: x(tick), y: plotEnd + 19, "text-anchor": "middle" }, whole.format(tick));
    }
    node("line", { class: "axis", x1: size.left, x2: width - size.right, y1: upperEnd, y2: upperEnd });
    const middle = (size.top + upperEnd) / 2;
    node("text", { class: "name", "text-anchor": "middle", transform: `translate(14 ${middle}) rotate(-90)` },
      "cosine to the nearest labelled row");
    node("text", { class: "name", x: (size.left + width - size.right) / 2, y: height - 6, "text-anchor": "middle" },
      curve.labelled ? "labels beside those there were" : "labels");
  }

  function drawSeries(one) {
    if (!shown.series.has(one.key)) return;
    const group = node("g", { class: one.key, "data-series": one.key });
    for (const statistic of shown.statistics) {
      if (one.points.some((point) => `${statistic}_low` in point)) {
        const high = path(one.points, (point) => y(point[`${statistic}_high`]));
        const low = path([...one.points].reverse(), (point) => y(point[`${statistic}_low`]));
        node("path", { class: "band", d: `${high}L${low.slice(1)}Z` }, null, group);
      }
      node("path", { class: `line ${statistic}`, d: path(one.points, (point) => y(point[statistic])) }, null, group);
    }
  }

  function drawObjective(plotEnd) {
    const group = node("g", { class: "method", "data-series": "objective" });
    const line = path(curve.objective, (point) => yObjective(point.value));
    const end = x(curve.objective[curve.objective.length - 1].budget), start = x(curve.objective[0].budget);
    node("path", { class: "area", d: `${line}L${end} ${yObjective(0)}L${start} ${yObjective(0)}Z` }, null, group);
    node("path", { class: "line", d: line }, null, group);
    node("line", { class: "axis", x1: size.left, x2: width - size.right, y1: plotEnd, y2: plotEnd });
    node("text", { x: size.left - 9, y: yObjective(most) + 9, "text-anchor": "end" }, fine.format(most));
    node("text", { x: size.left - 9, y: yObjective(least) + 2, "text-anchor": "end" }, fine.format(least));
    const middle = (lowerStart + plotEnd) / 2;
    node("text", { class: "name", "text-anchor": "middle", transform: `translate(14 ${middle}) rotate(-90)` }, "objective");
  }

  function drawMarks(plotEnd) {
    node("line", { class: "share", x1: size.left, x2: width - size.right, y1: y(curve.share), y2: y(curve.share) });
    node("text", { x: size.left + 6, y: y(curve.share) - 6 }, `${+(100 * curve.share).toFixed(1)} % of labelling everything`);
    if (curve.budget) {
      const right = x(curve.budget) > width - 110;
      node("line", { class: "plan", x1: x(curve.budget), x2: x(curve.budget), y1: size.top, y2: plotEnd });
      node("text", {
        x: x(curve.budget) + (right ? -6 : 6), y: upperEnd - 10, "text-anchor": right ? "end" : "start",
      }, `plan: ${whole.format(curve.budget)}`);
    }
    // The plan's own comes last, so that it lies on top.
    for (const [key, budget] of Object.entries(curve.needed).reverse()) {
      if (budget === null || budget < first || budget > last) continue;
      if (!shown.series.has(key) || !shown.statistics.has("mean")) continue;
      const group = node("g", { class: key });
      node("circle", { class: "reached", r: 5, cx: x(budget), cy: y(curve.share) }, null, group);
    }
  }

  function move(to) {
    place = Math.max(0, Math.min(budgets.length - 1, to));
    const budget = budgets[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", `${whole.format(budget)} labels`);
    document.getElementById("at").textContent = `${whole.format(budget)} ${budget === 1 ? "label" : "labels"}`;
    const group = document.getElementById("cursor");
    for (const dot of group.querySelectorAll("g")) dot.remove();
    const line = group.querySelector("line");
    line.setAttribute("x1", x(budget));
    line.setAttribute("x2", x(budget));
    for (const one of curve.series) {
      const point = at(one.points, budget);
      const isShown = shown.series.has(one.key);
      const row = document.querySelector(`[data-row="${one.key}"]`);
      row.hidden = !isShown;
      for (const statistic of ["mean", "p10"]) {
        write(row.querySelector(`[data-cell="${statistic}"]`), point, statistic);
        if (!isShown || !point || !shown.statistics.has(statistic)) continue;
        const own = node("g", { class: one.key }, null, group);
        node("circle", { class: "dot", r: 4.5, cx: x(budget), cy: y(point[statistic]) }, null, own);
      }
    }
    if (!hasObjective) return;
    const point = at(curve.objective, budget);
    document.querySelector('[data-cell="objective"]').textContent = point ? fine.format(point.value) : "–";
    if (point) {
      const own = node("g", { class: "method" }, null, group);
      node("circle", { class: "dot", r: 4.5, cx: x(budget), cy: yObjective(point.value) }, null, own);
    }
  }

  function write(cell, point, statistic) {
    cell.textContent = point ? point[statistic].toFixed(3) : "–";
    if (!point || !(`${statistic}_low` in point)) return;
    const range = document.createElement("small");
    range.textContent = `${point[`${statistic}_low`].toFixed(3)}–${point[`${statistic}_high`].toFixed(3)}`;
    cell.append(range);
  }

  function follow(event) {
    const box = svg.getBoundingClientRect();
    const near = ((event.clientX - box.left) / box.width) * width;
    let best = 0;
    budgets.forEach((budget, i) => {
      if (Math.abs(x(budget) - near) < Math.abs(x(budgets[best]) - near)) best = i;
    });
    if (best !== place) move(best);
  }

  slider.max = budgets.length - 1;
  slider.addEventListener("input", () => move(Number(slider.value)));
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  for (const box of document.querySelectorAll("input[data-toggles]")) {
    box.addEventListener("change", () => {
      const kept = shown[box.dataset.toggles];
      if (box.checked) kept.add(box.value);
      else kept.delete(box.value);
      draw();
    });
  }
  for (const button of document.querySelectorAll('input[name="scale"]')) {
    button.addEventListener("change", () => {
      scale = button.value;
      draw();
    });
  }
  for (const hidden of document.querySelectorAll("[data-scripted]")) hidden.hidden = false;
  if (budgets.length) {
    new ResizeObserver(draw).observe(svg.parentNode);
    draw();
  }
})();

(() => {
  const picture = JSON.parse(document.getElementById("picture-data").textContent);
  const kinds = { winner: "circle", baseline: "rectRot", feasible: "circle", infeasible: "crossRot" };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  function box(ctx, text, x, y, align) {
    const width = ctx.measureText(text).width;
    const left = align === "left" ? x : align === "right" ? x - width : x - width / 2;
    return [left, y - 8, left + width, y + 8];
  }

  function overlap(a, b) {
    return Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  }

  // Chart.js has neither error bars nor limit lines: what follows draws them, and labels that keep clear of each other.
  const furniture = {
    id: "furniture",
    beforeDatasetsDraw({ ctx, chartArea: area, scales: { x, y } }) {
      ctx.save();
      ctx.font = "12px system-ui, sans-serif";
      const line = (points, style, width, dash = []) => {
        ctx.beginPath();
        points.forEach(([px, py], i) => (i ? ctx.lineTo(px, py) : ctx.moveTo(px, py)));
        Object.assign(ctx, { strokeStyle: style, lineWidth: width });
        ctx.setLineDash(dash);
        ctx.stroke();
      };
      const limit = (points, label, px, py) => {
        line(points, colour("limit"), 1.5, [6, 4]);
        Object.assign(ctx, { fillStyle: colour("limit"), textAlign: "right", textBaseline: "alphabetic" });
        const wide = ctx.measureText(label).width;
        ctx.fillText(label, Math.min(area.right, Math.max(px, area.left + wide)), py);
      };
      if (picture.latency) {
        const at = x.getPixelForValue(picture.latency.value);
        limit([[at, area.top], [at, area.bottom]], picture.latency.label, at + ctx.measureText(picture.latency.label).width / 2, area.top - 7);
      }
      if (picture.floor) {
        const at = y.getPixelForValue(picture.floor.value);
        limit([[area.left, at], [area.right, at]], picture.floor.label, area.right - 4, at + 15);
      }
      ctx.globalAlpha = 0.45;
      line(picture.front.map(([px, py]) => [x.getPixelForValue(px), y.getPixelForValue(py)]), colour("winner"), 2);
      ctx.globalAlpha = 1;
      for (const p of picture.points) {
        const [px, py] = [x.getPixelForValue(p.x), y.getPixelForValue(p.shown)];
        if (p.x_limit !== null) line([[px, py], [x.getPixelForValue(p.x_limit), py]], colour(p.kind), 1);
        line([[x.getPixelForValue(p.x_low), py], [x.getPixelForValue(p.x_high), py]], colour(p.kind), 3);
        if (!p.clamped) line([[px, y.getPixelForValue(p.y_low)], [px, y.getPixelForValue(p.y_high)]], colour(p.kind), 3);
      }
      ctx.restore();
    },
    afterDatasetsDraw({ ctx, chartArea: area, scales: { x, y } }) {
      ctx.save();
      ctx.textBaseline = "middle";
      const spot = (p) => [x.getPixelForValue(p.x), y.getPixelForValue(p.shown), radius(p)];
      const taken = picture.points.map((p) => { const [px, py, r] = spot(p); return [px - r, py - r, px + r, py + r]; });
      const order = Object.keys(kinds);
      for (const p of [...picture.points].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || a.number - b.number)) {
        const named = area.width > 600 && (p.kind === "winner" || p.kind === "baseline");
        const text = `${p.number}${named ? " " + p.label : ""}${p.clamped ? " ▼ " + p.y.toPrecision(3) : ""}`;
        ctx.font = `${p.kind === "winner" ? 700 : 400} 12px system-ui, sans-serif`;
        const [px, py, r] = spot(p);
        const places = [
          [px + r + 5, py - 9, "left"], [px + r + 5, py + 9, "left"], [px - r - 5, py - 9, "right"],
          [px - r - 5, py + 9, "right"], [px, py - r - 10, "center"], [px, py + r + 10, "center"],
        ].map(([lx, ly, align]) => {
          const b = box(ctx, text, lx, ly, align);
          const outside = Math.max(0, area.left - b[0]) + Math.max(0, b[2] - area.right) + Math.max(0, b[3] - area.bottom) + Math.max(0, area.top - b[1]);
          return { lx, ly, align, b, cost: taken.reduce((sum, other) => sum + overlap(b, other), outside * 50) };
        });
        const best = places.reduce((a, b) => (b.cost < a.cost ? b : a));
        taken.push(best.b);
        Object.assign(ctx, { fillStyle: colour("text"), textAlign: best.align });
        ctx.fillText(text, best.lx, best.ly);
      }
      ctx.restore();
    },
  };

  const radius = (p) => 5 + 10 * p.radius;

  function axis(from, title) {
    const style = { color: colour("muted") };
    return {
      type: from.log ? "logarithmic" : "linear", min: from.low, max: from.high,
      title: { display: true, text: title, ...style }, grid: { color: colour("line") }, border: { display: false },
      ticks: { ...style, callback: (value) => String(Number(value.toPrecision(6))).replace("-", "\u2212") },
      afterBuildTicks: (scale) => { scale.ticks = from.ticks.map((value) => ({ value })); },
    };
  }

  function draw() {
    for (const p of picture.points) p.shown = p.clamped ? picture.y.low : p.y;
    const fade = (kind) => colour(kind) + (kind === "winner" ? "e6" : "8c");
    const datasets = Object.keys(kinds).map((kind) => ({
      label: kind, pointStyle: kinds[kind], backgroundColor: fade(kind), borderColor: colour(kind), clip: false,
      borderWidth: kind === "infeasible" ? 2.5 : 1.5, hoverRadius: 2,
      data: picture.points.filter((p) => p.kind === kind).map((p) => ({ x: p.x, y: p.shown, r: radius(p), p })),
    }));
    return new Chart(document.getElementById("chart"), {
      type: "bubble", data: { datasets }, plugins: [furniture],
      options: {
        animation: false, maintainAspectRatio: false, layout: { padding: { top: 20, right: 10 } },
        scales: { x: axis(picture.x, picture.x_title), y: axis(picture.y, picture.y_title) },
        plugins: {
          legend: { display: false },
          tooltip: { displayColors: false, callbacks: { title: ([item]) => `${item.raw.p.number} ${item.raw.p.label}`, label: (item) => item.raw.p.tip } },
        },
        onClick: (event, [hit], chart) => { if (hit) find(chart.data.datasets[hit.datasetIndex].data[hit.index].p.number); },
      },
    });
  }

  function find(number) {
    for (const row of document.querySelectorAll("tr.found")) row.classList.remove("found");
    const row = document.getElementById("row-" + number);
    row.classList.add("found");
    row.scrollIntoView({ block: "center" });
  }

  if (!picture || typeof Chart === "undefined") return;
  document.documentElement.classList.add("drawn");
  let chart = draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { chart.destroy(); chart = draw(); });
})();

"use strict";
// Folded parts are printed open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));

document.querySelectorAll(".map").forEach((map) => {
  const data = JSON.parse(map.querySelector("script").textContent);
  const canvas = map.querySelector(".canvas");
  const [width, height, margin, reach] = [900, 620, 22, 24];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const card = document.createElement("div");
  card.className = "card";
  canvas.append(svg, card);

  const radius = (point) => (point.cold ? 4.6 : 4) * Math.max(1, Math.min(2, 560 / (canvas.clientWidth || width)));
  const circles = data.points.map((point) => {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    circle.setAttribute("r", radius(point));
    if (point.cold) { circle.style.stroke = "#1c2126"; circle.style.strokeWidth = 1.4; }
    svg.append(circle);
    return circle;
  });

  let places = [];
  let chosen = -1;
  const lit = new Set();
  let field = { name: "", classes: [], colour: data.points.map(() => -1), tags: data.points.map(() => "") };
  const other = "#c3c9d0";
  const stands = (at) => lit.size === 0 || lit.has(field.colour[at]);

  function place(space) {
    places = data.spaces[space].xy.map(([x, y]) => [margin + x * (width - 2 * margin), margin + (1 - y) * (height - 2 * margin)]);
    circles.forEach((circle, at) => { circle.style.cx = `${places[at][0]}px`; circle.style.cy = `${places[at][1]}px`; });
    hide();
  }

  function hide() {
    if (chosen >= 0) circles[chosen].setAttribute("r", radius(data.points[chosen]));
    chosen = -1;
    card.classList.remove("shown");
  }

  function show(at) {
    if (at === chosen) return;
    hide();
    chosen = at;
    const point = data.points[at];
    circles[at].setAttribute("r", 2 * radius(point));
    svg.append(circles[at]);
    card.replaceChildren();
    if (point.picture) {
      const picture = document.createElement("img");
      picture.src = point.picture;
      picture.alt = "";
      card.append(picture);
    }
    const words = document.createElement("div");
    for (const [kind, text] of [["b", point.title], ["span", field.tags[at]], ["span", point.cold ? " new item" : ""]]) {
      if (!text) continue;
      const part = document.createElement(kind);
      part.textContent = text;
      words.append(part);
    }
    card.append(words);
    card.classList.add("shown");
    const scale = canvas.clientWidth / width;
    const [x, y] = [places[at][0] * scale, places[at][1] * scale];
    card.style.left = `${Math.max(0, Math.min(x + 14, canvas.clientWidth - card.offsetWidth - 4))}px`;
    card.style.top = `${y + 14 + card.offsetHeight > canvas.clientHeight ? Math.max(0, y - card.offsetHeight - 12) : y + 14}px`;
  }

  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let [best, found] = [(reach * Math.max(1, scale)) ** 2, -1];
    places.forEach(([px, py], at) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < best && stands(at)) [best, found] = [distance, at];
    });
    if (found < 0) hide(); else show(found);
  }

  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });

  const controls = map.querySelector(".controls");
  data.spaces.forEach((space, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = space.name;
    button.setAttribute("aria-pressed", at === 0);
    button.addEventListener("click", () => {
      map.classList.add("moving");
      controls.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", other === button));
      place(at);
    });
    controls.append(button);
  });

  const legend = map.querySelector(".legend");

  function dim() {
    circles.forEach((circle, at) => { circle.style.opacity = stands(at) ? 1 : 0.08; });
  }

  function colour(chosen) {
    field = chosen;
    lit.clear();
    circles.forEach((circle, at) => {
      circle.style.fill = field.colour[at] < 0 ? other : data.colours[field.colour[at]];
      circle.style.fillOpacity = field.colour[at] < 0 ? 0.55 : 0.8;
    });
    const classes = field.classes.map((name, at) => [name, at, data.colours[at]]);
    if (classes.length && field.colour.includes(-1)) classes.push(["other", -1, other]);
    legend.replaceChildren(...classes.map(([name, at, shade]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      const dot = document.createElement("i");
      dot.style.background = shade;
      button.append(dot, name);
      button.addEventListener("click", () => {
        if (lit.has(at)) lit.delete(at); else lit.add(at);
        button.setAttribute("aria-pressed", lit.has(at));
        dim();
      });
      return button;
    }));
    dim();
  }

  if (data.fields.length > 1) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    data.fields.forEach((choice, at) => select.add(new Option(choice.name.replaceAll("_", " "), at)));
    select.addEventListener("change", () => colour(data.fields[select.value]));
    label.append("coloured by ", select);
    controls.append(label);
  }

  colour(data.fields[0] || field);
  place(0);
  // A link such as report.html#item-3 opens the page with that point shown.
  const named = /^#item-(\d+)$/.exec(location.hash);
  if (named && Number(named[1]) < places.length) { show(Number(named[1])); canvas.scrollIntoView({ block: "center" }); }
});

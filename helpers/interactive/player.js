// What a player does on its page; player.py puts its name in place of NAME.

(function () {
  const box = document.getElementById("NAME");
  const find = (what) => box.querySelector(what);
  const all = (what) => [...box.querySelectorAll(what)];
  const data = JSON.parse(find("script[type='application/json']").textContent);

  /** The number of the option chosen in control `i`. */
  function value(i) {
    const controls = all(`[data-control="${i}"]`);
    return Number((controls.find((one) => one.checked) || controls[0]).value);
  }

  let rest;
  function show(event) {
    const number = data.sizes.reduce((at, size, i) => at * size + value(i), 0);
    const [headline, words, panels] = data.shots[number];
    all(".player-panel").forEach((panel, i) => fill(panel, ...panels[i]));
    find(".player-headline").textContent = data.texts[headline];
    find(".player-words").textContent = data.texts[words];
    for (const slider of all("input[type=range]"))
      slider.setAttribute("aria-valuetext", data.texts[headline]);
    for (const map of all("[data-map]"))
      map
        .querySelectorAll(".player-cells i")
        .forEach((cell, i) => cell.toggleAttribute("data-here", i === value(map.dataset.map)));
    clearTimeout(rest); // a screen reader hears of the last of many changes only
    if (event) rest = setTimeout(say, 700, `${data.texts[headline]} ${data.texts[words]}`);
  }

  function fill(panel, title, note, sharp, pictures) {
    const row = panel.querySelector(".player-pictures");
    panel.querySelector("b").textContent = data.texts[title];
    panel.querySelector("span").textContent = data.texts[note];
    row.classList.toggle("player-sharp", sharp);
    while (row.children.length > pictures.length) row.lastChild.remove();
    pictures.forEach(([picture, alt], j) => {
      const image = row.children[j] || row.appendChild(new Image());
      image.src = "data:image/webp;base64," + data.pictures[picture];
      image.alt = data.texts[alt];
    });
  }

  function say(words) {
    find(".player-said").textContent = words;
  }

  function move(i, to) {
    find(`[data-control="${i}"]`).value = to;
    show(true);
  }

  box.addEventListener("input", show);
  for (const button of all("[data-move]"))
    button.addEventListener("click", () => {
      const i = button.dataset.of;
      move(i, value(i) + Number(button.dataset.move));
    });
  for (const map of all("[data-map]"))
    map.addEventListener("click", (event) => {
      const cell = event.target.closest(".player-cells i");
      if (cell) move(map.dataset.map, [...cell.parentNode.children].indexOf(cell));
    });
  show();
})();

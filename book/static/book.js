// What the book's pages do besides the theme: figures that can be enlarged, what is wide scrolls by
// keyboard, and light paper with everything open. A classic script, since modules do not load from
// file://.

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---------------------------------------------------------------- figures

  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.ariaLabel = words("enlarged");
  dialog.onclick = ({ target }) => {
    if (target === dialog || target.closest(".enlarged-close")) dialog.close();
  };

  function button(className, name, sign) {
    const made = Object.assign(document.createElement("button"), {
      type: "button",
      className,
      textContent: sign,
      title: name,
    });
    made.ariaLabel = name;
    return made;
  }

  function enlarge(figure) {
    const large = figure.cloneNode(true);
    all(".enlarge, .headerlink", large).forEach((extra) => extra.remove());
    [large, ...all("[id]", large)].forEach((part) => part.removeAttribute("id"));
    dialog.replaceChildren(button("enlarged-close", words("close"), "×"), large);
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.showModal();
    all(".chart", dialog).forEach(watch);
  }

  for (const figure of all("article figure:has(img)")) {
    const name = figure.querySelector(".caption-number")?.textContent.trim() ?? words("theFigure");
    const opener = button("enlarge", words("enlarge", { name }), "⤢");
    opener.onclick = () => enlarge(figure);
    (figure.querySelector("figcaption") ?? figure).prepend(opener);
    for (const picture of all(".panels, .chart, .foreign", figure))
      picture.addEventListener("click", () => enlarge(figure));
  }

  /** What is wider than the screen can be scrolled by keyboard, and fades where it goes on. */
  function mark(wide) {
    const hidden = wide.scrollWidth - wide.clientWidth;
    if (hidden > 1) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
    wide.classList.toggle("goes-on", hidden - wide.scrollLeft > 1);
  }

  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => mark(target)));

  function watch(wide) {
    sizes.observe(wide);
    wide.onscroll = () => mark(wide);
  }

  all("article :is(.chart, div.math)").forEach(watch);

  // ---------------------------------------------------------------- paper

  let restore = () => {};
  addEventListener("beforeprint", () => {
    const { theme } = document.documentElement.dataset;
    const closed = all("details:not([open])");
    document.documentElement.dataset.theme = "light";
    closed.forEach((part) => (part.open = true));
    restore = () => {
      document.documentElement.dataset.theme = theme;
      closed.forEach((part) => (part.open = false));
    };
  });
  addEventListener("afterprint", () => restore());
})();

// The order of what the search finds: Sphinx's own numbers, but first the pages in whose title the
// words stand, chapters before what stands beside them, then the reference of all functions, whose
// names are made of the same words, and last the pages for authors.
// eslint-disable-next-line no-unused-vars -- it is put before Sphinx's own script
var Scorer = {
  score: ([page, title, , , points]) => {
    const words = new URLSearchParams(location.search).get("q") ?? "";
    const own = page === "book/try"; // where a reader with a photo wants to go
    if (title.toLowerCase().includes(words.trim().toLowerCase())) points += own ? 25 : 20;
    const [, chapter] = page.match(/^notebooks\/(\d+)/) ?? [];
    if (chapter) points += 1 - chapter / 100; // of two alike, the earlier chapter
    if (page === "book/reference") points -= 50;
    return ["notebooks/template", "book/contributing"].includes(page) ? points - 100 : points;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

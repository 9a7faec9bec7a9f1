// The theme draws its icons from web fonts already; its file of this name holds them all once more,
// as 1.5 MB of SVG on every page.

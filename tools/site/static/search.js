/* Ranks pages by Okapi BM25 over the words of a query, any of them; Sphinx itself asks for all of them.
   The index has no word counts: a word occurs once in a page, and a page is as long as it has different words. */
"use strict";
(() => {
  if (typeof Search === "undefined") return;
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; /* no page may be fetched there */
  /* What to type goes before how it works, and that before why it was decided. */
  const KINDS = [[/^(tutorial|how-to)\//, 1.2], [/^adr\//, 0.5], [/^reference\/reason-codes\//, 0.7]];
  const kind = (page) => KINDS.find(([path]) => path.test(page))?.[1] ?? 1;
  const LENGTH_WEIGHT = 0.75, SATURATION = 1.2, TITLE = 4, HEADING = 1.5;
  const listed = (found) => (found === undefined ? [] : Array.isArray(found) ? found : [found]);
  const member = (table, word) => (Object.hasOwn(table, word) ? listed(table[word]) : []);

  const lengths = (index) => {
    const found = new Array(index.docnames.length).fill(1);
    for (const pages of Object.values(index.terms)) for (const page of listed(pages)) found[page] += 1;
    return found;
  };

  /* The sections of each page whose heading has the word: [page, anchor, heading]. */
  const headings = (index, words) => {
    const stemmer = new Stemmer();
    const found = new Map();
    for (const [heading, places] of Object.entries(index.alltitles)) {
      const stems = new Set(splitQuery(heading).map((word) => stemmer.stemWord(word.toLowerCase())));
      const hits = [...words].filter((word) => stems.has(word));
      for (const [page, anchor] of hits.length ? places : []) {
        if (anchor !== null && hits.length > (found.get(page)?.hits.length ?? 0)) found.set(page, { hits, anchor, heading });
      }
    }
    return found;
  };

  Search.performTermsSearch = (words) => {
    const index = Search._index;
    const length = lengths(index);
    const average = length.reduce((sum, each) => sum + each, 0) / length.length;
    const scores = new Map();
    const sections = headings(index, words);
    for (const word of words) {
      const pages = new Set([...member(index.terms, word), ...member(index.titleterms, word)]);
      const rarity = Math.log(1 + (length.length - pages.size + 0.5) / (pages.size + 0.5));
      const titled = new Set(member(index.titleterms, word));
      for (const page of pages) {
        const weight = titled.has(page) ? TITLE : sections.get(page)?.hits.includes(word) ? HEADING : 1;
        const norm = SATURATION * (1 - LENGTH_WEIGHT + (LENGTH_WEIGHT * length[page]) / average);
        scores.set(page, (scores.get(page) ?? 0) + (rarity * weight * (SATURATION + 1)) / (weight + norm));
      }
    }
    return [...scores].map(([page, found]) => {
      const score = found * kind(index.docnames[page]);
      const section = sections.get(page);
      const inner = section !== undefined && section.heading !== index.titles[page];
      const title = inner ? `${index.titles[page]} > ${section.heading}` : index.titles[page];
      return [index.docnames[page], title, inner ? `#${section.anchor}` : "", null, score, index.filenames[page], SearchResultKind.text];
    });
  };
})();

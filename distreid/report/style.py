"""The page's style sheet. Dark colours are for screens only: print is always light."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1f2328; --soft: #5b636d; --rule: #e2e0db; --band-0: #f3f1ed; --band-1: #e9e6e0;
  --tone-1: #2563c9; --tone-2: #b4540a; --tone-3: #0b7a63; --tone-4: #7a4bc2;
  --tone-5: #b3295c; --tone-6: #5c6b12; --tone-7: #0c7490; --tone-8: #6b5344; --hit: #1a8a3f; --miss: #d0312d;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --card: #1e2125; --ink: #e7e5e1; --soft: #a3a9b1; --rule: #34383e; --band-0: #24282d; --band-1: #2c3137;
    --tone-1: #7fb0ff; --tone-2: #f0a060; --tone-3: #55c9ab; --tone-4: #bd9cf5;
    --tone-5: #f58bb0; --tone-6: #b9c95a; --tone-7: #5cc6e0; --tone-8: #c9ae99; --hit: #3ec46d; --miss: #ff6b63;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  -webkit-text-size-adjust: 100%; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: .1em 0 .2em; font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2; font-weight: 650; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.4rem 0 0; font-size: .875rem; }
a { color: var(--tone-1); }
nav a, .csv { text-decoration: none; }
nav a:hover, .csv:hover { text-decoration: underline; }
h2 { margin: 2.6rem 0 .8rem; font-size: 1.15rem; font-weight: 650; }
.kind, .note, figcaption, dt, small { color: var(--soft); font-size: .875rem; }
.kind { margin: 0; overflow-wrap: anywhere; }
.headline { margin: 0; font-size: 1.2rem; }
.note { max-width: 46rem; margin: .8rem 0 0; }
.note + .figures { margin-top: 1rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .8rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.6rem 0 0; }
.tiles div, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tiles div { flex: 1 1 9.5rem; max-width: 16rem; padding: .7rem .9rem; }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .78rem; font-weight: 400; line-height: 1.35; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { font-weight: 500; }
thead th { color: var(--soft); }
tr > th:first-child { text-align: left; padding-left: 0; }
tr > :last-child { padding-right: 0; }
.rounds { width: 100%; }
.final tbody tr:last-child > * { font-weight: 650; border-bottom: 0; }
.settings td, .settings th { text-align: left; vertical-align: top; }
.settings tbody th, .settings td:nth-child(2) { white-space: normal; overflow-wrap: anywhere; min-width: 7.5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .9rem 1rem .7rem; break-inside: avoid; min-width: 0; }
figcaption { margin-bottom: .5rem; min-height: 4.75em; }
.wide { grid-column: 1 / -1; }
.wide figcaption { min-height: 0; margin-bottom: .8rem; max-width: 52rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem 2rem; }
.data { display: flex; justify-content: space-between; align-items: flex-start; gap: 1rem; margin-top: .4rem; }
.data details { flex: 1 1 auto; min-width: 0; }
.csv { font-size: .875rem; padding: .25rem 0; margin-left: auto; }
figure ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .35rem; }
.ranked { grid-template-columns: repeat(11, 1fr); }
.sheet { grid-template-columns: repeat(12, 1fr); }
.row + .row { margin-top: .9rem; }
.strip { margin: 0 0 .3rem; font-size: .875rem; color: var(--soft); }
.strip b { color: var(--ink); font-weight: 600; margin-right: .35em; }
li { min-width: 0; font-size: .75rem; line-height: 1.3; text-align: center; color: var(--soft);
  font-variant-numeric: tabular-nums; }
li img { display: block; width: 100%; height: auto; border-radius: 4px; border: 3px solid transparent; margin-bottom: .1rem; }
.query img { border-color: var(--soft); }
.hit img { border-color: var(--hit); } .miss img { border-color: var(--miss); }
.ranked .hit { color: var(--hit); } .ranked .miss { color: var(--miss); }
.grids { display: grid; grid-template-columns: repeat(2, 1fr); gap: .9rem; }
.triples { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1.1rem 1.6rem; }
figure .triple { grid-template-columns: repeat(3, 1fr); gap: .1rem; }
.triple img { border: 0; border-radius: 3px; }
.scale { max-width: 25rem; margin-top: .8rem; }
figcaption strong { display: block; color: var(--ink); font-size: 1rem; font-weight: 600; }
summary { cursor: pointer; color: var(--soft); font-size: .875rem; padding: .25rem 0; }
summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--tone-1); outline-offset: 2px; border-radius: 4px; }
details .scroll { max-height: 22rem; overflow-y: auto; }
section > details .scroll { max-height: none; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
svg { display: block; width: 100%; height: auto; font-size: 12px; font-variant-numeric: tabular-nums; }
svg text { fill: var(--ink); }
svg .faint { fill: var(--soft); }
svg .strong, svg .name { font-weight: 500; }
svg .grid { stroke: var(--rule); fill: none; }
svg .band-0 { fill: var(--band-0); } svg .band-1 { fill: var(--band-1); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .dashed { stroke-width: 1.5; stroke-dasharray: 5 5; }
svg .bar { stroke: var(--card); stroke-width: 1; }
svg .tone-1 { stroke: var(--tone-1); } svg .fill-1, svg .ink-1 { fill: var(--tone-1); }
svg .tone-2 { stroke: var(--tone-2); } svg .fill-2, svg .ink-2 { fill: var(--tone-2); }
svg .tone-3 { stroke: var(--tone-3); } svg .fill-3, svg .ink-3 { fill: var(--tone-3); }
svg .tone-4 { stroke: var(--tone-4); } svg .fill-4, svg .ink-4 { fill: var(--tone-4); }
svg .tone-5 { stroke: var(--tone-5); } svg .fill-5, svg .ink-5 { fill: var(--tone-5); }
svg .tone-6 { stroke: var(--tone-6); } svg .fill-6, svg .ink-6 { fill: var(--tone-6); }
svg .tone-7 { stroke: var(--tone-7); } svg .fill-7, svg .ink-7 { fill: var(--tone-7); }
svg .tone-8 { stroke: var(--tone-8); } svg .fill-8, svg .ink-8 { fill: var(--tone-8); }
svg .mark { stroke: var(--card); stroke-width: .7; }
svg .cat-0 { fill: #3b82f6; } svg .cat-1 { fill: #f97316; } svg .cat-2 { fill: #10b981; } svg .cat-3 { fill: #e11d48; }
svg .cat-4 { fill: #8b5cf6; } svg .cat-5 { fill: #a16207; } svg .cat-6 { fill: #06b6d4; } svg .cat-7 { fill: #ec4899; }
svg .cat-8 { fill: #84cc16; } svg .cat-9 { fill: #64748b; } svg .cat-10 { fill: #eab308; } svg .cat-11 { fill: #c9996b; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  figure { padding: .8rem .8rem .5rem; }
  figcaption { min-height: 0; }
  .ranked, .sheet { grid-template-columns: repeat(6, 1fr); }
  .triples { grid-template-columns: repeat(2, 1fr); gap: .9rem; }
  .grids { grid-template-columns: 1fr; }
  .rounds tr > th:first-child { position: sticky; left: 0; background: var(--page); padding-right: .8rem; }
}
@media print {
  body { background: none; font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .figures, .panels { grid-template-columns: 1fr 1fr; }
  .panels > svg { break-inside: avoid; }
  .scroll, details .scroll { overflow: visible; max-height: none; }
  .rounds th, .rounds td { padding: .3rem .3rem; font-size: 8.5pt; }
  .data, nav, details:not([open]) { display: none; }
  li img { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .row, .triple { break-inside: avoid; }
  .wide { break-inside: auto; }
  svg, .tiles div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2 { break-after: avoid; }
}
"""

"""The looks of the page: one style sheet, for light and dark, wide and narrow, screen and paper."""

import base64
import hashlib
from typing import Final

SHEET: Final = """
:root {
  color-scheme: light dark;
  --paper: #f7f7f5; --card: #ffffff; --ink: #1d2126; --soft: #575f6a; --line: #dedfd9; --wire: #a9aeb5;
  --link: #1f5aa8; --good: #17693f; --good-bed: #e6f3eb; --bad: #a81e1e; --bad-bed: #fbe9e8;
  --open: #7a5200; --open-bed: #fbf1d9;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2025; --ink: #e9e8e4; --soft: #a5adb8; --line: #30363d; --wire: #5d6670;
    --link: #8ab8f5; --good: #66d19b; --good-bed: #16301f; --bad: #ff9a92; --bad-bed: #3b1a1a;
    --open: #f0c465; --open-bed: #33270d;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--text); }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: .25rem 0 1.25rem; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; font-weight: 650; margin: 3rem 0 1rem; }
h3 { font-size: 1.05rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; flex: 1 1 12rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
.from { color: var(--soft); margin: -.9rem 0 1.25rem; overflow-wrap: anywhere; max-width: none; }
.eyebrow { color: var(--soft); font-size: .85rem; letter-spacing: .04em; margin: 0; }
code, .digest { font-family: var(--mono); font-size: .84em; overflow-wrap: anywhere; }
.sum { border-radius: 12px; padding: 1rem 1.25rem; border: 1px solid transparent; }
.sum p { margin: 0; max-width: none; }
.sum .word { font-weight: 650; font-size: 1.15rem; display: flex; align-items: center; gap: .5rem; }
.sum ul { margin: .75rem 0 0; padding-left: 1.25rem; }
.sum li { margin: .35rem 0; overflow-wrap: anywhere; }
.good.sum { background: var(--good-bed); border-color: var(--good); }
.bad.sum { background: var(--bad-bed); border-color: var(--bad); }
.open.sum { background: var(--open-bed); border-color: var(--open); }
.good .word { color: var(--good); } .bad .word { color: var(--bad); } .open .word { color: var(--open); }
svg.mark { width: 1em; height: 1em; flex: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; background: var(--card);
  padding: 1rem; width: fit-content; min-width: 100%; max-width: calc(100vw - 3rem); position: relative; left: 50%;
  transform: translateX(-50%); }
.scroll > svg { display: block; margin: 0 auto; max-width: 100%; min-width: 44rem; height: auto; }
.scroll > svg.wide { max-width: none; }
.graph { font-family: var(--text); }
.graph .wire { fill: none; stroke: var(--wire); stroke-width: 1.4; }
.graph .wire.law { stroke-dasharray: 2 4; }
.graph .tip { fill: var(--wire); }
.graph .wire.bad { stroke: var(--bad); stroke-width: 2; } .graph .tip.bad { fill: var(--bad); }
.graph .wire.open { stroke: var(--open); } .graph .tip.open { fill: var(--open); }
.graph .box { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.graph .edge { stroke: none; }
.graph .good .edge { fill: var(--good); }
.graph .bad .edge { fill: var(--bad); }
.graph .open .edge { fill: var(--open); }
.graph .bad .box { fill: var(--bad-bed); stroke: var(--bad); }
.graph .open .box { fill: var(--open-bed); stroke: var(--open); }
.graph .good .mark { color: var(--good); }
.graph .bad .mark { color: var(--bad); }
.graph .open .mark { color: var(--open); }
.graph .kind { fill: var(--soft); font-size: 11px; }
.graph .name { fill: var(--ink); font-size: 12.5px; font-weight: 600; }
.graph .digest { fill: var(--soft); font-size: 11px; }
.graph .asked .box { stroke: var(--ink); stroke-width: 2; }
.graph a:focus-visible { outline: none; }
.graph a:focus-visible .box, .graph a:hover .box { stroke: var(--link); stroke-width: 2.2; }
.key { color: var(--soft); font-size: .85rem; margin: .6rem 0 0; }
.node { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.25rem;
  margin: 0 0 .9rem; scroll-margin-top: 1rem; overflow: hidden; }
.node:target { border-color: var(--link); box-shadow: 0 0 0 2px var(--link); }
.node.bad { border-color: var(--bad); } .node.open { border-color: var(--open); }
.top { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
.kind { color: var(--soft); font-weight: 450; }
.verdict { display: inline-flex; align-items: center; gap: .4rem; font-size: .9rem; font-weight: 600;
  overflow-wrap: anywhere; }
.verdict.good { color: var(--good); }
.verdict.bad { color: var(--bad); }
.verdict.open { color: var(--open); }
.why::first-letter { text-transform: uppercase; }
.why { color: var(--soft); font-size: .92rem; margin: .2rem 0 0; max-width: none; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: .2rem 1rem; margin: .7rem 0 0;
  font-size: .92rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.reasons { list-style: none; margin: .7rem 0 0; padding: 0; }
.reasons li { background: var(--bad-bed); border-radius: 8px; padding: .6rem .8rem; margin: .4rem 0; font-size: .92rem;
  overflow-wrap: anywhere; }
.reasons p { margin: .15rem 0; max-width: none; }
.reasons code { color: var(--bad); font-weight: 600; }
details { margin: .7rem 0 0; font-size: .92rem; }
summary { cursor: pointer; color: var(--link); width: fit-content; }
.members { list-style: none; margin: .5rem 0 0; padding: 0; border-top: 1px solid var(--line); }
.members > li { padding: .55rem 0; border-bottom: 1px solid var(--line); }
.members h4 { font-size: .92rem; font-weight: 550; margin: 0; overflow-wrap: anywhere; flex: 1 1 12rem; }
.members .digest { color: var(--soft); display: block; }
.members dl { margin-top: .2rem; font-size: .85rem; }
.members .members { margin-left: 1rem; }
footer { color: var(--soft); font-size: .9rem; padding-top: 1.5rem; padding-bottom: 4rem; }
footer p { border-top: 1px solid var(--line); padding-top: 1.25rem; max-width: none; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.75rem; }
  .scroll { max-width: calc(100vw - 2rem); }
  h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .45rem; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --wire: #777777;
    --link: #000000; --good: #17693f; --good-bed: #ffffff; --bad: #a81e1e; --bad-bed: #ffffff; --open: #7a5200;
    --open-bed: #ffffff;
  }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0; }
  .skip, summary { display: none; }
  .scroll { overflow: visible; border: 0; padding: 0; width: auto; max-width: none; left: 0; transform: none; }
  .scroll > svg, .scroll > svg.wide { max-width: 100%; min-width: 0; height: auto; }
  details::details-content { content-visibility: visible; display: block; }
  .node, .members > li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
#: The source expression of Content Security Policy, level 3, that allows this style sheet and no other.
HASH: Final = f"'sha256-{base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()}'"

/** Text that is HTML already. */
export class Html {
  constructor(readonly text: string) {}
  toString(): string {
    return this.text;
  }
}

type Part = string | number | Html | null | readonly Part[];

/** A template whose parts are escaped, unless they are {@link Html}; lists are joined, null is nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(
    strings.map((text, i) => text + (i < parts.length ? textOf(parts[i] ?? null) : '')).join(''),
  );
}

function textOf(part: Part): string {
  if (part === null) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'string' || typeof part === 'number') return escaped(String(part));
  return part.map(textOf).join('');
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}

/** One self-contained page: no script, nothing fetched, light and dark as the reader's system is. */
export function page(title: string, body: Html): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body><main>${body.text}</main></body>
</html>
`;
}

const STYLE = `
:root { --fg:#1d2329; --muted:#5b6670; --bg:#f6f7f8; --card:#fff; --line:#dfe3e7; --grid:#e8ebee; --accent:#2467a4; --warn:#8a4b00; --warn-bg:#fff4e2; --cell:36,103,164; }
@media (prefers-color-scheme: dark) { :root { --fg:#e4e8ec; --muted:#9aa5af; --bg:#14181c; --card:#1c2126; --line:#313840; --grid:#2a3036; --accent:#7db4e6; --warn:#ffc982; --warn-bg:#33260f; --cell:96,165,226; } }
* { box-sizing:border-box }
body { margin:0; background:var(--bg); color:var(--fg); font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:1120px; margin:0 auto; padding:2.2rem 1.2rem 4rem }
h1 { font-size:1.75rem; line-height:1.2; margin:0 0 .3rem } h2 { font-size:1.2rem; margin:2.6rem 0 .3rem } h3 { font-size:.95rem; margin:0 0 .5rem; font-weight:600 }
p { margin:.3rem 0 .9rem; max-width:70ch } .muted, figcaption, .note { color:var(--muted) } .note { font-size:.9rem }
.lead { font-size:1.2rem; line-height:1.5; max-width:62ch; margin:1.1rem 0 }
.warning { background:var(--warn-bg); color:var(--warn); padding:.55rem .9rem; border-radius:8px; display:inline-block; font-weight:600 }
.grid { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr)); gap:1rem; align-items:start }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(170px,1fr)); gap:.8rem; margin:1.2rem 0 }
.card, .tile { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:1rem }
.tile b { display:block; font-size:1.6rem; font-variant-numeric:tabular-nums; line-height:1.25 } .tile span { font-size:.85rem; color:var(--muted); display:block }
.chart svg { width:100%; height:auto; display:block } .chart svg text { fill:var(--fg) } .chart svg .role-axis-grid line { stroke:var(--grid) }
.chart svg .role-axis-domain line, .chart svg .role-axis-tick line { stroke:var(--muted) }
.scroll { overflow-x:auto } table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:.92rem }
th, td { padding:.42rem .65rem; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap } th:first-child, td:first-child { text-align:left }
thead th { color:var(--muted); font-weight:600 } small { color:var(--muted) }
.stack > * + * { margin-top:1rem } .confusion table { width:auto } .confusion td.cell { text-align:center; background:rgba(var(--cell),var(--share)); min-width:5.2rem } .confusion .cell small { color:inherit; opacity:.75 }
.films { display:grid; grid-template-columns:repeat(auto-fill,minmax(240px,1fr)); gap:.8rem } .films figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px; padding:.6rem }
.films .pair { display:flex; gap:4px } .films img { flex:1; min-width:0; width:100%; border-radius:5px; display:block; background:#000 } figcaption { font-size:.8rem; margin-top:.4rem; overflow-wrap:anywhere }
footer { margin-top:3rem; padding-top:1rem; border-top:1px solid var(--line); color:var(--muted); font-size:.88rem } code { font-size:.9em } dl { display:grid; grid-template-columns:max-content 1fr; gap:.2rem 1rem; margin:0 } dt { color:var(--muted) } dd { margin:0; overflow-wrap:anywhere }
@media print { body { background:#fff } .card, figure { break-inside:avoid } }
`;

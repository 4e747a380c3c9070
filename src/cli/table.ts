import Table from 'cli-table3';

const NO_BORDERS = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid', 'middle'].flatMap((side) => {
    const corners = side === 'middle' ? [] : [`${side}-mid`, `${side}-left`, `${side}-right`];
    return [side, ...corners].map((name) => [name, '']);
  }),
);

/** Rows in columns, without lines; `numbers` says which columns are aligned to the right. */
export function columns(rows: readonly (readonly string[])[], numbers: readonly number[] = []): string {
  const width = rows[0]?.length ?? 0;
  const table = new Table({
    chars: NO_BORDERS,
    style: { 'padding-left': 0, 'padding-right': 2 },
    colAligns: Array.from({ length: width }, (_, column) => (numbers.includes(column) ? 'right' : 'left')),
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString().replace(/ +$/gm, '');
}

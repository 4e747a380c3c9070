/** What separates a table's cells: the one that the header has most of. German Excel writes semicolons. */
export function delimiterOf(text: string): string {
  const [header = ''] = text.replace(/"[^"]*"/g, '').split(/[\r\n]/);
  const counted = [',', ';', '\t'].map((delimiter) => ({ delimiter, count: header.split(delimiter).length }));
  return counted.reduce((best, each) => (each.count > best.count ? each : best)).delimiter;
}

/** The separator that a table names in a line before its header, as Excel does: `sep=;`. */
export function namedDelimiter(text: string): string | undefined {
  return /^\uFEFF?"?sep=([^\r\n])"?[,;\t]*(?:\r?\n|\r?$)/i.exec(text)?.[1];
}

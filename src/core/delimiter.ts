/** The separator of a table's cells: the most frequent one in the header. German Excel writes semicolons. */
export function delimiterOf(text: string): string {
  const [header = ''] = text.replace(/"[^"]*"/g, '').split(/[\r\n]/);
  const counted = [',', ';', '\t'].map((delimiter) => ({ delimiter, count: header.split(delimiter).length }));
  return counted.reduce((best, each) => (each.count > best.count ? each : best)).delimiter;
}

/** The separator named in a line before a table's header, as Excel writes it: `sep=;`. */
export function namedDelimiter(text: string): string | undefined {
  return /^\uFEFF?"?sep=([^\r\n])"?[,;\t]*(?:\r?\n|\r?$)/i.exec(text)?.[1];
}

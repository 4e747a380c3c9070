/** File names come from anywhere: what would steer a terminal, or turn the text round, is replaced. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '�');
}

/** The same for a text of several lines: line ends and tabs stay. */
export function printableLines(text: string): string {
  return text.replace(/(?![\n\t])[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '�');
}

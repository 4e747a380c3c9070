/** File names come from anywhere: what would steer a terminal, or turn the text round, is replaced. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '�');
}

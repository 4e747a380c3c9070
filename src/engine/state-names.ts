/** An output named `next/x` of a step graph is the next value of the state tensor `x`. */
export const NEXT = 'next/';

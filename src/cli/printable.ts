/** Names come from files and tensors: control characters in them must not reach a terminal. Line ends are escaped as well. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

// @ts-check
/** Elements made of text only: nothing in this page is ever parsed as HTML. */

/**
 * An element. `on` has listeners by event; other values are attributes, left out when they are false or undefined.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | number | null | false | undefined)} children
 * @returns {any}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value !== false && value !== undefined && value !== null) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.filter((one) => one !== null && one !== false && one !== undefined).map(asNode));
  return node;
}

/**
 * The element of an id, which is there.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no element #${id}`);
  return found;
}

/** @param {Node | string | number | false} one */
function asNode(one) {
  return one instanceof Node ? one : document.createTextNode(String(one));
}

/** Characters that are not seen, or that turn the text around them. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Output of a program as it can be shown: what is not seen is named.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(UNSEEN, (one) => {
    const code = one.charCodeAt(0);
    if (code < 32) return String.fromCharCode(0x2400 + code);
    return `\u27e8${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}

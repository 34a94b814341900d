// Turn one element into another with as few changes as possible: focus, selection, scroll and what is open stay.

/** Children are matched by `data-key` or `id`, else by their place and name. */
export function morph(current, wanted) {
  if ("keep" in current.dataset) return;
  syncAttributes(current, wanted);
  const keyed = new Map();
  for (const child of current.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  // What is moved loses focus. So what is not wanted goes first: then what stays need not pass it.
  const kept = new Set([...wanted.children].map(keyOf));
  for (const [key, child] of keyed) if (!kept.has(key)) child.remove();
  let next = current.firstChild;
  for (const child of [...wanted.childNodes]) {
    const match = matching(child, next, keyed);
    while (match && next && next !== match && !keyOf(next)) {
      const following = next.nextSibling;
      next.remove();
      next = following;
    }
    if (!match) {
      current.insertBefore(child, next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else current.insertBefore(match, next);
    if (child.nodeType === Node.ELEMENT_NODE) morph(match, child);
    else if (match.nodeValue !== child.nodeValue) match.nodeValue = child.nodeValue;
  }
  while (next) {
    const following = next.nextSibling;
    next.remove();
    next = following;
  }
}

function matching(child, next, keyed) {
  const key = keyOf(child);
  if (key) return keyed.get(key)?.nodeName === child.nodeName ? keyed.get(key) : null;
  const fits = next && next.nodeType === child.nodeType && next.nodeName === child.nodeName && !keyOf(next);
  return fits ? next : null;
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset?.key || node.id || "" : "";
}

function syncAttributes(current, wanted) {
  for (const { name, value } of wanted.attributes) {
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  for (const { name } of [...current.attributes]) {
    const isTheReaders = name === "open" && ["DETAILS", "DIALOG"].includes(current.nodeName);
    if (!wanted.hasAttribute(name) && !isTheReaders) current.removeAttribute(name);
  }
}

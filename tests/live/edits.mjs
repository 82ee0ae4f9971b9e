// edits.mjs - random edits of every kind that Yjs knows, and the question whether documents agree.
//
// Two documents agree when their state vectors, their delete sets and the JSON of everything in
// them are equal. Yjs keeps map keys and formatting attributes in order of arrival, which differs
// between clients that agree, so keys are sorted before comparing.

import * as Y from 'yjs';

const WORDS = ['a', 'teleport', 'é', 'naïve', '日本語', '🌍', '👩‍👩‍👧', '𝒳', 'line\n', '  ', 'x'.repeat(40)];
const KEYS = ['one', 'two', 'drei', '四', '🔑'];

const sorted = value =>
    Array.isArray(value) ? value.map(sorted)
        : value instanceof Uint8Array ? { bytes: Buffer.from(value).toString('hex') }
            : value && typeof value === 'object'
                ? Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])]))
                : value;

/** What the document holds, as text that is equal exactly when the content is. */
export function contents(doc) {
    const text = doc.getText('text').toDelta().map(({ insert, attributes }) => ({
        insert: insert instanceof Y.AbstractType ? insert.toJSON() : insert,
        attributes,
    }));
    return JSON.stringify(sorted({
        text,
        map: doc.getMap('map').toJSON(),
        array: doc.getArray('array').toJSON(),
        xml: doc.getXmlFragment('xml').toString(),
    }));
}

const vector = doc =>
    JSON.stringify([...Y.decodeStateVector(Y.encodeStateVector(doc))].filter(([, clock]) => clock > 0).sort(([a], [b]) => a - b));

const deletions = doc => {
    const clients = Y.createDeleteSetFromStructStore(doc.store).clients;
    return JSON.stringify([...clients].sort(([a], [b]) => a - b).map(([client, items]) => [client, items.map(i => [i.clock, i.len])]));
};

/** Null when all documents agree, else a sentence that says where they do not. */
export function disagreement(docs) {
    const [first, ...rest] = docs;
    for (const [index, doc] of rest.entries()) {
        if (doc.store.pendingStructs || doc.store.pendingDs) return `document ${index + 1} has parked updates`;
        for (const view of [vector, deletions, contents]) {
            const [a, b] = [view(first), view(doc)];
            if (a !== b) {
                let at = 0;
                while (a[at] === b[at]) at++;
                const [from, to] = [Math.max(0, at - 40), at + 120];
                return `document ${index + 1} differs from 0 in ${view.name}:\n  ${a.slice(from, to)}\n  ${b.slice(from, to)}`;
            }
        }
    }
    return first.store.pendingStructs || first.store.pendingDs ? 'document 0 has parked updates' : null;
}

function nested(random, depth) {
    switch (depth > 2 ? 4 : random.below(5)) {
        case 0: return new Y.Map([[random.pick(KEYS), nested(random, depth + 1)]]);
        case 1: return Y.Array.from([random.below(100), nested(random, depth + 1)]);
        case 2: return new Y.Text(random.pick(WORDS));
        case 3: {
            const element = new Y.XmlElement('p');
            element.insert(0, [new Y.XmlText(random.pick(WORDS))]);
            return element;
        }
        default: return random.pick([null, true, -0.5, 2 ** 40, 'leaf', { deep: [1, { er: '🌍' }] }, [1, [2]], new Uint8Array([0, 255])]);
    }
}

// Yjs replaces the halves of a surrogate pair that an edit cuts in two by U+FFFD, each client on its
// own, and clients then differ for good. Editors never cut there, so neither do we.
function whole(text, at) {
    const units = text.toDelta().map(({ insert }) => (typeof insert === 'string' ? insert : ' ')).join('');
    const code = units.charCodeAt(at);
    return code >= 0xdc00 && code <= 0xdfff ? at - 1 : at;
}

/** One random edit. `what` limits the kinds: 'text', 'map', 'array', 'xml'; default: all. */
export function edit(doc, random, what = random.pick(['text', 'text', 'map', 'array', 'xml'])) {
    if (what === 'text') {
        const text = doc.getText('text');
        const length = text.length;
        const at = whole(text, random.below(length + 1));
        const some = max => whole(text, Math.min(length, at + random.below(max))) - at;
        switch (random.below(length > 400 ? 7 : 5)) {
            case 0: return text.format(at, some(12), random.pick([{ bold: true }, { bold: null }, { color: 'red' }, { link: { href: '/🌍' } }]));
            case 1: return text.insertEmbed(at, { image: random.below(9) });
            case 2: return text.insert(at, random.pick(WORDS), random.pick([undefined, { italic: true }]));
            case 3: return text.insert(at, random.pick(WORDS));
            default: return text.delete(at, some(8));
        }
    }
    if (what === 'map') {
        const map = doc.getMap('map');
        const key = random.pick(KEYS);
        const inner = map.get(key);
        if (inner instanceof Y.Map && random.below(2)) return inner.set(random.pick(KEYS), nested(random, 1));
        if (inner instanceof Y.Text && random.below(2)) return inner.insert(whole(inner, random.below(inner.length + 1)), random.pick(WORDS));
        return random.below(5) === 0 ? map.delete(key) : map.set(key, nested(random, 0));
    }
    if (what === 'array') {
        const array = doc.getArray('array');
        const at = random.below(array.length + 1);
        if (array.length > at && random.below(3) === 0) return array.delete(at, Math.min(array.length - at, 1 + random.below(3)));
        const inner = at < array.length ? array.get(at) : null;
        if (inner instanceof Y.Array && random.below(2)) return inner.insert(0, [nested(random, 1)]);
        return array.insert(at, [nested(random, 0), random.below(10)]);
    }
    const xml = doc.getXmlFragment('xml');
    const at = random.below(xml.length + 1);
    const node = at < xml.length ? xml.get(at) : null;
    if (node instanceof Y.XmlElement && random.below(2)) {
        if (random.below(2)) return node.setAttribute(random.pick(['id', 'class']), random.pick(WORDS));
        return node.insert(random.below(node.length + 1), [new Y.XmlText(random.pick(WORDS))]);
    }
    if (node instanceof Y.XmlText && random.below(2)) return node.insert(whole(node, random.below(node.length + 1)), random.pick(WORDS), { em: true });
    if (node && random.below(4) === 0) return xml.delete(at, 1);
    const element = new Y.XmlElement(random.pick(['p', 'h1', 'ul']));
    if (random.below(2)) element.insert(0, [new Y.XmlText(random.pick(WORDS)), new Y.XmlElement('br')]);
    return xml.insert(at, [element]);
}

/** Several edits in one transaction, as an editor makes them. */
export function edits(doc, random, count = 1, what) {
    doc.transact(() => {
        for (let i = 0; i < count; i++) edit(doc, random, what);
    });
}

// yclient.mjs - stock y-websocket clients (3.1.0 and 2.1.0) as the tests hold them, and the bytes
// of their protocol (spec 05 section 3) for raw connections.

import { WebSocket } from 'ws';
import * as Y from 'yjs';
import * as awarenessProtocol from 'y-protocols/awareness';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { WebsocketProvider as Provider3 } from 'y-websocket';
import { WebsocketProvider as Provider2 } from 'y-websocket-2';
import { until } from './harness.mjs';

// The providers read one constant of the global class; each also hangs a listener on the process.
globalThis.WebSocket ??= WebSocket;
process.setMaxListeners(0);

const PROVIDERS = { '3.1.0': Provider3, '2.1.0': Provider2 };
export const VERSIONS = Object.keys(PROVIDERS);

export class YClient {
    /** `url` is the server's door, `room` the name, as an application gives them. */
    constructor(url, room, { version = '3.1.0', doc = new Y.Doc(), ...options } = {}) {
        this.version = version;
        this.doc = doc;
        this.provider = new PROVIDERS[version](url, room, doc, { WebSocketPolyfill: WebSocket, disableBc: true, ...options });
        this.provider.on('connection-error', () => {});
        this.connections = 0;
        this.provider.on('status', ({ status }) => (this.connections += status === 'connected'));
        this.awareness = this.provider.awareness;
    }

    get id() {
        return this.doc.clientID;
    }

    synced(ms = 10_000) {
        return until(() => this.provider.synced, `client ${this.id} (${this.version}) synced`, ms);
    }

    /** The network breaks; the provider comes back by itself. */
    cut() {
        this.provider.ws?.terminate();
    }

    /** The state of another client, as this one sees it. */
    sees(id) {
        return this.awareness.getStates().get(id);
    }

    destroy() {
        this.provider.destroy();
        this.awareness.destroy();
    }
}

export const SYNC = 0, AWARENESS = 1, AUTH = 2, QUERY_AWARENESS = 3;
export const STEP1 = 0, STEP2 = 1, UPDATE = 2;

const message = (...parts) =>
    encoding.encode(out => {
        for (const part of parts)
            if (typeof part === 'number') encoding.writeVarUint(out, part);
            else encoding.writeVarUint8Array(out, part);
    });

export const step1 = vector => message(SYNC, STEP1, vector ?? new Uint8Array([0]));
export const step2 = update => message(SYNC, STEP2, update);
export const update = bytes => message(SYNC, UPDATE, bytes);
export const echo = payload => message(102, payload);
export const queryAwareness = () => message(QUERY_AWARENESS);

/** entries: [{client, clock, state}], state null for one that left. */
export const awareness = entries =>
    message(AWARENESS, encoding.encode(out => {
        encoding.writeVarUint(out, entries.length);
        for (const { client, clock, state } of entries) {
            encoding.writeVarUint(out, client);
            encoding.writeVarUint(out, clock);
            encoding.writeVarString(out, JSON.stringify(state));
        }
    }));

/** Decodes one message to {type, sub, bytes, entries}. Throws when it is not well formed. */
export function decode(data) {
    const input = decoding.createDecoder(new Uint8Array(data));
    const type = decoding.readVarUint(input);
    const out = { type };
    if (type === SYNC) {
        out.sub = decoding.readVarUint(input);
        out.bytes = decoding.readVarUint8Array(input);
    } else if (type === AWARENESS) {
        const body = decoding.createDecoder(decoding.readVarUint8Array(input));
        out.entries = [];
        for (let left = decoding.readVarUint(body); left > 0; left--)
            out.entries.push({
                client: decoding.readVarUint(body),
                clock: decoding.readVarUint(body),
                state: JSON.parse(decoding.readVarString(body)),
            });
    } else if (type === AUTH) {
        out.permission = decoding.readVarUint(input);
        out.reason = decoding.readVarString(input);
    } else if (type === 102) {
        out.bytes = decoding.readVarUint8Array(input);
    }
    if (decoding.hasContent(input)) throw new Error('bytes after the end of a message');
    return out;
}

export const is = (type, sub) => data => {
    const got = decode(data);
    return got.type === type && (sub === undefined || got.sub === sub);
};

/** Reads `raw` until the step 2 that answers a step 1, applying what comes. Returns what came. */
export async function readUntilStep2(raw, doc, ms = 10_000) {
    const came = [];
    for (;;) {
        const got = decode(await raw.next(ms));
        came.push(got);
        if (got.type === SYNC && got.sub !== STEP1) Y.applyUpdate(doc, got.bytes);
        if (got.type === SYNC && got.sub === STEP2) return came;
    }
}

export { awarenessProtocol };

// teleportal-client.mjs - a Teleportal client on Yjs, written from spec 01 and 02.
//
//     const connection = new TeleportalConnection(url);
//     const document = connection.open('name');           // many documents, one socket
//     await document.synced();                             // spec 01 section 4.5
//     document.doc.getText('text').insert(0, 'hello');     // sent, acknowledged, sent again if not
//
// The first half is the codec: frames to objects and back. What arrives is held to the letter of the
// specification: a frame of the server that is not canonical throws, and the tests see it.

import { EventEmitter } from 'node:events';
import { WebSocket } from 'ws';
import * as Y from 'yjs';
import * as awarenessProtocol from 'y-protocols/awareness';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { until } from './harness.mjs';

// ---- codec ------------------------------------------------------------------------------------------

export const PING = Buffer.from('YJSping');
export const PONG = Buffer.from('YJSpong');
export const EMPTY_V2 = Buffer.from('00000000000001000000000000', 'hex');

const TYPES = ['doc', 'awareness', 'ack', 'presence', 'rpc'];
const KINDS = {
    doc: ['sync-step-1', 'sync-step-2', 'update', 'sync-done', 'auth-message'],
    awareness: ['awareness-update', 'awareness-request'],
    presence: ['announce', 'join', 'leave', 'heartbeat', 'unannounce'],
};

/** The id of a frame: two multiplicative hashes of 32 bits over all its bytes (spec 01 section 3). */
export function messageId(frame) {
    let a = 0x811c9dc5, b = 0x01000193;
    for (const byte of frame) {
        a = Math.imul(a ^ byte, 0x01000193);
        b = Math.imul(b ^ byte, 0x100001b3);
    }
    return (a >>> 0).toString(16).padStart(8, '0') + (b >>> 0).toString(16).padStart(8, '0');
}

/** The content envelope of a plaintext document: version 1, structure, no sidecars, no compaction. */
export const envelope = structure =>
    encoding.encode(out => {
        encoding.writeVarUint(out, 1);
        encoding.writeVarUint8Array(out, structure);
        encoding.writeVarUint(out, 0);
        encoding.writeUint8(out, 0);
    });

export function openEnvelope(body) {
    const { structure, sidecars, compaction } = openSealed(body);
    if (sidecars.length !== 0) throw new Error('sidecars in a plaintext document');
    if (compaction) throw new Error('compaction in a plaintext document');
    return structure;
}

/** The content envelope of an encrypted document. compaction: {sidecar, index, hash, sources}. */
export const sealedEnvelope = (structure, sidecars, compaction) =>
    encoding.encode(out => {
        encoding.writeVarUint(out, 1);
        encoding.writeVarUint8Array(out, structure);
        encoding.writeVarUint(out, sidecars.length);
        for (const sidecar of sidecars) encoding.writeVarUint8Array(out, sidecar);
        encoding.writeUint8(out, compaction ? 1 : 0);
        if (!compaction) return;
        encoding.writeVarUint8Array(out, compaction.sidecar);
        encoding.writeVarUint(out, compaction.index.length);
        for (const range of compaction.index) for (const number of range) encoding.writeVarUint(out, number);
        encoding.writeVarUint8Array(out, compaction.hash);
        encoding.writeVarUint(out, compaction.sources.length);
        for (const hash of compaction.sources) encoding.writeVarUint8Array(out, hash);
    });

export function openSealed(body) {
    const input = decoding.createDecoder(body);
    if (decoding.readVarUint(input) !== 1) throw new Error('envelope version');
    const structure = decoding.readVarUint8Array(input);
    const sidecars = Array.from({ length: decoding.readVarUint(input) }, () => decoding.readVarUint8Array(input));
    const flag = decoding.hasContent(input) ? decoding.readUint8(input) : 0;
    if (flag > 1) throw new Error('compaction flag');
    return { structure, sidecars, compaction: flag === 1 };
}

/** Encodes {type, kind, document, encrypted, ...fields}. */
export function encode(message) {
    const { type, kind, document = '', encrypted = false } = message;
    return encoding.encode(out => {
        encoding.writeUint8Array(out, Buffer.from('YJS\x01', 'latin1'));
        encoding.writeVarString(out, document);
        encoding.writeUint8(out, encrypted ? 1 : 0);
        encoding.writeUint8(out, TYPES.indexOf(type));
        if (type === 'ack') {
            encoding.writeVarString(out, message.messageId);
            encoding.writeUint8(out, (message.retryAfter !== undefined ? 1 : 0) | (message.error !== undefined ? 2 : 0));
            if (message.retryAfter !== undefined) encoding.writeVarUint(out, message.retryAfter);
            if (message.error !== undefined) encoding.writeVarString(out, message.error);
            return;
        }
        if (type === 'rpc') {
            encoding.writeVarString(out, message.method);
            encoding.writeUint8(out, message.requestType);
            if (message.requestType !== 0) encoding.writeVarString(out, message.requestId);
            encoding.writeUint8(out, 0);
            encoding.writeVarUint8Array(out, encoding.encode(any => encoding.writeAny(any, message.payload)));
            return;
        }
        encoding.writeUint8(out, KINDS[type].indexOf(kind));
        switch (kind) {
            case 'sync-step-1': encoding.writeVarUint8Array(out, message.vector); break;
            case 'sync-step-2':
            case 'update':
                encoding.writeUint8(out, message.version ?? 2);
                encoding.writeVarUint8Array(out, message.body);
                break;
            case 'auth-message':
                encoding.writeUint8(out, message.permission);
                encoding.writeVarString(out, message.reason);
                break;
            case 'awareness-update': encoding.writeVarUint8Array(out, message.update); break;
            case 'announce':
            case 'unannounce': encoding.writeVarUint(out, message.awarenessId); break;
            case 'join':
            case 'leave':
                encoding.writeVarUint(out, message.awarenessId);
                encoding.writeVarString(out, message.clientId);
                encoding.writeVarString(out, message.userId);
                encoding.writeAny(out, message.data);
                break;
        }
    });
}

/** Decodes one frame of the server. Throws unless it is well formed to its last byte. */
export function decode(frame) {
    const bytes = new Uint8Array(frame);
    if (Buffer.from(bytes).equals(PONG)) return { type: 'pong' };
    const input = decoding.createDecoder(bytes);
    const head = Buffer.from(decoding.readUint8Array(input, 4)).toString('latin1');
    if (head !== 'YJS\x01') throw new Error(`not a frame: ${Buffer.from(bytes).toString('hex').slice(0, 60)}`);
    const flag = (value, most) => {
        if (value > most) throw new Error(`flag ${value}`);
        return value;
    };
    const out = { document: decoding.readVarString(input), encrypted: flag(decoding.readUint8(input), 1) === 1 };
    out.type = TYPES[flag(decoding.readUint8(input), 4)];
    out.id = messageId(bytes);
    out.frame = bytes;
    if (out.type === 'ack') {
        if (out.document !== '' || out.encrypted) throw new Error('an ack names no document and is not encrypted');
        out.messageId = decoding.readVarString(input);
        const flags = flag(decoding.readUint8(input), 3);
        if (flags & 1) out.retryAfter = decoding.readVarUint(input);
        if (flags & 2) out.error = decoding.readVarString(input);
    } else if (out.type === 'rpc') {
        out.method = decoding.readVarString(input);
        out.requestType = flag(decoding.readUint8(input), 2);
        if (out.requestType !== 0) out.requestId = decoding.readVarString(input);
        if (flag(decoding.readUint8(input), 1) === 0) {
            out.payload = decoding.readVarUint8Array(input);
        } else {
            out.status = decoding.readVarUint(input);
            out.details = decoding.readVarString(input);
            if (flag(decoding.readUint8(input), 1) === 1) out.payload = decoding.readAny(input);
        }
    } else {
        const kinds = KINDS[out.type];
        out.kind = kinds[flag(decoding.readUint8(input), kinds.length - 1)];
        switch (out.kind) {
            case 'sync-step-1': out.vector = decoding.readVarUint8Array(input); break;
            case 'sync-step-2':
            case 'update':
                out.version = decoding.readUint8(input);
                out.body = decoding.readVarUint8Array(input);
                break;
            case 'auth-message':
                out.permission = decoding.readUint8(input);
                out.reason = decoding.readVarString(input);
                break;
            case 'awareness-update': out.update = decoding.readVarUint8Array(input); break;
            case 'announce':
            case 'unannounce': out.awarenessId = decoding.readVarUint(input); break;
            case 'join':
            case 'leave':
                out.awarenessId = decoding.readVarUint(input);
                out.clientId = decoding.readVarString(input);
                out.userId = decoding.readVarString(input);
                out.data = decoding.readAny(input);
                if (Object.prototype.toString.call(out.data) !== '[object Object]') throw new Error('presence data is no object');
                break;
            case 'heartbeat': throw new Error('a heartbeat is for nodes only');
        }
    }
    if (decoding.hasContent(input)) throw new Error(`bytes after the end of ${out.type} ${out.kind ?? ''}`);
    return out;
}

// ---- client -----------------------------------------------------------------------------------------

const RECEIVE_WINDOW_MS = 30_000;
const IN_FLIGHT_MS = 30_000;

/** One socket with any number of documents. Emits: status, frame (each decoded one), failure. */
export class TeleportalConnection extends EventEmitter {
    constructor(url, { batchMs = 20, reconnect = true, socketOptions = {} } = {}) {
        super();
        Object.assign(this, { url, batchMs, reconnect, socketOptions });
        this.documents = new Map();
        this.inFlight = new Map(); // message id -> {message, frame, timer}
        this.attempts = 0;
        this.connections = 0;
        this.failure = null; // what the server did that no server may
        this.counts = { acks: 0, nacks: 0, frames: 0 };
        this.connect();
    }

    connect() {
        this.wanted = true;
        const socket = new WebSocket(this.url, { perMessageDeflate: false, ...this.socketOptions });
        this.socket = socket;
        let heard = true;
        const window = setInterval(() => {
            if (!heard) socket.terminate();
            heard = false;
        }, RECEIVE_WINDOW_MS);
        socket.on('open', () => {
            this.connected = true;
            this.attempts = 0;
            this.connections++;
            this.emit('status', 'connected');
            for (const document of this.documents.values()) document.start();
        });
        socket.on('message', (data, isBinary) => {
            heard = true;
            try {
                if (!isBinary) throw new Error('a text message');
                this.receive(decode(data));
            } catch (error) {
                this.failure ??= error;
                this.emit('failure', error);
                socket.close(1000);
            }
        });
        socket.on('error', () => {});
        socket.on('close', code => {
            clearInterval(window);
            if (socket !== this.socket) return;
            this.connected = false;
            this.closeCode = code;
            for (const { timer } of this.inFlight.values()) clearTimeout(timer);
            this.inFlight.clear();
            for (const document of this.documents.values()) document.stopped();
            this.emit('status', 'disconnected');
            if (this.wanted && this.reconnect) {
                this.attempts++;
                this.again = setTimeout(() => this.wanted && this.connect(), 100 * 1.3 ** Math.min(this.attempts, 21));
            }
        });
    }

    open(name, options = {}) {
        const document = new TeleportalDocument(this, name, options);
        this.documents.set(name, document);
        if (this.connected) document.start();
        return document;
    }

    /** Sends a message. All but acks, awareness and presence are in flight until acknowledged. */
    send(message, frame = encode(message)) {
        if (!this.connected) return null;
        this.socket.send(frame);
        if (message.type === 'doc' || message.type === 'rpc') {
            const id = messageId(frame);
            clearTimeout(this.inFlight.get(id)?.timer);
            const timer = setTimeout(() => {
                if (!this.inFlight.delete(id)) return;
                if (message.type === 'doc') this.send(message, frame);
            }, IN_FLIGHT_MS);
            this.inFlight.set(id, { message, frame, timer });
            return id;
        }
        return messageId(frame);
    }

    receive(message) {
        this.counts.frames++;
        this.emit('frame', message);
        if (message.type === 'pong') return;
        if (message.type === 'ack') return this.acknowledged(message);
        this.documents.get(message.document)?.receive(message);
        this.socket.send(encode({ type: 'ack', messageId: message.id }));
    }

    acknowledged({ messageId: id, retryAfter, error }) {
        const sent = this.inFlight.get(id);
        if (error === undefined && retryAfter === undefined) this.counts.acks++;
        else this.counts.nacks++;
        if (!sent) return;
        clearTimeout(sent.timer);
        this.inFlight.delete(id);
        const document = this.documents.get(sent.message.document);
        if (error !== undefined) {
            this.emit('rejected', sent.message, error);
            if (sent.message.type === 'doc') document?.sync();
        } else if (retryAfter !== undefined) {
            setTimeout(() => this.send(sent.message, sent.frame), retryAfter);
        } else {
            document?.saved(sent.message);
        }
        document?.check();
    }

    /** The network breaks. */
    cut() {
        this.socket.terminate();
    }

    /** Leaves and stays away until connect() is called. */
    disconnect() {
        this.wanted = false;
        clearTimeout(this.again);
        for (const document of this.documents.values()) document.leave();
        this.socket.close(1000);
    }

    destroy() {
        this.disconnect();
        for (const document of this.documents.values()) document.destroy();
        setTimeout(() => this.socket.terminate(), 200).unref();
    }
}

/** One document of a connection. `peers`: awareness id -> {clientId, userId, data}, from presence. */
export class TeleportalDocument extends EventEmitter {
    constructor(connection, name, { doc = new Y.Doc(), presence = true } = {}) {
        super();
        Object.assign(this, { connection, name, doc, presence });
        this.awareness = new awarenessProtocol.Awareness(doc);
        this.setMaxListeners(0); // one for each call under way
        this.peers = new Map();
        this.pending = []; // updates that wait for the batch
        this.denied = null;
        this.isSynced = false;
        this.onUpdate = (update, origin) => {
            if (origin === this) return;
            this.pending.push(update);
            this.timer ??= setTimeout(() => this.flush(), connection.batchMs);
        };
        this.onAwareness = ({ added, updated, removed }, origin) => {
            if (origin !== this) this.sendAwareness([...added, ...updated, ...removed]);
        };
        doc.on('updateV2', this.onUpdate);
        this.awareness.on('update', this.onAwareness);
    }

    get id() {
        return this.doc.clientID;
    }

    message(type, kind, fields = {}) {
        return { type, kind, document: this.name, ...fields };
    }

    start() {
        this.done = false;
        this.pending = []; // step 2 will hold them
        this.sync();
        if (this.presence) this.connection.send(this.message('presence', 'announce', { awarenessId: this.id }));
        if (this.awareness.getLocalState() !== null && this.awareness.meta.get(this.id)?.clock > 0) this.sendAwareness([this.id]);
    }

    stopped() {
        this.done = this.isSynced = false;
        this.peers.clear();
        const others = [...this.awareness.getStates().keys()].filter(id => id !== this.id);
        awarenessProtocol.removeAwarenessStates(this.awareness, others, this);
    }

    sync() {
        this.connection.send(this.message('doc', 'sync-step-1', { vector: Y.encodeStateVector(this.doc) }));
    }

    sendAwareness(ids) {
        this.connection.send(this.message('awareness', 'awareness-update',
            { update: awarenessProtocol.encodeAwarenessUpdate(this.awareness, ids) }));
    }

    flush() {
        clearTimeout(this.timer);
        this.timer = undefined;
        if (this.pending.length === 0 || !this.connection.connected) return;
        const body = envelope(Y.mergeUpdatesV2(this.pending.splice(0)));
        this.connection.send(this.message('doc', 'update', { body }));
    }

    receive(message) {
        if (message.type === 'rpc') this.emit('rpc', message);
        switch (message.kind) {
            case 'sync-step-1': {
                const structure = Y.encodeStateAsUpdateV2(this.doc, message.vector.length === 0 ? undefined : message.vector);
                this.connection.send(this.message('doc', 'sync-step-2', { body: envelope(structure) }));
                break;
            }
            case 'sync-step-2':
            case 'update': {
                if (message.version !== 2) throw new Error(`version ${message.version}`);
                const structure = openEnvelope(message.body);
                if (structure.length > 0) Y.applyUpdateV2(this.doc, structure, this);
                break;
            }
            case 'sync-done':
                this.done = true;
                break;
            case 'auth-message':
                this.denied = message.reason;
                this.emit('denied', message.reason);
                break;
            case 'awareness-update':
                awarenessProtocol.applyAwarenessUpdate(this.awareness, message.update, this);
                break;
            case 'awareness-request':
                this.sendAwareness([...this.awareness.getStates().keys()]);
                break;
            case 'join':
                this.peers.set(message.awarenessId, message);
                break;
            case 'leave':
                this.peers.delete(message.awarenessId);
                awarenessProtocol.removeAwarenessStates(this.awareness, [message.awarenessId], this);
                break;
        }
        this.check();
    }

    saved(message) {
        this.emit('saved', message);
    }

    /** Nothing of this document waits: not in the batch, not in flight. */
    get isSaved() {
        return this.pending.length === 0 && ![...this.connection.inFlight.values()].some(({ message }) => message.document === this.name);
    }

    check() {
        this.isSynced = Boolean(this.connection.connected && this.done && this.isSaved);
    }

    synced(ms = 10_000) {
        return until(() => {
            if (this.connection.failure) throw this.connection.failure;
            if (this.denied !== null) throw new Error(this.denied);
            this.check();
            return this.isSynced;
        }, `document ${this.name} of client ${this.id} synced; in flight ${this.connection.inFlight.size}`, ms);
    }

    /** A remote call: resolves to {payload, parts, encrypted}, rejects with {status, details, payload}
     *  (spec 03 section 1). Requests with equal bytes share their answer. */
    call(method, payload = {}, { encrypted = false, ms = 30_000 } = {}) {
        const id = this.connection.send({ type: 'rpc', document: this.name, encrypted, method, requestType: 0, payload: { method, ...payload } });
        if (id === null) return Promise.reject(new Error('not connected'));
        return new Promise((resolve, reject) => {
            const parts = [];
            const timer = setTimeout(() => done(reject, new Error(`${method}: no answer`)), ms);
            const done = (settle, value) => {
                clearTimeout(timer);
                this.off('rpc', hear);
                settle(value);
            };
            const hear = message => {
                if (message.requestType === 0 || message.requestId !== id) return;
                if (message.status !== undefined)
                    return done(reject, Object.assign(new Error(`${method}: ${message.status} ${message.details}`), { status: message.status, details: message.details, payload: message.payload }));
                const value = decoding.readAny(decoding.createDecoder(message.payload));
                if (message.requestType === 1) parts.push(value);
                else done(resolve, { payload: value, parts, encrypted: message.encrypted });
            };
            this.on('rpc', hear);
        });
    }

    leave() {
        this.flush();
        if (this.presence) this.connection.send(this.message('presence', 'unannounce', { awarenessId: this.id }));
    }

    destroy() {
        clearTimeout(this.timer);
        this.doc.off('updateV2', this.onUpdate);
        this.awareness.destroy();
    }
}

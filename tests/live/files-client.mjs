// files-client.mjs - uploads and downloads of a Teleportal client, written from spec 03 sections 2 and 3.
//
//     const files = await Files.open(url, 'document');
//     const id = await files.upload(bytes, { name: 'a.bin' });
//     const { bytes, name } = await files.download(id);      // every proof is checked
//
// Everything can be said step by step, too, also what no client would say: request, part, wish.

import crypto from 'node:crypto';
import * as decoding from 'lib0/decoding';
import { Raw } from './raw.mjs';
import { Events, arrayOf, post } from './sse-client.mjs';
import { decode, encode, messageId } from './teleportal-client.mjs';

export const MIB = 1 << 20;
export const SEAL = 28;

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), crypto.createHash('sha256')).digest();
export const leafOf = chunk => sha256(Buffer.from([0]), chunk);
const join = (left, right) => sha256(Buffer.from([1]), left, right);

/** Pieces of at most `size` bytes; of nothing, one empty piece. */
export const cut = (bytes, size) =>
    bytes.length === 0 ? [bytes] : Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));

export function rootOf(leaves) {
    let level = leaves;
    while (level.length > 1) {
        const next = [];
        for (let i = 0; i < level.length; i += 2) next.push(i + 1 < level.length ? join(level[i], level[i + 1]) : level[i]);
        level = next;
    }
    return level[0];
}
export const idOf = chunks => rootOf(chunks.map(leafOf)).toString('base64');

/** True if the chunk is chunk `index` of `count` of the file with this id. */
export function proves(chunk, index, count, proof, id) {
    let hash = leafOf(chunk);
    let used = 0;
    for (let size = count, at = index; size > 1; size = Math.ceil(size / 2), at = Math.floor(at / 2)) {
        if (at === size - 1 && size % 2 === 1) continue;
        if (used === proof.length) return false;
        hash = at % 2 === 0 ? join(hash, proof[used++]) : join(proof[used++], hash);
    }
    return used === proof.length && hash.toString('base64') === id;
}

/** Sealed as a client does it; the server never looks. */
export function seal(piece, key) {
    const iv = crypto.createHmac('sha256', key).update(piece).digest().subarray(0, 12);
    const cipher = crypto.createCipheriv('aes-256-gcm', key, iv);
    return Buffer.concat([iv, cipher.update(piece), cipher.final(), cipher.getAuthTag()]);
}
export function unseal(chunk, key) {
    const decipher = crypto.createDecipheriv('aes-256-gcm', key, chunk.subarray(0, 12));
    decipher.setAuthTag(chunk.subarray(-16));
    return Buffer.concat([decipher.update(chunk.subarray(12, -16)), decipher.final()]);
}

export class RpcError extends Error {
    constructor({ status, details }) {
        super(`${status} ${details}`);
        Object.assign(this, { status, details });
    }
}

const any = bytes => decoding.readAny(decoding.createDecoder(new Uint8Array(bytes)));

/** One connection, and one document of it. */
export class Files {
    static async open(url, document, options = {}) {
        const files = new Files();
        Object.assign(files, { document, window: 8, retries: 0, nonce: 0, ...options });
        files.raw = await Raw.open(url);
        files.acks = new Map(); // message id -> function
        files.calls = new Map(); // request id -> {parts, done}
        files.errors = []; // responses that answer no request: of parts
        files.raw.socket.removeAllListeners('message');
        files.raw.socket.on('message', data => files.receive(data));
        files.raw.closed.then(({ code }) => files.fail(new Error(`closed with ${code}`)));
        return files;
    }

    /** The same over HTTP: hears by GET /sse, says by POST /sse, one after the other. */
    static async openHttp(base, document, options = {}) {
        const files = new Files();
        const events = await Events.open(`${base}/sse`);
        const id = await events.clientId();
        let last = Promise.resolve();
        const say = async frame => {
            const { status } = await post(`${base}/sse`, arrayOf([frame]), { headers: { 'x-teleportal-client-id': id } });
            if (status !== 200) files.fail(new Error(`a POST was answered ${status}`));
        };
        Object.assign(files, { document, window: 8, retries: 0, nonce: 0, acks: new Map(), calls: new Map(), errors: [], ...options });
        files.raw = { send: frame => (last = last.then(() => say(frame)).catch(error => files.fail(error))), cut: () => events.cut() };
        events.onEvent = event => event.event === 'message' && files.receive(Buffer.from(event.data, 'base64'));
        return files;
    }

    fail(error) {
        this.failure = error;
        for (const { reject } of [...this.acks.values(), ...this.calls.values()]) reject(error);
        this.acks.clear();
        this.calls.clear();
    }

    receive(data) {
        const message = decode(data);
        if (message.type === 'pong') return;
        if (message.type === 'ack') {
            const waiting = this.acks.get(message.messageId);
            this.acks.delete(message.messageId);
            waiting?.resolve(message);
            return;
        }
        if (message.type === 'rpc') this.answered(message);
        if (!this.mute) this.raw.send(encode({ type: 'ack', messageId: message.id }));
    }

    answered(message) {
        const call = this.calls.get(message.requestId);
        if (message.requestType === 1) {
            call.parts(any(message.payload));
            return;
        }
        if (!call) {
            this.errors.push(message);
            return;
        }
        this.calls.delete(message.requestId);
        if (message.status !== undefined) call.reject(new RpcError(message));
        else call.resolve(any(message.payload));
    }

    /** Sends; resolves to the ack or NACK. */
    say(message, frame = encode(message)) {
        const id = messageId(frame);
        const acked = new Promise((resolve, reject) => this.acks.set(id, { resolve, reject }));
        acked.catch(() => {});
        this.raw.send(frame);
        return { id, acked };
    }

    /** A request's answer (two that are alike would have one id: hence the nonce): resolves when both the response and the ack are there. */
    async call(method, payload, parts = () => {}) {
        const frame = encode({ type: 'rpc', document: this.document, method, requestType: 0, payload: { method, ...payload, nonce: this.nonce++ } });
        const id = messageId(frame);
        const response = new Promise((resolve, reject) => this.calls.set(id, { parts, resolve, reject }));
        response.catch(() => {});
        const { acked } = this.say(null, frame);
        const ack = await Promise.race([acked, response.then(() => acked)]); // a refusal may come without
        if (ack.retryAfter !== undefined) {
            this.retries++;
            await new Promise(resolve => setTimeout(resolve, ack.retryAfter));
            return this.call(method, payload, parts);
        }
        return response;
    }

    request(fileId, { name = 'a.bin', mimeType = 'application/x-test', size, encrypted = false, chunkSize }) {
        const payload = { fileId, filename: name, size, mimeType, lastModified: 1700000000000, encrypted };
        return this.call('fileUpload', chunkSize === undefined ? payload : { ...payload, chunkSize });
    }

    partOf(fileId, chunkIndex, chunkData, totalChunks, encrypted = false) {
        return {
            type: 'rpc', document: this.document, method: 'fileUpload', requestType: 1, requestId: fileId,
            payload: { fileId, chunkIndex, chunkData, merkleProof: [], totalChunks, bytesUploaded: 0, encrypted },
        };
    }

    /** Sends a chunk until it is acknowledged. Resolves to null, or to the error. */
    async part(fileId, chunkIndex, chunkData, totalChunks, encrypted = false) {
        const frame = encode(this.partOf(fileId, chunkIndex, new Uint8Array(chunkData), totalChunks, encrypted));
        for (;;) {
            const ack = await this.say(null, frame).acked;
            if (ack.error !== undefined) return ack.error;
            if (ack.retryAfter === undefined) return null;
            this.retries++;
            await new Promise(resolve => setTimeout(resolve, ack.retryAfter));
        }
    }

    /** Sends those chunks that are not in `present`, `window` at a time, at most `most` of them. */
    async send(fileId, chunks, { present = [], encrypted = false, most = Infinity } = {}) {
        const there = new Set(present);
        const missing = chunks.map((_, i) => i).filter(i => !there.has(i)).slice(0, most);
        const errors = [];
        const worker = async () => {
            for (let i = missing.shift(); i !== undefined; i = missing.shift()) {
                const error = await this.part(fileId, i, chunks[i], chunks.length, encrypted);
                if (error !== null) errors.push(error);
            }
        };
        await Promise.all(Array.from({ length: this.window }, worker));
        if (errors.length > 0) throw new Error(errors[0]);
    }

    /** Uploads as a client does. Resolves to the file's id; `this.offer` is what the server said last. */
    async upload(bytes, { key, chunkSize = this.chunkSize ?? MIB, ...options } = {}) {
        const encrypted = key !== undefined;
        const chunks = encrypted ? cut(bytes, chunkSize - SEAL).map(piece => seal(piece, key)) : cut(bytes, chunkSize);
        const id = idOf(chunks);
        this.offer = await this.request(id, { size: bytes.length, encrypted, chunkSize, ...options });
        if (this.offer.chunkSizeMismatch) {
            this.chunkSize = this.offer.chunkSize;
            return this.upload(bytes, { key, ...options });
        }
        if (!this.offer.alreadyExists) await this.send(id, chunks, { present: this.offer.existingChunks, encrypted });
        return id;
    }

    /** Resolves to {bytes, name, ...} when every piece has come in order, with a proof. */
    async download(id, { key, take = () => {} } = {}) {
        const pieces = [];
        const facts = await this.call('fileDownload', { fileId: id }, part => {
            const { chunkIndex, chunkData, merkleProof, totalChunks } = part;
            if (part.fileId !== id || chunkIndex !== pieces.length) throw new Error(`piece ${chunkIndex} instead of ${pieces.length}`);
            if (!proves(chunkData, chunkIndex, totalChunks, merkleProof, id)) throw new Error(`piece ${chunkIndex} has no proof`);
            take(part);
            pieces.push(key === undefined ? chunkData : unseal(Buffer.from(chunkData), key));
        });
        if (facts.totalChunks !== pieces.length) throw new Error(`${pieces.length} pieces of ${facts.totalChunks}`);
        return { ...facts, name: facts.filename, bytes: Buffer.concat(pieces) };
    }

    cut() {
        this.raw.cut();
    }
}

/** Bytes that are not all alike, and soon made. */
export function content(size, seed = 1) {
    const key = crypto.createHash('sha256').update(String(seed)).digest();
    return crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}


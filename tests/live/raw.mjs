// raw.mjs - connections that say exactly what the test wants, also what no client would say.
//
// Raw: one WebSocket with a queue of what came. Frames are whole binary messages as hex or bytes.

import { once } from 'node:events';
import net from 'node:net';
import { WebSocket } from 'ws';
import { patience } from './harness.mjs';

export const hex = bytes => Buffer.from(bytes).toString('hex');
export const bytes = text => Buffer.from(text.replace(/\s+/g, ''), 'hex');

export class Raw {
    /** Resolves when open. Rejects with {status} when the upgrade is refused. */
    static async open(url, options = {}) {
        const raw = new Raw();
        raw.socket = new WebSocket(url, options.protocols ?? [], { perMessageDeflate: false, handshakeTimeout: 5000 * patience, ...options });
        raw.messages = [];
        raw.waiting = [];
        raw.closing = null;
        raw.closed = new Promise(resolve => {
            raw.socket.on('close', (code, reason) => {
                raw.closing = { code, reason: reason.toString() };
                resolve(raw.closing);
                raw.wake();
            });
        });
        raw.socket.on('message', (data, isBinary) => {
            raw.messages.push(isBinary ? data : { text: data.toString() });
            raw.wake();
        });
        await new Promise((resolve, reject) => {
            raw.socket.on('error', reject);
            raw.socket.on('open', resolve);
            raw.socket.on('unexpected-response', (_, response) => {
                response.resume();
                reject(Object.assign(new Error(`upgrade refused: ${response.statusCode}`), { status: response.statusCode }));
                raw.socket.terminate();
            });
        });
        raw.socket.on('error', () => {});
        return raw;
    }

    wake() {
        for (const again of this.waiting.splice(0)) again();
    }

    send(data) {
        this.socket.send(typeof data === 'string' ? bytes(data) : data);
    }

    /** The next message. Rejects when none comes in `ms` or the connection ends. */
    next(ms = 5000) {
        return this.find(() => true, ms);
    }

    /** Takes the first message that `wanted` accepts, and those before it, off the queue. */
    async find(wanted, ms = 5000) {
        const end = Date.now() + ms * patience;
        for (;;) {
            const index = this.messages.findIndex(message => wanted(message));
            if (index >= 0) return this.messages.splice(0, index + 1)[index];
            if (this.closing) throw new Error(`closed with ${this.closing.code} ${this.closing.reason}`);
            const left = end - Date.now();
            if (left <= 0) throw new Error(`no such message in ${ms * patience} ms; queued: ${this.messages.map(m => (m.text ? m.text : hex(m).slice(0, 80))).join(' ')}`);
            await new Promise(resolve => {
                const timer = setTimeout(resolve, left);
                this.waiting.push(() => {
                    clearTimeout(timer);
                    resolve();
                });
            });
        }
    }

    /** The close frame's {code, reason}. */
    async close(ms = 5000) {
        let timer;
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error(`still open after ${ms * patience} ms`)), ms * patience);
        });
        try {
            return await Promise.race([this.closed, late]);
        } finally {
            clearTimeout(timer);
        }
    }

    /** The network breaks: no close frame. */
    cut() {
        this.socket.terminate();
    }

    /** Leaves in order. */
    async leave(code = 1000) {
        this.socket.close(code);
        await this.closed;
    }
}

/** How an upgrade ends: 101, or the status of its refusal. */
export async function upgrade(url, options = {}) {
    try {
        const raw = await Raw.open(url, options);
        raw.cut();
        return 101;
    } catch (error) {
        if (error.status === undefined) throw error;
        return error.status;
    }
}

/** A bare TCP connection with what it received so far in `.text`. */
export async function tcp(port, host = '127.0.0.1') { // or net.connect's options
    const socket = typeof port === 'object' ? net.connect(port) : net.connect(port, host);
    socket.text = '';
    socket.setEncoding('latin1');
    socket.on('data', data => (socket.text += data));
    socket.on('error', () => {});
    socket.gone = new Promise(resolve => socket.once('close', resolve)); // whatever ends it
    await once(socket, 'connect');
    return socket;
}

/** A TCP proxy to `port` that passes at most `bytesPerSecond` towards the client. */
export async function throttle(port, bytesPerSecond) {
    const SLICE_MS = 20;
    const sockets = new Set();
    const server = net.createServer(client => {
        const upstream = net.connect(port, '127.0.0.1');
        sockets.add(client).add(upstream);
        client.pipe(upstream);
        let held = [];
        let heldSize = 0;
        const budget = Math.ceil((bytesPerSecond * SLICE_MS) / 1000);
        upstream.on('data', data => {
            held.push(data);
            heldSize += data.length;
            if (heldSize > budget * 4) upstream.pause();
        });
        const pump = setInterval(() => {
            for (let left = budget; left > 0 && held.length > 0; ) {
                const part = held[0].subarray(0, left);
                client.write(part);
                left -= part.length;
                heldSize -= part.length;
                if (part.length === held[0].length) held.shift();
                else held[0] = held[0].subarray(part.length);
            }
            if (heldSize <= budget * 4) upstream.resume();
        }, SLICE_MS);
        const end = () => {
            clearInterval(pump);
            client.destroy();
            upstream.destroy();
        };
        for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
        port: server.address().port,
        async close() {
            for (const socket of sockets) socket.destroy();
            server.close();
            await once(server, 'close');
        },
    };
}

// sse-client.mjs - the same Teleportal client over HTTP: GET /sse for what it hears, POST /sse for
// what it says (spec 01 section 5). One POST at a time, of what gathered meanwhile, 10 messages at most.

import http from 'node:http';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { patience } from './harness.mjs';
import { TeleportalConnection, decode, messageId } from './teleportal-client.mjs';

/** A body: each frame behind its length. */
export const arrayOf = frames => Buffer.from(encoding.encode(out => frames.forEach(frame => encoding.writeVarUint8Array(out, frame))));

export function framesOf(body) {
    const input = decoding.createDecoder(new Uint8Array(body));
    const out = [];
    while (decoding.hasContent(input)) out.push(decoding.readVarUint8Array(input));
    return out;
}

/** One POST. Resolves to {status, headers, body: Buffer}. */
export function post(url, body, { headers = {}, agent = false, timeout = 20_000 } = {}) {
    return new Promise((resolve, reject) => {
        const req = http.request(url, { method: 'POST', agent, timeout: timeout * patience,
            headers: { 'Content-Type': 'application/octet-stream', 'Content-Length': body.length, ...headers } }, res => {
            const parts = [];
            res.on('data', part => parts.push(part));
            res.on('error', reject);
            res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
        });
        req.on('error', reject);
        req.on('timeout', () => req.destroy(new Error(`no answer from ${url}`)));
        req.end(body);
    });
}

/** An event stream, held to the letter: `event:`, `id:`, `data: `, an empty line. */
export class Events {
    static async open(url, { headers = {} } = {}) {
        const events = new Events();
        events.list = []; // {event, id, data}
        events.parts = []; // what has come of the next event
        events.waiting = [];
        events.ended = new Promise(resolve => (events.end = resolve));
        await new Promise((resolve, reject) => {
            events.request = http.get(url, { agent: false, headers: { Accept: 'text/event-stream', ...headers } }, response => {
                events.response = response;
                response.setEncoding('latin1');
                response.on('data', text => events.take(text));
                response.on('close', () => {
                    events.closed = true;
                    events.end();
                    events.wake();
                });
                resolve();
            });
            events.request.on('error', error => {
                events.closed = true;
                events.end();
                events.wake();
                reject(error);
            });
        });
        return events;
    }

    take(text) {
        // Events may be large: what came before is neither searched nor joined again.
        const last = this.parts.at(-1)?.at(-1) ?? '';
        this.parts.push(text);
        if (this.response.statusCode !== 200 || !(last + text).includes('\n\n')) return;
        let whole = this.parts.splice(0).join('');
        for (let end; (end = whole.indexOf('\n\n')) >= 0; whole = whole.slice(end + 2)) {
            const match = /^event:([\w-]+)\nid:([\w-]+)\ndata: (.+)$/.exec(whole.slice(0, end));
            if (!match) throw new Error(`not an event: ${whole.slice(0, end)}`);
            const [, event, id, data] = match;
            this.list.push({ event, id, data });
            this.onEvent?.({ event, id, data });
        }
        if (whole !== '') this.parts.push(whole);
        this.wake();
    }

    wake() {
        for (const again of this.waiting.splice(0)) again();
    }

    /** Takes the first event that `wanted` accepts, and those before it. */
    async find(wanted, ms = 5000) {
        const end = Date.now() + ms * patience;
        for (;;) {
            const index = this.list.findIndex(wanted);
            if (index >= 0) return this.list.splice(0, index + 1)[index];
            if (this.closed) throw new Error('the stream has ended');
            if (Date.now() > end) throw new Error(`no such event; there are ${JSON.stringify(this.list).slice(0, 300)}`);
            await new Promise(resolve => {
                const timer = setTimeout(resolve, end - Date.now() + 1);
                this.waiting.push(() => {
                    clearTimeout(timer);
                    resolve();
                });
            });
        }
    }

    async clientId() {
        return (this.id ??= (await this.find(({ event }) => event === 'client-id')).data);
    }

    cut() {
        this.request.destroy();
    }
}

export const frameOf = ({ id, data }) => {
    const frame = Buffer.from(data, 'base64');
    if (messageId(frame) !== id) throw new Error(`the id of an event is ${id}, of its frame ${messageId(frame)}`);
    return decode(frame);
};

/** As TeleportalConnection; `url` is http://host:port or a path below which /sse is. */
export class SseConnection extends TeleportalConnection {
    connect() {
        this.wanted = true;
        this.queue = [];
        this.posting = false;
        this.agent ??= new http.Agent({ keepAlive: true, maxSockets: 1 });
        const socket = (this.socket = { send: frame => this.say(frame), terminate: () => socket.events?.cut(), close: () => this.hangUp(socket) });
        Events.open(`${this.url}/sse`).then(events => {
            socket.events = events;
            if (socket !== this.socket || !this.wanted) return events.cut();
            events.onEvent = event => this.heard(event);
            for (const event of events.list.splice(0)) this.heard(event);
            return events.ended;
        }).catch(() => {}).then(() => this.ended(socket));
    }

    heard(event) {
        try {
            if (event.event === 'client-id') {
                this.id = event.data;
                this.connected = true;
                this.attempts = 0;
                this.connections++;
                this.emit('status', 'connected');
                for (const document of this.documents.values()) document.start();
            } else if (event.event === 'message') {
                this.receive(frameOf(event));
            }
        } catch (error) {
            this.failure ??= error;
            this.emit('failure', error);
            this.socket.terminate();
        }
    }

    ended(socket) {
        if (socket !== this.socket || socket.over) return;
        socket.over = true;
        this.connected = false;
        this.queue = [];
        for (const { timer } of this.inFlight.values()) clearTimeout(timer);
        this.inFlight.clear();
        for (const document of this.documents.values()) document.stopped();
        this.emit('status', 'disconnected');
        if (!this.wanted || !this.reconnect) return;
        this.attempts++;
        this.again = setTimeout(() => this.wanted && this.connect(), 100 * 1.3 ** Math.min(this.attempts, 21));
    }

    say(frame) {
        this.queue.push(frame);
        if (!this.posting) setImmediate(() => this.flush());
    }

    async flush() {
        const { socket } = this;
        if (this.posting) return;
        this.posting = true;
        while (this.queue.length > 0 && socket === this.socket) {
            const { status } = await post(`${this.url}/sse`, arrayOf(this.queue.splice(0, 10)),
                { agent: this.agent, headers: { 'x-teleportal-client-id': this.id } }).catch(() => ({ status: 0 }));
            if (status !== 200) this.badPosts = (this.badPosts ?? 0) + 1;
        }
        if (socket === this.socket) this.posting = false;
    }

    /** What was said before is still posted. */
    async hangUp(socket) {
        while (this.queue.length > 0 && socket.events && !socket.events.closed) await new Promise(resolve => setTimeout(resolve, 5));
        socket.events?.cut();
    }
}

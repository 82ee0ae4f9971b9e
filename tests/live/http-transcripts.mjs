// http-transcripts.mjs - recordings of Teleportal over HTTP, said again: requests, event streams, and the
// WebSockets beside them (spec 01 section 5).
//
// As in transcripts.mjs, what a client says is said as soon as everything recorded before it has come
// back, and at every pause what came is compared with what is recorded, connection by connection, as a
// set. A response is its status and its body; an id that the server makes stands for the recorded one from
// the moment it is told.

import fs from 'node:fs';
import { patience, request, sleep } from './harness.mjs';
import { Raw, bytes, hex } from './raw.mjs';
import { Events, framesOf, post } from './sse-client.mjs';
import { decode, openSealed, EMPTY_V2 } from './teleportal-client.mjs';

const PAUSE_MS = 100;
const PATIENCE_MS = 400;
const QUIET_MS = 60;

const headersOf = event => Object.fromEntries(event.headers.map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]));

/** [{at, conn, what, ...}]: 'request' {method, target, headers, body}, 'response' {status, body}, 'event'
 * {frame | id | ping}, 'send', 'expect' {frame}, 'leave'. */
export function loadHttp(file) {
    const out = [];
    for (const event of JSON.parse(fs.readFileSync(file, 'utf8')).events) {
        const entry = { at: event.t, conn: String(event.conn) };
        if (event.event === 'http-request') {
            const [method, target] = event.start.split(' ');
            Object.assign(entry, { what: 'request', method, target, headers: headersOf(event), body: bytes(event.bodyHex ?? '') });
        } else if (event.event === 'http-response') {
            const headers = headersOf(event);
            Object.assign(entry, { what: 'response', status: Number(event.start.split(' ')[1]), headers, body: event.body, frames: event.bodyHex && framesOf(bytes(event.bodyHex)) });
        } else if (event.event === 'sse') {
            const [, name, , data] = /^event:(\S+)\nid:(\S+)\ndata: (\S+)\n\n$/.exec(event.text);
            if (name === 'ping') continue; // rule: keepalives are not compared
            Object.assign(entry, name === 'client-id' ? { what: 'event', id: data } : { what: 'event', frame: Buffer.from(data, 'base64') });
        } else if (event.event === 'ws-frame' && event.hex !== undefined && event.opcode === 'binary') {
            Object.assign(entry, { what: event.dir === 'c2s' ? 'send' : 'expect', frame: bytes(event.hex) });
        } else if (event.event === 'ws-frame' && event.opcode === 'close' && event.dir === 'c2s') {
            entry.what = 'leave';
        } else continue;
        out.push(entry);
    }
    return withoutEmptySteps(out);
}

/** rule: an empty sync-step-2 is not passed on. */
function withoutEmptySteps(entries) {
    const said = new Set();
    return entries.filter(entry => {
        const frames = entry.what === 'request' ? readable(entry.body) : entry.what === 'send' ? [entry.frame] : [];
        for (const frame of frames) said.add(hex(frame));
        if (!entry.frame || !['event', 'expect'].includes(entry.what) || !said.has(hex(entry.frame))) return true;
        const message = decode(entry.frame);
        if (message.kind !== 'sync-step-2') return true;
        const { structure } = openSealed(message.body);
        return structure.length > 0 && !Buffer.from(structure).equals(EMPTY_V2);
    });
}

const readable = body => {
    try {
        return framesOf(body);
    } catch {
        return [];
    }
};

export function* httpSteps(entries) {
    let step = [];
    const asked = new Set(); // connections whose request has no answer yet: no step ends there
    for (const entry of entries) {
        if (step.length > 0 && entry.at - step.at(-1).at > PAUSE_MS && asked.size === 0) {
            yield { at: step[0].at, note: '', entries: step };
            step = [];
        }
        step.push(entry);
        if (entry.what === 'request') asked.add(entry.conn);
        if (entry.what === 'response') asked.delete(entry.conn);
    }
    if (step.length > 0) yield { at: step[0].at, note: '', entries: step };
}

export class HttpReplay {
    /** `Normal`: the class of transcripts.mjs. `token`: the recorded query -> ours. */
    constructor(server, Normal, token = null) {
        Object.assign(this, { server, token });
        this.theirs = new Normal('teleportal');
        this.ours = new Normal('teleportal');
        this.came = new Map(); // connection -> texts
        this.sockets = new Map();
        this.streams = new Map();
        this.ids = new Map(); // a recorded client id -> ours
        this.kinds = new Map(); // connection -> what its last request was
    }

    list(conn) {
        return this.came.get(conn) ?? this.came.set(conn, []).get(conn);
    }

    end() {
        for (const socket of this.sockets.values()) socket.cut();
        for (const stream of this.streams.values()) stream.cut();
    }

    async say(entry) {
        const { conn, method } = entry;
        const target = (this.token ?? (text => text))(entry.target.replace(/client-id=([^&]+)/, (all, id) => `client-id=${this.ids.get(id) ?? id}`));
        const headers = {};
        for (const name of ['content-type', 'x-teleportal-client-id', 'authorization', 'accept'])
            if (entry.headers[name] !== undefined) headers[name] = entry.headers[name];
        const id = headers['x-teleportal-client-id'];
        if (id !== undefined) headers['x-teleportal-client-id'] = this.ids.get(id) ?? id;
        if (entry.headers.upgrade !== undefined) {
            this.kinds.set(conn, 'upgrade');
            await Raw.open(`${this.server.http.replace('http', 'ws')}${target}`).then(socket => {
                this.sockets.set(conn, socket);
                this.list(conn).push('101');
            }, error => this.list(conn).push(String(error.status)));
        } else if (method === 'GET' && /^\/sse/.test(target)) {
            this.kinds.set(conn, 'stream');
            const stream = await Events.open(this.server.http + target, { headers });
            this.streams.set(conn, stream);
            this.list(conn).push(String(stream.response.statusCode));
            stream.onEvent = event => this.heard(conn, event);
            for (const event of stream.list) this.heard(conn, event);
        } else {
            this.kinds.set(conn, 'post');
            const answer = method === 'POST' ? post(this.server.http + target, entry.body, { headers }) : request(this.server.http + target, { method, headers });
            answer.then(({ status, headers: got, body }) => this.list(conn).push(this.response(this.ours, status, got, Buffer.from(body))), error => this.list(conn).push(`broken: ${error.message}`));
        }
    }

    heard(conn, { event, data }) {
        if (event === 'client-id') {
            this.waitsForId?.(data);
            this.list(conn).push('client-id');
        } else if (event === 'message') this.list(conn).push(this.ours.text(Buffer.from(data, 'base64')));
    }

    response(normal, status, headers, body) {
        const type = headers['content-type'] ?? '';
        if (/octet-stream/.test(type)) return `${status} ${framesOf(body).map(frame => normal.text(frame)).join(', ')}`;
        return `${status} ${/json/.test(type) ? body.toString().replace(/[0-9a-f]{16}/, 'ID') : ''}`.trim();
    }

    expected(entry) {
        if (entry.what === 'response') {
            const kind = this.kinds.get(entry.conn);
            if (kind !== 'post') return String(entry.status);
            return entry.frames
                ? `${entry.status} ${entry.frames.map(frame => this.theirs.text(frame)).join(', ')}`
                : this.response(this.theirs, entry.status, entry.headers, Buffer.from(entry.body ?? ''));
        }
        return entry.id !== undefined ? 'client-id' : this.theirs.text(entry.frame);
    }

    /** Plays one step. Returns [{conn, missing, extra}]. */
    async play(step) {
        const wanted = new Map();
        const want = conn => wanted.get(conn) ?? wanted.set(conn, []).get(conn);
        const arrived = conn => {
            const socket = this.sockets.get(conn);
            for (const message of socket?.messages.splice(0) ?? []) this.list(conn).push(this.ours.text(message));
            return this.list(conn).filter(text => text !== 'pong').length;
        };
        let ms = PATIENCE_MS;
        const caughtUp = async () => {
            const end = Date.now() + ms * patience;
            const behind = () => [...wanted].some(([conn, texts]) => arrived(conn) < texts.length);
            while (Date.now() < end && behind()) await sleep(3);
            if (behind()) ms = QUIET_MS; // it will not come: no second wait for it
        };
        for (const entry of step.entries) {
            if (['response', 'event', 'expect'].includes(entry.what)) {
                want(entry.conn).push(this.expected(entry));
                if (entry.id !== undefined) {
                    await caughtUp();
                    const stream = this.streams.get(entry.conn);
                    if (stream) this.ids.set(entry.id, await stream.clientId());
                }
                continue;
            }
            await caughtUp();
            if (entry.what === 'request') await this.say(entry);
            else if (entry.what === 'send') this.sockets.get(entry.conn).send(entry.frame);
            else if (entry.what === 'leave') this.sockets.get(entry.conn).socket.close(1000);
        }
        await caughtUp();
        await sleep(QUIET_MS * patience);
        const differences = [];
        for (const conn of new Set([...this.came.keys(), ...wanted.keys(), ...this.sockets.keys()])) {
            arrived(conn);
            const extra = this.list(conn).splice(0).filter(text => text !== 'pong');
            const missing = (wanted.get(conn) ?? []).filter(text => {
                if (text === 'pong') return false;
                const at = extra.indexOf(text);
                if (at >= 0) extra.splice(at, 1);
                return at < 0;
            });
            if (missing.length + extra.length > 0) differences.push({ conn, missing, extra });
        }
        return differences;
    }
}

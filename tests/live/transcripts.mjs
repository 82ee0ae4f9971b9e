// transcripts.mjs - recorded sessions of real clients with the reference servers, said again to ours.
//
// Each message of a client is sent on its connection as soon as everything that the recording shows
// before it has come back. At every pause of the recording what came is compared with what is
// recorded: in order on a connection that is alone, otherwise as a set, since messages of different
// connections may overtake each other. Both sides are brought into a normal form first: connection
// ids become "who announced first", Yjs updates become their structs, the user's name and data (which
// come from tokens) and the clocks of y-websocket's awareness are left out.
//
// deviations.json names what differs on purpose: rules, which hold everywhere; steps of one
// recording, each with the reason; and the recordings that are not replayed, with the reason. A step
// named there that does not occur is a failure too, so that the table cannot rot.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import * as decoding from 'lib0/decoding';
import * as Y from 'yjs';
import { here, isReference, patience, root, sleep, start, until } from './harness.mjs';
import { HttpReplay, httpSteps, loadHttp } from './http-transcripts.mjs';
import { Raw, bytes, hex } from './raw.mjs';
import { EMPTY_V2, decode as decodeT, messageId, openEnvelope, openSealed } from './teleportal-client.mjs';
import { Key, keyFile, withToken } from './tokens.mjs';
import { decode as decodeY } from './yclient.mjs';
import { word } from './traw.mjs';

const folder = path.join(root, 'tests/vectors/transcripts');
const table = JSON.parse(fs.readFileSync(path.join(here, 'deviations.json')));
const PAUSE_MS = 100; // between two messages of a recording: a new step begins
const PATIENCE_MS = 400; // how long a recorded message may take to come
const QUIET_MS = 60; // how long we listen for what is not recorded

// ---- normal forms -----------------------------------------------------------------------------------

const structs = (update, decodeUpdate) => {
    if (update.length === 0) return 'nothing';
    const { structs: list, ds } = decodeUpdate(update);
    const items = list.map(s => [s.id.client, s.id.clock, s.length, s.constructor.name, s.content && JSON.stringify(s.content), s.parentSub ?? null]);
    const gone = [...ds.clients].map(([client, ranges]) => [client, ranges.map(r => [r.clock, r.len])]);
    return items.length + gone.length === 0 ? 'nothing' : JSON.stringify([items, gone]);
};
const vectorOf = vector => JSON.stringify(vector.length ? [...Y.decodeStateVector(vector)].sort() : []);

const answerOf = m => JSON.stringify(decoding.readAny(decoding.createDecoder(m.payload)), (_, value) => (value instanceof Uint8Array ? hex(value) : value));

/** One side of a replay: turns frames into comparable text. */
class Normal {
    constructor(dialect) {
        this.dialect = dialect;
        this.owners = new Map(); // connection id -> the first awareness id seen with it
    }

    text(frame) {
        if (this.dialect === 'ywebsocket') {
            const m = decodeY(frame);
            if (m.type === 0) return `sync ${m.sub} ${m.sub === 0 ? vectorOf(m.bytes) : structs(m.bytes, Y.decodeUpdate)}`;
            if (m.type === 1) return `awareness ${JSON.stringify(m.entries.map(({ client, state }) => [client, state]))}`;
            return `type ${m.type}`;
        }
        const m = decodeT(frame);
        switch (m.kind ?? m.type) {
            case 'sync-step-1': return `${m.document} sync-step-1 ${vectorOf(m.vector)}`;
            case 'sync-step-2':
            case 'update': {
                if (!m.encrypted) return `${m.document} ${m.kind} ${structs(openEnvelope(m.body), Y.decodeUpdateV2)}`;
                const { structure, sidecars } = openSealed(m.body);
                return `${m.document} sealed ${m.kind} ${structs(structure, Y.decodeUpdateV2)} ${sidecars.map(hex).join(' ')}`;
            }
            case 'join':
            case 'leave':
                if (!this.owners.has(m.clientId)) this.owners.set(m.clientId, m.awarenessId);
                return `${m.document} ${m.kind} ${m.awarenessId} of the connection of ${this.owners.get(m.clientId)}`;
            case 'ack': return `${word(m)} for ${this.renamed?.get(m.messageId) ?? m.messageId}`;
            case 'pong': return 'pong';
            case 'awareness-update': return `${m.document} awareness-update ${hex(m.update)}`;
            case 'rpc': return `rpc ${m.method} ${m.status ?? 'ok'}${m.method.startsWith('keys') && m.requestType === 2 ? ` ${m.details ?? answerOf(m)}` : ''}`;
            default: return `${m.document} ${word(m)}`;
        }
    }
}

/** The short form that the table uses: "ack", "nack:text", "sync-step-2", "awareness 1001". */
const short = text => {
    if (/^(ack|nack:|retry)/.test(text)) return text.replace(/ for [0-9a-f]+$/, '');
    if (text.startsWith('awareness ')) return `awareness ${JSON.parse(text.slice(10)).map(([id, state]) => (state === null ? `-${id}` : id)).join(' ')}`.trim();
    if (/^sync \d/.test(text)) return `sync ${text[5]}`;
    return text.replace(/^\S+ (sync-step-1|sync-step-2|update|awareness-update|sync-done|auth-message|join \d+|leave \d+).*/, '$1');
};

// ---- recordings -------------------------------------------------------------------------------------

/** [{at, conn, what: 'open' | 'send' | 'expect' | 'cut' | 'leave' | 'closed', frame, note}] */
function load(name) {
    const text = fs.readFileSync(path.join(folder, name), 'utf8');
    const out = [];
    if (name.endsWith('.jsonl')) {
        for (const line of text.trim().split('\n').map(JSON.parse)) {
            if (line.dir && line.hex) out.push({ at: line.t, conn: line.conn, what: line.dir === 'C>S' ? 'send' : 'expect', frame: bytes(line.hex) });
            else if (line.ev === 'open') out.push({ at: line.t, conn: line.conn, what: 'open' });
            else if (line.ev === 'close') out.push({ at: line.t, conn: line.conn, what: line.code === 1006 ? 'cut' : 'leave' });
            else if (line.note) out.push({ at: line.t, note: line.note });
        }
        return { dialect: 'ywebsocket', entries: out };
    }
    const recording = JSON.parse(text);
    let note = '';
    for (const entry of recording.entries ?? recording.events) {
        const at = entry.ms ?? entry.t;
        const conn = String(entry.conn);
        if (entry.note === 'closed') {
            out.push({ at, conn, what: /disconnect|destroy/.test(note) ? 'leave' : 'closed' });
        } else if (entry.note !== undefined) {
            note = entry.note;
            out.push({ at, note });
        } else if (entry.opcode === 'close') {
            if (entry.dir === 'c2s') out.push({ at, conn, what: 'leave' });
        } else if (entry.hex !== undefined && entry.dir) {
            const kind = (entry.decoded ?? entry.message)?.type;
            out.push({ at, conn, what: entry.dir === 'c2s' ? 'send' : 'expect', frame: bytes(entry.hex), kind });
        }
    }
    // rule: a client that retracts its presence and is not heard of again has closed
    for (const conn of new Set(out.map(entry => entry.conn))) {
        const last = out.findLastIndex(entry => entry.conn === conn);
        if (out[last].what === 'send' && out[last].kind === 'presence') out.splice(last + 1, 0, { at: out[last].at, conn, what: 'leave', deaf: true });
    }
    return { dialect: 'teleportal', entries: out };
}

/** Takes out what the rules of the table take out. */
function applyRules({ dialect, entries: all }, { withoutRpc, without = [] }) {
    const entries = all.filter(({ conn }) => !without.includes(conn));
    if (isReference) return entries; // it is what was recorded: everything must match
    const said = new Map();
    const calls = new Set();
    return entries.filter(entry => {
        if (!entry.frame) return true;
        const key = hex(entry.frame);
        if (dialect === 'ywebsocket') {
            const mine = said.get(entry.conn) ?? said.set(entry.conn, new Set()).get(entry.conn);
            if (entry.what === 'send') mine.add(key).add(key.replace(/^0001/, '0002'));
            const echoes = key.startsWith('0002') || key.startsWith('01');
            return !(entry.what === 'expect' && echoes && mine.has(key)); // rule: no echo
        }
        if (withoutRpc) {
            if (entry.kind === 'rpc') {
                if (entry.what === 'send') calls.add(idOf(entry.frame));
                return false;
            }
            if (entry.kind === 'ack' && entry.what === 'expect' && calls.has(decodeT(entry.frame).messageId)) return false;
        }
        if (entry.what !== 'expect' || entry.kind === 'ack') return true;
        // rule: an empty sync-step-2 is not passed on. A passed-on frame is one that somebody else sent.
        const message = decodeT(entry.frame);
        if (message.kind !== 'sync-step-2') return true;
        // One that the server's own sync-step-1 follows is an answer.
        const next = entries.slice(entries.indexOf(entry) + 1).find(other => other.what === 'expect' && other.conn === entry.conn);
        if (next && decodeT(next.frame).kind === 'sync-step-1') return true;
        const passedOn = entries.some(other => other.what === 'send' && other.conn !== entry.conn && hex(other.frame) === key);
        const { structure } = openSealed(message.body);
        return !(passedOn && (structure.length === 0 || Buffer.from(structure).equals(EMPTY_V2)));
    });
}
const idOf = frame => decodeT(frame).id;

/** Steps of the recording: entries between pauses and notes. */
function* steps(entries) {
    let step = [];
    let note = '';
    for (const entry of entries) {
        const last = step.at(-1);
        if (last && (entry.note !== undefined || entry.at - last.at > PAUSE_MS || entry.at < last.at)) {
            yield { at: step[0].at, note, entries: step };
            step = [];
        }
        if (entry.note !== undefined) note = entry.note;
        else step.push(entry);
    }
    if (step.length > 0) yield { at: step[0].at, note, entries: step };
}

/** The recorded token in `text`, if there is one, as of now and signed by `key`; a wrong one stays. */
function again(key, text) {
    return text.replace(/token=([^.&]+)\.([^.&]+)\.[^&]+/, (all, head, claims) => {
        const { iat, exp, ...rest } = JSON.parse(Buffer.from(claims, 'base64url'));
        const { userId, room, documentAccess, ...more } = rest;
        return `token=${key.token({ user: userId, room, access: null, documentAccess, ...more })}`;
    });
}

// ---- replay -----------------------------------------------------------------------------------------

const keepalive = { ywebsocket: '010100', teleportal: hex(Buffer.from('YJSpong')) };

/** Ids that the server draws at random, as answers to calls name them: recorded id -> ours. */
class DrawnIds {
    constructor() {
        this.recorded = new Map(); // method -> the ids of each of its answers
        this.ours = new Map();
    }

    learn(answers, frame) {
        const m = decodeT(frame);
        if (m.type !== 'rpc' || m.requestType !== 2 || m.status !== undefined) return;
        const ids = Buffer.from(m.payload).toString('latin1').match(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g) ?? [];
        answers.set(m.method, [...(answers.get(m.method) ?? []), ids]);
    }

    /** A recorded frame with our ids in it: they are as long as the recorded ones. */
    rewrite(frame) {
        let text = Buffer.from(frame).toString('latin1');
        for (const [method, answers] of this.recorded)
            answers.forEach((ids, nth) => ids.forEach((id, at) => {
                const mine = this.ours.get(method)?.[nth]?.[at];
                if (mine) text = text.replaceAll(id, mine);
            }));
        return Buffer.from(text, 'latin1');
    }
}

class Replay {
    constructor(url, dialect) {
        Object.assign(this, { url, dialect });
        this.sockets = new Map();
        this.drawn = new DrawnIds();
        this.calls = new Set(); // message ids of what was said of type rpc
        this.theirs = new Normal(dialect);
        this.theirs.renamed = new Map(); // message ids of frames that were rewritten
        this.ours = new Normal(dialect);
    }

    async socket(conn) {
        if (!this.sockets.has(conn)) {
            const socket = await Raw.open(typeof this.url === 'function' ? this.url(conn) : this.url);
            if (this.dialect === 'teleportal') socket.socket.on('message', frame => this.drawn.learn(this.drawn.ours, frame));
            this.sockets.set(conn, socket);
        }
        return this.sockets.get(conn);
    }

    end() {
        for (const socket of this.sockets.values()) socket.cut();
    }

    /** Plays one step. Returns [{conn, missing, extra, order}] for connections that differ. */
    async play(step, pings) {
        const expected = new Map();
        const list = conn => expected.get(conn) ?? expected.set(conn, []).get(conn);
        const arrived = conn => this.sockets.get(conn)?.messages.filter(m => pings || hex(m) !== keepalive[this.dialect]).length ?? 0;
        const caughtUp = async () => {
            const end = Date.now() + PATIENCE_MS * patience;
            while (Date.now() < end && [...expected].some(([conn, texts]) => arrived(conn) < texts.length)) await sleep(3);
        };
        const differences = [];
        const unanswered = [];
        for (const entry of step.entries) {
            if (entry.what === 'expect') {
                list(entry.conn).push(this.theirs.text(entry.frame));
                if (this.dialect === 'teleportal') this.drawn.learn(this.drawn.recorded, entry.frame);
                continue;
            }
            if (entry.what !== 'send' || entry.kind !== 'ack') await caughtUp();
            const socket = await this.socket(entry.conn);
            if (entry.what === 'send') {
                const frame = entry.kind === 'rpc' ? this.drawn.rewrite(entry.frame) : entry.frame;
                if (entry.kind === 'rpc') this.calls.add(messageId(frame)).add(messageId(entry.frame));
                socket.send(frame);
                if (frame !== entry.frame) this.theirs.renamed.set(messageId(entry.frame), messageId(frame));
                if (this.dialect === 'teleportal' && entry.kind && !['ack', 'ping'].includes(entry.kind)) unanswered.push({ socket, id: messageId(frame) });
            }
            else if (entry.what === 'cut') socket.cut();
            else if (entry.what === 'leave') socket.socket.close(1000);
            if (entry.deaf) socket.deaf = true;
            if (entry.what !== 'closed') continue;
            if (!(await Promise.race([socket.closed, sleep(1000 * patience)])))
                differences.push({ conn: entry.conn, missing: ['closed'], extra: [] });
        }
        await caughtUp();
        // Every message is answered some time: NACKs in a row come with a delay (spec 01 section 4.6).
        const answered = ({ socket, id }) => socket.deaf || socket.closing || socket.messages.some(m => decodeT(m).messageId === id);
        await until(() => unanswered.every(answered), 'an ack', 6000).catch(() => {});
        await sleep(QUIET_MS * patience);

        for (const [conn, socket] of this.sockets) {
            if (socket.deaf) continue;
            // rule: the ack of a call may come later than its answer; that it comes was waited for
            const counts = text => !(text.startsWith('ack for ') && this.calls.has(text.slice(8)));
            const got = socket.messages.splice(0).filter(m => pings || hex(m) !== keepalive[this.dialect]).map(m => this.ours.text(m)).filter(counts);
            const want = (expected.get(conn) ?? []).filter(counts);
            if (JSON.stringify(got) === JSON.stringify(want)) continue;
            const extra = [...got];
            const missing = want.filter(text => {
                const at = extra.indexOf(text);
                if (at >= 0) extra.splice(at, 1);
                return at < 0;
            });
            const alone = this.sockets.size === 1;
            if (missing.length > 0 || extra.length > 0) differences.push({ conn, missing, extra });
            else if (alone) differences.push({ conn, missing: ['this order'], extra: [] });
        }
        return differences;
    }
}

export default async suite => {
    const { cores } = suite.options;
    const server = await start({ cores });
    let runs = 0;

    const names = fs.readdirSync(folder).filter(name => /\.jsonl?$/.test(name));
    await suite.test('the table speaks of every recording, and of no other', async () => {
        const known = new Set([...Object.keys(table.replayed), ...Object.keys(table.clients), ...Object.keys(table.later)]);
        assert.deepEqual(names.filter(name => !known.has(name)), []);
        assert.deepEqual([...known].filter(name => !names.includes(name)), []);
        for (const reason of Object.values(table.later)) assert.ok(reason.length > 10);
    });

    for (const [name, about] of Object.entries(table.replayed))
        await suite.test(`${name} goes as recorded`, async () => {
            const isHttp = about.http === true;
            const recording = isHttp ? { entries: loadHttp(path.join(folder, name)) } : load(name);
            // A server of its own: recordings use one another's document names.
            // Where calls are replayed, so are the users that they are attributed to.
            const key = about.users || about.tokens ? new Key('HS256') : null;
            const config = { ...key && keyFile([key]).config, ...about.config };
            const own = await start({ cores, durability: 'memory', config });
            suite.after(() => own.stop());
            const asUser = conn => withToken(own.teleportal, key.token({ user: about.users[conn] ?? '', room: about.room ?? '' }));
            const url = about.users ? asUser : recording.dialect === 'ywebsocket' ? `${own.yjs}/replay-${runs++}` : own.teleportal;
            const replay = isHttp ? new HttpReplay(own, Normal, key && (text => again(key, text))) : new Replay(url, recording.dialect);
            suite.after(() => replay.end());
            const unused = new Set(isReference ? [] : about.steps ?? []);
            const problems = [];
            for (const step of isHttp ? httpSteps(recording.entries) : steps(applyRules(recording, about))) {
                const pings = recording.entries.some(({ frame, what }) => what === 'expect' && frame && hex(frame) === keepalive.teleportal);
                for (const difference of await replay.play(step, pings)) {
                    const missing = difference.missing.map(short), extra = difference.extra.map(short);
                    const allowed = [...unused].find(d => d.at === step.at && d.conn === difference.conn
                        && JSON.stringify(d.missing ?? []) === JSON.stringify(missing) && JSON.stringify(d.extra ?? []) === JSON.stringify(extra));
                    if (allowed) unused.delete(allowed);
                    else problems.push(JSON.stringify({ at: step.at, conn: difference.conn, missing, extra })
                        + `\n  step "${step.note}"\n  missing ${difference.missing.join('\n          ').slice(0, 600)}\n  extra   ${difference.extra.join('\n          ').slice(0, 600)}`);
                }
            }
            for (const deviation of unused) problems.push(`the table names a deviation that did not occur: ${JSON.stringify(deviation)}`);
            assert.ok(problems.length === 0, `\n${problems.join('\n')}`);
        });

    // Recordings against a stub: only the client's half is of use. Each connection says what it said,
    // and a server owes it a step 2 and an open socket.
    for (const name of Object.keys(table.clients))
        await suite.test(`every connection of ${name} is answered with a step 2 and kept`, async () => {
            let heard = [];
            const connections = [];
            for (const entry of load(name).entries) {
                if (entry.what === 'open') connections.push((heard = []));
                if (entry.what === 'send') heard.push(entry.frame);
            }
            const speaking = connections.filter(frames => frames.some(frame => frame[0] === 0 && frame[1] === 0));
            assert.ok(speaking.length > 0);
            for (const frames of speaking) {
                const raw = await Raw.open(`${server.yjs}/clients-${runs++}`);
                suite.after(() => raw.cut());
                for (const frame of frames) raw.send(frame);
                await raw.find(m => m[0] === 0 && m[1] === 1);
                assert.equal(raw.closing, null);
                raw.cut();
            }
        });

    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

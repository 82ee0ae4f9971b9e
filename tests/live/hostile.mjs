// hostile.mjs - promise 2: nothing a client sends can hurt a document or the server.
//
// First every malformed and lenient frame of the vectors, one by one, with the verdict of spec 01
// sections 1.4 and 4.4. Then many thousands of mutated frames of both dialects, drawn from the seed,
// on many connections at once, while ordinary clients go on editing and must not notice.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import * as Y from 'yjs';
import * as encoding from 'lib0/encoding';
import { disagreement, edits } from './edits.mjs';
import { patience, root, sleep, start, until } from './harness.mjs';
import { Raw, bytes, tcp } from './raw.mjs';
import { TeleportalConnection, encode, messageId, openEnvelope } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1, updateOf, word, writing } from './traw.mjs';
import * as y from './yclient.mjs';

const vectors = name => JSON.parse(fs.readFileSync(path.join(root, 'tests/vectors/wire', name))).vectors;

/** N arrays of one element inside each other as the payload of a remote call. */
const nestedCall = depth => {
    const payload = Buffer.concat([Buffer.from('7501'.repeat(depth), 'hex'), Buffer.from([0x7f])]);
    return Buffer.concat([bytes('594a53010164000401 6d0000'), encoding.encode(out => encoding.writeVarUint8Array(out, payload))]);
};

export default async suite => {
    const { cores, full } = suite.options;
    const random = suite.random;
    const server = await start({ cores });

    const open = async () => {
        const raw = await TRaw.open(server.teleportal);
        suite.after(() => raw.cut());
        return raw;
    };
    const expectedClose = ({ hex: text, error = '' }) =>
        !text.startsWith('594a53') ? 1003 : /utf-8/i.test(error) ? 1007 : 1008;

    await suite.test('every malformed frame of the vectors ends its connection with the right code, and only that one', async () => {
        const witness = await open();
        await witness.ask(syncStep1('witness'));
        const wrong = [];
        for (const vector of vectors('malformed.json')) {
            const raw = await open();
            raw.raw.send(bytes(vector.hex));
            if (vector.name.startsWith('ping')) {
                assert.equal(word(await raw.next()), 'pong');
                continue;
            }
            const ended = await raw.close(2000).catch(() => ({ code: 'open' }));
            if (ended.code !== expectedClose(vector)) wrong.push(`${vector.name}: ${ended.code}, not ${expectedClose(vector)}`);
        }
        assert.deepEqual(wrong, []);
        assert.deepEqual((await witness.ask(updateOf('witness', writing('unharmed')))).words, ['ack']);
    });

    await suite.test('every lenient frame of the vectors gets our verdict: accepted, rejected or NACKed', async () => {
        const wrong = [];
        for (const vector of vectors('lenient.json')) {
            if (vector.hex === null) continue;
            const raw = await open();
            const frame = bytes(vector.hex);
            raw.raw.send(frame);
            const id = messageId(frame);
            let got;
            if (vector.fields.type === 'ack' && vector.serverShould === 'accept') {
                const came = await raw.settle().catch(() => null);
                got = came === null ? 'reject' : came.length === 0 ? 'accept' : came.map(word).join();
            } else {
                const last = await raw.answers(id, 2000).then(frames => frames.at(-1), error => error);
                // Accepted is what was understood: whether it then applies is another matter.
                const bad = vector.fields.payload?.kind === 'update' && vector.serverShould === 'accept';
                got = last instanceof Error ? (raw.raw.closing ? 'reject' : `silence: ${last.message}`)
                    : last.error === undefined || bad ? 'accept' : 'nack';
                if (got === 'reject' && raw.raw.closing.code !== 1008) got = `closed with ${raw.raw.closing.code}`;
            }
            if (got !== vector.serverShould) wrong.push(`${vector.name}: ${got}, not ${vector.serverShould}`);
        }
        assert.deepEqual(wrong, []);
    });

    await suite.test('values nested 64 deep are read, 65 deep are malformed, 100 000 deep as well', async () => {
        for (const [depth, code] of [[64, null], [65, 1008], [100_000, 1008]]) {
            const raw = await open();
            const frame = nestedCall(depth);
            raw.raw.send(frame);
            if (code === null) assert.equal(word((await raw.answers(messageId(frame))).at(-1)), 'ack');
            else assert.equal((await raw.close()).code, code);
        }
    });

    // ---- websocket frames that break RFC 6455 -----------------------------------------------------
    const upgraded = async (pathname = '/yjs/frames') => {
        const socket = await tcp(server.port);
        socket.write(`GET ${pathname} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`);
        await until(() => socket.text.includes('\r\n\r\n'), 'the answer to the upgrade');
        assert.match(socket.text, /^HTTP\/1\.1 101 /);
        suite.after(() => socket.destroy());
        socket.text = socket.text.slice(socket.text.indexOf('\r\n\r\n') + 4);
        return socket;
    };
    for (const [what, data, code] of [
        ['a frame without a mask', '82 01 00', 1002],
        ['a reserved bit', 'c2 81 00000000 00', 1002],
        ['a reserved opcode', '83 81 00000000 00', 1002],
        ['a control frame in pieces', '09 80 00000000', 1002],
        ['a control frame of 126 bytes', `89 fe 007e 00000000 ${'00'.repeat(126)}`, 1002],
        ['a continuation of nothing', '80 81 00000000 00', 1002],
        ['a new message inside another', '02 81 00000000 00 82 81 00000000 00', 1002],
        ['a close frame of one byte', '88 81 00000000 03', 1002],
        ['a close code nobody may send', '88 82 00000000 03ed', 1002],
        ['a length with its highest bit set', '82 ff 8000000000000001 00000000', null],
        ['a length of 2^62', '82 ff 4000000000000000 00000000', 1009],
    ])
        await suite.test(`${what} fails that connection${code ? ` with ${code}` : ''}`, async () => {
            const socket = await upgraded();
            socket.write(bytes(data));
            await until(() => socket.destroyed || socket.closed, 'the end of the connection', 5000);
            const said = Buffer.from(socket.text, 'latin1');
            const at = said.lastIndexOf(0x88);
            assert.ok(at >= 0, 'a close frame came');
            const got = said.readUInt16BE(at + 2);
            if (code) assert.equal(got, code);
            else assert.ok([1002, 1009].includes(got), `closed with ${got}`);
        });

    await suite.test('a message in a thousand pieces, with pings between, is one message', async () => {
        const socket = await upgraded();
        const message = y.step1();
        const pieces = [Buffer.from([0x02, 0x80, 0, 0, 0, 0])];
        for (let i = 0; i < 1000; i++) pieces.push(Buffer.from([0x00, 0x80, 0, 0, 0, 0]), Buffer.from([0x89, 0x80, 0, 0, 0, 0]));
        pieces.push(Buffer.concat([Buffer.from([0x80, 0x80 | message.length, 0, 0, 0, 0]), message]));
        for (const piece of pieces) socket.write(piece);
        await until(() => socket.text.includes('\x82\x05\x00\x01\x02\x00\x00'), 'the step 2', 5000);
    });

    await suite.test('a message that comes byte by byte is one message', async () => {
        const socket = await upgraded();
        socket.setNoDelay(true);
        for (const byte of Buffer.concat([Buffer.from([0x82, 0x84, 1, 2, 3, 4]), Buffer.from([0 ^ 1, 0 ^ 2, 1 ^ 3, 0 ^ 4])])) {
            socket.write(Buffer.from([byte]));
            await sleep(2);
        }
        await until(() => socket.text.includes('\x82\x05\x00\x01\x02\x00\x00'), 'the step 2', 5000);
    });

    // ---- mutated frames ---------------------------------------------------------------------------
    /** A fresh, well-formed frame of each kind on document `name`. */
    const seeds = {
        teleportal: name => random.pick([
            () => encode(syncStep1(name)),
            () => encode(updateOf(name, writing('hostile 🌍'))),
            () => encode({ type: 'doc', kind: 'sync-step-2', document: name, body: writing('step2') }),
            () => encode({ type: 'doc', kind: 'sync-done', document: name }),
            () => encode(announce(name, random.below(1000))),
            () => encode({ type: 'presence', kind: 'join', document: name, awarenessId: 3, clientId: 'c', userId: 'u', data: { a: [1, 'x', null] } }),
            () => encode({ type: 'awareness', kind: 'awareness-update', document: name, update: y.awareness([{ client: random.below(2 ** 31), clock: 1, state: { a: 1 } }]).slice(2) }),
            () => encode({ type: 'ack', messageId: '0011223344556677', error: 'e', retryAfter: 7 }),
            () => encode({ type: 'rpc', document: name, method: 'milestoneList', requestType: 0, payload: { a: [1.5, { b: new Uint8Array(3) }] } }),
            () => Buffer.from('YJSping'),
        ])(),
        yjs: () => random.pick([
            () => y.step1(),
            () => y.step1(Y.encodeStateVector(someDocument())),
            () => y.update(Y.encodeStateAsUpdate(someDocument())),
            () => y.step2(Y.encodeStateAsUpdate(someDocument())),
            () => y.awareness([{ client: random.below(2 ** 31), clock: 1, state: { user: 'x' } }, { client: 5, clock: 9, state: null }]),
            () => y.queryAwareness(),
            () => y.echo(random.bytes(5)),
        ])(),
    };
    const someDocument = () => {
        const doc = new Y.Doc();
        edits(doc, random, 4);
        return doc;
    };
    const mutate = frame => {
        let out = Buffer.from(frame);
        for (let times = 1 + random.below(3); times > 0; times--) {
            const at = random.below(out.length + 1);
            switch (random.below(7)) {
                case 0: if (out.length > 0) out[Math.min(at, out.length - 1)] ^= 1 << random.below(8); break;
                case 1: if (out.length > 0) out[Math.min(at, out.length - 1)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]); break;
                case 2: out = out.subarray(0, at); break;
                case 3: out = Buffer.concat([out.subarray(0, at), random.bytes(1 + random.below(4)), out.subarray(at)]); break;
                case 4: out = Buffer.concat([out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + random.below(4)))]); break;
                case 5: out = Buffer.concat([out.subarray(0, at), bytes(random.pick(['ffffffffffffff7f', 'ffffffff0f', '8080808001', '80808080808080808001'])), out.subarray(at)]); break;
                default: out = Buffer.concat([out.subarray(0, at), out.subarray(random.below(out.length + 1))]); break;
            }
        }
        return out;
    };
    const masked = frame => {
        const size = frame.length;
        const head = size < 126 ? Buffer.from([0x82, 0x80 | size, 0, 0, 0, 0])
            : Buffer.from([0x82, 0xfe, size >> 8, size & 255, 0, 0, 0, 0]);
        return Buffer.concat([head, frame]);
    };
    /** Sends frames from `make` on ever new connections until `budget.left` is spent. */
    const attack = async (pathname, make, budget) => {
        while (budget.left > 0) {
            const socket = net.connect(server.port, '127.0.0.1');
            let open = true;
            socket.on('error', () => {});
            await new Promise(resolve => {
                let upgraded = false;
                let text = '';
                const more = () => {
                    // A few at a time: what follows a frame that ends the connection is never read.
                    for (let i = 0; i < 2 && open && budget.left > 0; i++, budget.left--) socket.write(masked(make()));
                };
                socket.on('connect', () => socket.write(`GET ${pathname} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`));
                socket.on('data', data => {
                    if (!upgraded) {
                        text += data.toString('latin1');
                        if (!text.includes('\r\n\r\n')) return;
                        upgraded = true;
                        if (!text.startsWith('HTTP/1.1 101')) {
                            budget.refused++;
                            socket.destroy();
                            return;
                        }
                        budget.connections++;
                    }
                    if (data[0] !== 0x88) more();
                    if (budget.left <= 0) socket.end();
                });
                // A frame that is ignored brings no answer: go on by the clock.
                const clock = setInterval(() => (budget.left > 0 ? upgraded && more() : socket.destroy()), 10);
                socket.on('close', () => {
                    open = false;
                    clearInterval(clock);
                    resolve();
                });
            });
        }
    };

    const bystanders = async (name, work) => {
        const clients = [0, 1].map(i => new y.YClient(server.yjs, name, { version: y.VERSIONS[i] }));
        const connection = new TeleportalConnection(server.teleportal);
        const third = connection.open(name);
        suite.after(() => [...clients, connection].forEach(client => client.destroy()));
        await Promise.all([...clients, third].map(client => client.synced()));
        let going = true;
        let slowest = 0;
        const editing = (async () => {
            while (going) {
                for (const { doc } of [...clients, third]) edits(doc, random, 1);
                const began = Date.now();
                const probe = `probe-${began}`;
                clients[0].doc.getMap('probe').set('at', probe);
                await until(() => third.doc.getMap('probe').get('at') === probe, 'an edit arrives', 5000);
                slowest = Math.max(slowest, Date.now() - began);
                await sleep(20);
            }
        })();
        await Promise.race([work(), editing]);
        going = false;
        await editing;
        const docs = [...clients, third].map(client => client.doc);
        await until(() => disagreement(docs) === null, () => disagreement(docs), 20_000);
        assert.deepEqual([...clients.map(client => client.connections), connection.connections], [1, 1, 1], 'nobody was disconnected');
        assert.equal(connection.failure, null);
        const fresh = new y.YClient(server.yjs, name);
        suite.after(() => fresh.destroy());
        await fresh.synced();
        await until(() => disagreement([...docs, fresh.doc]) === null, () => disagreement([...docs, fresh.doc]));
        server.checkAlive();
        return slowest;
    };

    const total = full ? 400_000 : 50_000;
    await suite.test(`${total} mutated frames of both dialects: the server stays up, and others do not notice`, async () => {
        const budget = { left: total, connections: 0, refused: 0 };
        const slowest = await bystanders('quiet-street', async () => {
            await Promise.all(Array.from({ length: 24 }, (_, i) =>
                i % 2 ? attack(`/yjs/attacked-${i % 6}`, () => mutate(seeds.yjs()), budget)
                    : attack('/teleportal', () => mutate(seeds.teleportal(`attacked-${i % 6}`)), budget)));
        });
        suite.note(`${budget.connections} connections, ${budget.refused} refused; the slowest edit of a bystander took ${slowest} ms`);
        // What the attackers got into their documents is still a document: it decodes.
        for (let i = 0; i < 6; i++) {
            const raw = await Raw.open(`${server.yjs}/attacked-${i}`);
            suite.after(() => raw.cut());
            raw.send(y.step1());
            for (let done = false; !done; ) {
                const got = y.decode(await raw.next(10_000));
                if (got.type === y.SYNC && got.sub !== y.STEP1) Y.decodeUpdate(got.bytes);
                done = got.type === y.SYNC && got.sub === y.STEP2;
            }
            const traw = await open();
            const { frames } = await traw.ask(syncStep1(`attacked-${i}`), 10_000);
            const structure = openEnvelope(frames.find(frame => frame.kind === 'sync-step-2').body);
            if (structure.length > 0) Y.decodeUpdateV2(structure);
        }
    }, { seconds: full ? 600 : 180 });

    await suite.test('updates that are cut short, sent to the very document others edit, change nothing in it', async () => {
        const budget = { left: 4000, connections: 0, refused: 0 };
        const name = 'same-street';
        const cutShort = frame => frame.subarray(0, frame.length - 1 - random.below(Math.min(6, frame.length - 4)));
        await bystanders(name, async () => {
            await Promise.all(Array.from({ length: 8 }, (_, i) =>
                i % 2 ? attack(`/yjs/${name}`, () => {
                    // The length is right, the update inside is short.
                    const update = Y.encodeStateAsUpdate(someDocument());
                    return y.update(update.subarray(0, update.length - 1));
                }, budget)
                    : attack('/teleportal', () => cutShort(Buffer.from(encode(updateOf(name, writing('short'))))), budget)));
        });
    });

    if (patience > 1) suite.note(`patience ${patience}`);
    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

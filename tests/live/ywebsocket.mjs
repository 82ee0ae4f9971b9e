// ywebsocket.mjs - stock y-websocket clients on the server: spec 05, its section 11 above all.

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import { contents, disagreement, edits } from './edits.mjs';
import { isReference, patience, sleep, start, until } from './harness.mjs';
import { Raw, bytes, hex, throttle } from './raw.mjs';
import {
    AWARENESS, STEP1, STEP2, SYNC, UPDATE, VERSIONS, YClient, awareness, decode, echo, is, queryAwareness,
    readUntilStep2, step1, step2, update,
} from './yclient.mjs';

const agreeing = async (clients, ms = 20_000) => {
    const docs = clients.map(client => client.doc);
    await until(() => disagreement(docs) === null, () => disagreement(docs), ms);
};

export default async suite => {
    const { cores, full } = suite.options;
    const random = suite.random;
    let server = await start({ cores });
    let rooms = 0;
    const room = label => `${label}-${rooms++}`;

    /** Clients that end with the test. */
    const join = (name, count, options = {}) => {
        const clients = Array.from({ length: count }, (_, i) =>
            new YClient(server.yjs, name, { version: options.version ?? VERSIONS[i % VERSIONS.length], ...options }));
        suite.after(() => clients.forEach(client => client.destroy()));
        return clients;
    };
    const open = async (name, options) => {
        const raw = await Raw.open(`${server.yjs}/${name}`, options);
        suite.after(() => raw.cut());
        return raw;
    };
    /** An update that inserts `text` at the start of the shared text. */
    const insertion = (text, doc = new Y.Doc()) => {
        let made;
        doc.once('update', u => (made = u));
        doc.getText('text').insert(0, text);
        return made;
    };

    // ---- idle clients wait in the background, on a server of their own, until the end -------------
    const idleMs = 61_000;
    const idle = cores === 2 || full ? await start({ cores }) : null;
    // The reference loses clients without presence after 30 s: it sends them nothing.
    const kinds = isReference ? ['present'] : ['silent', 'present'];
    const idlers = !idle ? [] : VERSIONS.flatMap(version => kinds.map(kind => {
        const client = new YClient(idle.yjs, `idle-${version}-${kind}`, { version });
        if (kind === 'silent') client.awareness.setLocalState(null);
        return client;
    }));
    const idleSince = Date.now();

    // ---- editing ----------------------------------------------------------------------------------
    const edit = async (name, count, rounds, options) => {
        const clients = join(name, count, options);
        await Promise.all(clients.map(client => client.synced()));
        for (let round = 0; round < rounds; round++) {
            for (const client of clients) edits(client.doc, random, 1 + random.below(3));
            await sleep(random.below(10));
        }
        return clients;
    };

    for (const version of [...VERSIONS, undefined])
        for (const [count, rounds] of [[2, 60], [10, 20]])
            await suite.test(`${count} clients (${version ?? 'both versions'}) edit everything at once and agree`, async () => {
                const clients = await edit(room('edit'), count, rounds, { version });
                await agreeing(clients);
                assert.ok(contents(clients[0].doc).length > 200, 'there is something to agree on');
            });

    await suite.test('50 clients edit everything at once and agree', async () => {
        const clients = await edit(room('edit'), 50, 6);
        await agreeing(clients, 60_000);
    }, { seconds: 120 });

    await suite.test('formatting that clients change over one another converges', async () => {
        const clients = join(room('format'), 6);
        await Promise.all(clients.map(client => client.synced()));
        clients[0].doc.getText('text').insert(0, 'The quick brown 🦊 jumps over the lazy 🐕. '.repeat(12));
        await agreeing(clients);
        for (let round = 0; round < 25; round++) {
            for (const client of clients) edits(client.doc, random, 1, 'text');
            await sleep(random.below(8));
        }
        await agreeing(clients);
    });

    await suite.test('late joiners get what was written before them, while the writing goes on', async () => {
        const name = room('late');
        const clients = await edit(name, 3, 20);
        for (let i = 0; i < 5; i++) {
            clients.push(...join(name, 1));
            for (const client of clients) edits(client.doc, random, 2);
            await sleep(15);
        }
        await Promise.all(clients.map(client => client.synced()));
        await agreeing(clients);
    });

    await suite.test('clients whose sockets are cut again and again agree in the end', async () => {
        const clients = await edit(room('cut'), 6, 5);
        for (let round = 0; round < 40; round++) {
            const client = random.pick(clients);
            edits(client.doc, random, 2);
            if (random.below(4) === 0) random.pick(clients).cut();
            await sleep(random.below(25));
        }
        await Promise.all(clients.map(client => client.synced(20_000)));
        await agreeing(clients);
        assert.ok(clients.some(client => client.connections > 1), 'somebody was cut');
    });

    await suite.test('edits made offline arrive after the return', async () => {
        const clients = await edit(room('offline'), 4, 5);
        for (let round = 0; round < 3; round++) {
            const away = clients.filter(() => random.below(2));
            away.forEach(client => client.provider.disconnect());
            for (const client of clients) edits(client.doc, random, 12);
            await sleep(30);
            away.forEach(client => client.provider.connect());
            await Promise.all(clients.map(client => client.synced()));
            await agreeing(clients);
        }
    });

    if (!isReference)
        await suite.test('documents survive a restart, and clients come back to it by themselves', async () => {
            const [kept, left] = [room('restart'), room('restart-left')];
            const clients = await edit(kept, 4, 10);
            const gone = await edit(left, 2, 10);
            await agreeing(clients);
            await agreeing(gone);
            const before = contents(gone[0].doc);
            const port = server.port;
            const { data } = server;
            gone.forEach(client => client.destroy());
            // A client may have changed its document while it converged: only what the server was sent counts.
            await server.stop({ keepData: true });
            for (const client of clients) edits(client.doc, random, 3);
            server = Object.assign(await start({ cores, port, data }), { ownsData: true });
            await Promise.all(clients.map(client => client.synced(20_000)));
            await agreeing(clients);
            const [fresh, freshLeft] = [...join(kept, 1), ...join(left, 1)];
            await Promise.all([fresh.synced(), freshLeft.synced()]);
            await agreeing([...clients, fresh]);
            assert.equal(contents(freshLeft.doc), before);
        });

    // ---- the handshake ----------------------------------------------------------------------------
    await suite.test('a client is synced after one round trip, with one step 2 that holds everything', async () => {
        const name = room('roundtrip');
        const [writer] = await edit(name, 1, 30);
        const check = await open(name);
        check.send(step1());
        const doc = new Y.Doc();
        await until(async () => {
            check.send(step1(Y.encodeStateVector(doc)));
            await readUntilStep2(check, doc);
            return disagreement([writer.doc, doc]) === null;
        }, 'the server knows what was written');

        const raw = await open(name);
        raw.send(step1());
        const copy = new Y.Doc();
        const came = await readUntilStep2(raw, copy);
        assert.equal(disagreement([writer.doc, copy]), null);
        assert.equal(came.filter(m => m.type === SYNC && m.sub === STEP2).length, 1);
    });

    await suite.test('the server says its own state vector in a step 1', async () => {
        const name = room('vector');
        const writer = await open(name);
        const doc = new Y.Doc();
        doc.clientID = 77;
        writer.send(update(insertion('hello', doc)));
        writer.send(step1());
        await writer.find(is(SYNC, STEP2));
        const raw = await open(name);
        raw.send(step1());
        const got = decode(await raw.find(is(SYNC, STEP1)));
        assert.deepEqual([...Y.decodeStateVector(got.bytes)], [[77, 5]]);
    });

    await suite.test('an empty document is answered with an empty step 2', async () => {
        const raw = await open(room('empty'));
        raw.send(step1());
        assert.deepEqual([...decode(await raw.find(is(SYNC, STEP2))).bytes], [0, 0]);
    });

    await suite.test('a step 1 with a state vector gets the difference and the whole delete set', async () => {
        const name = room('difference');
        const writer = await open(name);
        const doc = new Y.Doc();
        doc.on('update', u => writer.send(update(u)));
        const text = doc.getText('text');
        text.insert(0, 'one two three');
        text.delete(0, 4);
        const half = new Y.Doc();
        Y.applyUpdate(half, Y.encodeStateAsUpdate(doc));
        text.insert(text.length, ' four');
        writer.send(step1(Y.encodeStateVector(half)));
        const answer = decode(await writer.find(is(SYNC, STEP2))).bytes;
        const meta = Y.parseUpdateMeta(answer);
        assert.equal(meta.from.get(doc.clientID), 13);
        assert.equal(Y.decodeUpdate(answer).ds.clients.get(doc.clientID)[0].len, 4);
        Y.applyUpdate(half, answer);
        assert.equal(half.getText('text').toString(), 'two three four');
    });

    if (!isReference)
        await suite.test('a step 2 is never sent before the document is loaded', async () => {
            const name = room('load');
            const writer = await open(name);
            const doc = new Y.Doc();
            doc.getArray('array').insert(0, Array.from({ length: 3000 }, () => random.below(2 ** 31).toString(36).repeat(8)));
            writer.send(update(Y.encodeStateAsUpdate(doc)));
            writer.send(echo(new Uint8Array([1])));
            await writer.find(is(102));
            const { port, data } = server;
            await server.stop({ keepData: true });
            server = Object.assign(await start({ cores, port, data }), { ownsData: true });
            // Several at once, so that some arrive while the first one's load is under way.
            await Promise.all(Array.from({ length: 8 }, async () => {
                const raw = await open(name);
                raw.send(step1());
                const copy = new Y.Doc();
                await readUntilStep2(raw, copy);
                assert.equal(copy.getArray('array').length, 3000);
            }));
        });

    if (!isReference)
        await suite.test('a large document arrives in pieces through a slow line, in time for the 30 s rule', async () => {
            const name = room('large');
            const size = full ? 20 << 20 : 4 << 20;
            const doc = new Y.Doc();
            // Three authors whose insertions refer to one another: pieces must respect the order.
            const authors = [doc, new Y.Doc(), new Y.Doc()];
            for (let made = 0, i = 0; made < size; i++) {
                const author = authors[i % 3];
                const array = author.getArray('array');
                const items = Array.from({ length: 64 }, () => Buffer.from(random.bytes(384)).toString('base64'));
                made += 64 * 512;
                array.insert(random.below(array.length + 1), items);
                if (i % 8 === 7)
                    for (const other of authors)
                        for (const peer of authors)
                            if (peer !== other) Y.applyUpdate(other, Y.encodeStateAsUpdate(peer, Y.encodeStateVector(other)));
            }
            for (const peer of authors) Y.applyUpdate(doc, Y.encodeStateAsUpdate(peer, Y.encodeStateVector(doc)));
            const writer = await open(name);
            writer.send(step2(Y.encodeStateAsUpdate(doc)));
            writer.send(echo(new Uint8Array([1])));
            await writer.find(is(102), 60_000);

            const line = await throttle(server.port, 1.5e6);
            suite.after(() => line.close());
            const raw = await Raw.open(`${server.yjs.replace(String(server.port), String(line.port))}/${name}`);
            suite.after(() => raw.cut());
            raw.send(step1());
            const copy = new Y.Doc();
            let largest = 0;
            let pieces = 0;
            for (let done = false; !done; ) {
                const message = await raw.next(30_000);
                largest = Math.max(largest, message.length);
                const got = decode(message);
                if (got.type !== SYNC || got.sub === STEP1) continue;
                Y.applyUpdate(copy, got.bytes);
                pieces++;
                done = got.sub === STEP2;
            }
            suite.note(`${pieces} pieces, the largest of ${largest} bytes`);
            assert.equal(disagreement([doc, copy]), null);
            assert.ok(largest <= 512 << 10, `the largest piece has ${largest} bytes`);
        }, { seconds: full ? 180 : 60 });

    await suite.test('resyncInterval keeps a client synced and repairs nothing that is whole', async () => {
        const name = room('resync');
        const clients = join(name, 2, { resyncInterval: 1000 });
        await Promise.all(clients.map(client => client.synced()));
        edits(clients[0].doc, random, 20);
        await sleep(2500);
        await agreeing(clients);
        assert.ok(clients.every(client => client.connections === 1 && client.provider.synced));
    });

    // ---- presence ---------------------------------------------------------------------------------
    await suite.test('clients see each other, and no longer when one leaves or is cut off', async () => {
        const clients = join(room('presence'), 4);
        clients.forEach((client, i) => client.awareness.setLocalState({ user: `user ${i} 🌍` }));
        await until(() => clients.every(a => clients.every(b => a.sees(b.id))), 'everybody sees everybody');
        clients[3].provider.disconnect();
        await until(() => !clients[0].sees(clients[3].id), 'the one that left is gone', 3000);
        clients[2].provider.shouldConnect = false;
        clients[2].cut();
        await until(() => !clients[0].sees(clients[2].id) && !clients[1].sees(clients[2].id), 'the one cut off is gone', 3000);
        assert.ok(clients[0].sees(clients[1].id));
    });

    if (!isReference)
        for (const version of VERSIONS)
            await suite.test(`a client (${version}) that comes back after a cut is visible again within 3 s`, async () => {
                const [a, b] = join(room('gap'), 2, { version });
                a.awareness.setLocalState({ user: 'a' });
                b.awareness.setLocalState({ user: 'b' });
                await until(() => b.sees(a.id) && a.sees(b.id), 'both see each other');
                a.cut();
                await until(() => !b.sees(a.id), 'a is gone');
                const began = Date.now();
                await until(() => b.sees(a.id)?.user === 'a', 'b sees a again', 3000);
                suite.note(`visible again after ${Date.now() - began} ms`);
                // and a stays the master of its state
                a.awareness.setLocalStateField('user', 'renamed');
                await until(() => b.sees(a.id)?.user === 'renamed', 'a can still change its state', 3000);
            });

    if (!isReference)
        await suite.test('an entry for a client that another live connection owns is ignored', async () => {
            const name = room('impersonate');
            const [a, b] = join(name, 2);
            a.awareness.setLocalState({ user: 'honest' });
            await until(() => b.sees(a.id), 'b sees a');
            const thief = await open(name);
            thief.send(step1());
            thief.send(awareness([{ client: a.id, clock: 1000, state: { user: 'thief' } }]));
            thief.send(awareness([{ client: a.id, clock: 1001, state: null }]));
            thief.send(awareness([{ client: 4242, clock: 1, state: { user: 'own' } }]));
            await until(() => b.sees(4242), 'the later entry has arrived');
            assert.deepEqual(b.sees(a.id), { user: 'honest' });
            thief.cut();
            await until(() => !b.sees(4242), 'the thief is gone');
            assert.deepEqual(b.sees(a.id), { user: 'honest' }, 'and took nobody along');
        });

    if (!isReference)
        await suite.test('a query is answered with everything known', async () => {
            const name = room('query');
            const [a] = join(name, 1);
            a.awareness.setLocalState({ user: 'a' });
            const raw = await open(name);
            raw.send(step1());
            await raw.find(m => is(AWARENESS)(m) && decode(m).entries.some(e => e.client === a.id));
            raw.send(queryAwareness());
            const answer = decode(await raw.find(m => is(AWARENESS)(m) && decode(m).entries.length > 0));
            assert.deepEqual(answer.entries.map(e => [e.client, e.state]), [[a.id, { user: 'a' }]]);
        });

    if (!isReference)
        await suite.test('a 102 comes back with its bytes after the update before it', async () => {
            const raw = await open(room('echo'));
            raw.send(update(insertion('saved')));
            raw.send(echo(bytes('00ff10')));
            assert.deepEqual([...decode(await raw.find(is(102))).bytes], [0, 255, 16]);
        });

    // ---- what no client sends ---------------------------------------------------------------------
    await suite.test('a message of unknown type is ignored', async () => {
        const raw = await open(room('unknown'));
        raw.send('63');
        raw.send('63 01 02 03');
        raw.send('00 07 01 00'); // and an unknown kind of sync message
        raw.send(step1());
        await raw.find(is(SYNC, STEP2));
    });

    if (!isReference)
        for (const [what, data] of [
            ['bytes after its end', '00 02 0d 01 01 4d 00 04 01 01 74 01 78 00 aa aa'],
            // applyUpdate of yjs throws when it has to keep such a range for later
            ['an empty delete range', '00 02 0f 01 01 4d 00 04 01 01 74 01 78 01 4d 01 05 00'],
            ['an empty struct', '00 02 0d 01 02 4d 00 04 01 01 74 01 78 00 00 00'],
        ])
            await suite.test(`an update with ${what} reaches the others without it`, async () => {
                const name = room('mended');
                const reader = await open(name);
                reader.send(step1());
                await reader.find(is(SYNC, STEP2));
                const writer = await open(name);
                writer.send(step1());
                await writer.find(is(SYNC, STEP2));
                writer.send(data);
                const got = await reader.find(is(SYNC, UPDATE));
                assert.equal(hex(decode(got).bytes), '01014d0004010174017800');
                const late = await open(name);
                late.send(step1());
                assert.equal(hex(decode(await late.find(is(SYNC, STEP2))).bytes), '01014d0004010174017800');
            });

    if (!isReference)
        for (const [what, data] of [
            ['a truncated sync message', '00 02 20 01 01'],
            ['a sync message without a kind', '00'],
            ['a step 1 whose length runs past the end', '00 00 05 01'],
            ['an unterminated number', '80 80'],
            ['a truncated awareness message', '01 09 01 e9 07'],
            ['garbage for an update', '00 02 06 ff ff ff ff ff ff'],
            ['garbage for a step 2', '00 01 04 01 02 03 04'],
            ['an empty message', ''],
        ])
            await suite.test(`${what} ends that connection with 4400, and nobody else notices`, async () => {
                const name = room('bad');
                const clients = await edit(name, 2, 3);
                await agreeing(clients);
                const before = contents(clients[0].doc);
                const raw = await open(name);
                raw.send(step1());
                await raw.find(is(SYNC, STEP2));
                raw.send(data);
                assert.equal((await raw.close()).code, 4400);
                edits(clients[1].doc, random, 3);
                await agreeing(clients);
                assert.ok(clients.every(client => client.connections === 1 && client.provider.synced));
                const [fresh] = join(name, 1);
                await fresh.synced();
                await agreeing([...clients, fresh]);
                assert.notEqual(before, '');
            });

    if (!isReference)
        await suite.test('a 3.1.0 client whose connection is ended with 4400 stays away', async () => {
            const [client] = join(room('stays'), 1, { version: '3.1.0' });
            await client.synced();
            const closed = new Promise(resolve => client.provider.on('closed', resolve));
            client.provider.ws.send(bytes('00 02 20 01'));
            assert.equal((await closed).code, 4400);
            await sleep(600);
            assert.equal(client.connections, 1);
        });

    await suite.test('a text frame does no harm to others', async () => {
        const name = room('text');
        const clients = await edit(name, 2, 3);
        const raw = await open(name);
        raw.socket.send('hello');
        const ended = await Promise.race([raw.closed, sleep(500)]);
        if (ended && !isReference) assert.ok([1003, 4400].includes(ended.code), `closed with ${ended.code}`);
        edits(clients[0].doc, random, 3);
        await agreeing(clients);
        assert.ok(clients.every(client => client.connections === 1));
    });

    if (!isReference)
        await suite.test('an update that depends on a missing one is kept, and whole when that arrives', async () => {
            const name = room('gap-in-updates');
            const doc = new Y.Doc();
            const made = [];
            doc.on('update', u => made.push(u));
            for (const letter of 'abc') doc.getText('text').insert(doc.getText('text').length, letter);
            const raw = await open(name);
            raw.send(update(made[2]));
            raw.send(update(made[1]));
            raw.send(update(made[0]));
            raw.send(echo(new Uint8Array([1])));
            await raw.find(is(102));
            const [fresh] = join(name, 1);
            await fresh.synced();
            assert.equal(fresh.doc.getText('text').toString(), 'abc');
        });

    // ---- names ------------------------------------------------------------------------------------
    for (const name of ['with/slash/es', 'with space', 'ünï/日本/🌍', 'dots.and-dashes_~', 'plus+and&and=', "quote'(s)!*", 'x'.repeat(200)])
        await suite.test(`the room "${name.slice(0, 24)}" is a room of its own`, async () => {
            const [a, b] = join(`n${rooms++}/${name}`, 2);
            await Promise.all([a.synced(), b.synced()]);
            edits(a.doc, random, 5);
            await agreeing([a, b]);
        });

    if (!isReference) {
        await suite.test('names are decoded once: %2F is a slash, %252F is not', async () => {
            const prefix = `decode${rooms++}`;
            const write = async (name, text) => {
                const raw = await open(name);
                raw.send(update(insertion(text)));
                raw.send(echo(new Uint8Array([1])));
                await raw.find(is(102));
            };
            const read = async name => {
                const raw = await open(name);
                raw.send(step1());
                const doc = new Y.Doc();
                await readUntilStep2(raw, doc);
                return doc.getText('text').toString();
            };
            await write(`${prefix}%2Fa`, 'slash');
            await write(`${prefix}%252Fa`, 'percent');
            assert.equal(await read(`${prefix}/a`), 'slash');
            assert.equal(await read(`${prefix}%252Fa`), 'percent');
            assert.equal(await read(`${prefix}/a?token=none&x=%2F`), 'slash', 'the query is not part of the name');
        });

        for (const [what, path] of [['an empty name', ''], ['a NUL', 'a%00b'], ['a broken escape', 'a%zz'], ['bad UTF-8', 'a%ff%fe'], ['a name of 1025 bytes', 'x'.repeat(1025)]])
            await suite.test(`the upgrade is refused for ${what}`, async () => {
                const refused = await Raw.open(`${server.yjs}/${path}`).then(raw => (raw.cut(), null), error => error);
                assert.ok(refused, 'refused');
                assert.ok(refused.status >= 400 && refused.status < 500, `${refused.message}`);
            });

        await suite.test('outside of every known path the first message tells the dialect', async () => {
            const name = room('anywhere');
            const client = new YClient(`ws://${server.address}`, name);
            suite.after(() => client.destroy());
            await client.synced();
            client.doc.getText('text').insert(0, 'root');
            const [other] = join(name, 1);
            await other.synced();
            await agreeing([client, other]);
            assert.equal(other.doc.getText('text').toString(), 'root');
        });

        await suite.test('one of the offered subprotocols is echoed', async () => {
            const raw = await Raw.open(`${server.yjs}/${room('protocol')}`, { protocols: ['first', 'second'] });
            suite.after(() => raw.cut());
            assert.ok(['first', 'second'].includes(raw.socket.protocol));
            raw.send(step1());
            await raw.find(is(SYNC, STEP2));
        });
    }

    // ---- slow and leaving -------------------------------------------------------------------------
    if (!isReference)
        await suite.test('a reader that stops reading costs bounded memory and agrees when it reads again', async () => {
            const name = room('slow');
            const slow = await open(name);
            slow.send(step1());
            const copy = new Y.Doc();
            await readUntilStep2(slow, copy);
            const writer = await open(name);
            const before = server.residentSize();
            slow.socket.pause();
            const doc = new Y.Doc();
            const payload = Buffer.from(random.bytes(48 << 10)).toString('base64');
            doc.on('update', u => writer.send(update(u)));
            // 64 MiB pass by, most of it deleted again: what the slow one needs in the end is small.
            for (let i = 0; i < 1024; i++) {
                doc.getMap('map').set('blob', payload + i);
                if (i % 32 === 31) {
                    writer.send(echo(new Uint8Array([i & 255])));
                    await writer.find(is(102), 30_000);
                }
            }
            const grown = server.residentSize() - before;
            suite.note(`the server grew by ${(grown / 1048576).toFixed(1)} MiB while 64 MiB passed`);
            slow.socket.resume();
            await until(() => {
                for (const message of slow.messages.splice(0)) {
                    const got = decode(message);
                    if (got.type === SYNC && got.sub !== STEP1) Y.applyUpdate(copy, got.bytes);
                }
                return disagreement([doc, copy]) === null;
            }, () => disagreement([doc, copy]), 20_000);
            assert.equal(slow.closing, null);
        }, { seconds: 90 });

    if (!isReference)
        await suite.test('at SIGTERM every client gets a close frame of 1012 or 1001', async () => {
            const leaving = await start({ cores });
            const sockets = await Promise.all(Array.from({ length: 20 }, (_, i) => Raw.open(`${leaving.yjs}/drain-${i % 5}`)));
            sockets.forEach(raw => raw.send(step1()));
            await Promise.all(sockets.map(raw => raw.find(is(SYNC, STEP2))));
            const stopped = leaving.stop();
            const codes = await Promise.all(sockets.map(raw => raw.close(15_000)));
            await stopped;
            assert.deepEqual(codes.filter(({ code }) => ![1001, 1012].includes(code)), []);
        });

    // ---- the idle ones ----------------------------------------------------------------------------
    if (idle) {
        await suite.test('clients with nothing to say stay connected for a minute, with presence or without', async () => {
            await Promise.all(idlers.map(client => client.synced()));
            await sleep(Math.max(0, idleSince + idleMs - Date.now()));
            for (const client of idlers) {
                assert.equal(client.connections, 1, `client ${client.version} reconnected`);
                assert.ok(client.provider.wsconnected);
            }
            idle.checkAlive();
        }, { seconds: 120 });
        idlers.forEach(client => client.destroy());
        await idle.stop().catch(error => suite.test('the server for idle clients ends well', () => { throw error; }));
    }
    if (patience > 1) suite.note(`patience ${patience}`);
    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

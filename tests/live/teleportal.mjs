// teleportal.mjs - Teleportal clients on the server: spec 01 sections 2 to 4, spec 02 sections 5 to 7.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import * as Y from 'yjs';
import * as encoding from 'lib0/encoding';
import { contents, disagreement, edits } from './edits.mjs';
import { root, sleep, start, until } from './harness.mjs';
import { Raw, bytes, hex } from './raw.mjs';
import { EMPTY_V2, TeleportalConnection, decode, encode, envelope, messageId, openEnvelope, openSealed, sealedEnvelope } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1, unannounce, updateOf, word, writing } from './traw.mjs';

const agreeing = async (documents, ms = 20_000) => {
    const docs = documents.map(document => document.doc);
    await until(() => {
        for (const { connection } of documents) if (connection.failure) throw connection.failure;
        return disagreement(docs) === null;
    }, () => disagreement(docs), ms);
};

export default async suite => {
    const { cores } = suite.options;
    const random = suite.random;
    let server = await start({ cores });
    let names = 0;
    const fresh = label => `${label}-${names++}`;

    const connect = (options = {}) => {
        const connection = new TeleportalConnection(server.teleportal, options);
        suite.after(() => connection.destroy());
        return connection;
    };
    /** `count` clients of one document, each on a connection of its own. */
    const join = (name, count, options) => Array.from({ length: count }, () => connect(options).open(name));
    const open = async () => {
        const raw = await TRaw.open(server.teleportal);
        suite.after(() => raw.cut());
        return raw;
    };
    /** The document as a newcomer gets it. */
    const read = async name => {
        const raw = await open();
        const { frames } = await raw.ask(syncStep1(name));
        const doc = new Y.Doc();
        const step2 = frames.find(frame => frame.kind === 'sync-step-2');
        assert.ok(step2, `answered with ${frames.map(word)}`);
        const structure = openEnvelope(step2.body);
        if (structure.length > 0) Y.applyUpdateV2(doc, structure);
        raw.cut();
        return doc;
    };
    const textOf = async name => (await read(name)).getText('text').toString();

    // Waits in the background, on a server of its own, until the end.
    const quietServer = await start({ cores });
    const quiet = await TRaw.open(quietServer.teleportal);
    quiet.say(syncStep1('quiet'));
    const quietSince = Date.now();

    await suite.test("the test client's codec writes and reads what the reference wrote", async () => {
        const { vectors } = JSON.parse(fs.readFileSync(path.join(root, 'tests/vectors/wire/messages.json')));
        for (const vector of vectors) {
            const frame = bytes(vector.hex);
            assert.equal(messageId(frame), vector.id, vector.name);
            if (vector.name.includes('heartbeat')) continue;
            const message = decode(frame);
            if (message.type !== 'rpc') assert.equal(hex(encode(message)), vector.hex, vector.name);
        }
    });

    // ---- editing ----------------------------------------------------------------------------------
    const edit = async (name, count, rounds, options) => {
        const documents = join(name, count, options);
        await Promise.all(documents.map(document => document.synced()));
        for (let round = 0; round < rounds; round++) {
            for (const { doc } of documents) edits(doc, random, 1 + random.below(3));
            await sleep(random.below(10));
        }
        return documents;
    };

    for (const [count, rounds, batchMs] of [[2, 60, 0], [2, 60, 100], [10, 20, 20], [50, 5, 50]])
        await suite.test(`${count} clients with a batch of ${batchMs} ms edit everything at once and agree`, async () => {
            const documents = await edit(fresh('edit'), count, rounds, { batchMs });
            await agreeing(documents, 60_000);
            await Promise.all(documents.map(document => document.synced()));
            assert.ok(contents(documents[0].doc).length > 200);
            assert.ok(documents.every(({ connection }) => connection.counts.nacks === 0), 'nothing was refused');
        }, { seconds: 120 });

    await suite.test('late joiners get what was written before them, while the writing goes on', async () => {
        const name = fresh('late');
        const documents = await edit(name, 3, 20);
        for (let i = 0; i < 5; i++) {
            documents.push(...join(name, 1));
            for (const { doc } of documents) edits(doc, random, 2);
            await sleep(15);
        }
        await agreeing(documents);
    });

    await suite.test('clients whose sockets are cut again and again agree in the end', async () => {
        const documents = await edit(fresh('cut'), 6, 5);
        for (let round = 0; round < 40; round++) {
            edits(random.pick(documents).doc, random, 2);
            if (random.below(4) === 0) random.pick(documents).connection.cut();
            await sleep(random.below(25));
        }
        await Promise.all(documents.map(document => document.synced(20_000)));
        await agreeing(documents);
        assert.ok(documents.some(({ connection }) => connection.connections > 1));
    });

    await suite.test('edits made offline arrive after the return', async () => {
        const documents = await edit(fresh('offline'), 4, 5);
        for (let round = 0; round < 3; round++) {
            const away = documents.filter(() => random.below(2));
            away.forEach(({ connection }) => connection.disconnect());
            for (const { doc } of documents) edits(doc, random, 12);
            await sleep(30);
            away.forEach(({ connection }) => connection.connect());
            await Promise.all(documents.map(document => document.synced()));
            await agreeing(documents);
        }
    });

    await suite.test('many documents on one connection stay apart, whichever core owns them', async () => {
        const list = Array.from({ length: 20 }, () => fresh('multi'));
        const connections = Array.from({ length: 3 }, () => connect());
        const documents = list.map(name => connections.map(connection => connection.open(name)));
        await Promise.all(documents.flat().map(document => document.synced()));
        for (let round = 0; round < 10; round++) {
            for (const group of documents) edits(random.pick(group).doc, random, 2);
            await sleep(random.below(10));
        }
        await Promise.all(documents.map(group => agreeing(group)));
        for (const [i, group] of documents.entries()) group[0].doc.getText('text').insert(0, `mine ${i} `);
        await Promise.all(documents.flat().map(document => document.synced()));
        for (const [i, name] of list.entries()) {
            const copy = await read(name);
            assert.equal(disagreement([documents[i][0].doc, copy]), null);
            assert.ok(copy.getText('text').toString().startsWith(`mine ${i} `));
        }
    });

    await suite.test('what is synced survives a restart, and clients come back to it by themselves', async () => {
        const [kept, left] = [fresh('restart'), fresh('restart-left')];
        const documents = await edit(kept, 4, 10);
        const [gone] = await edit(left, 1, 20);
        await gone.synced();
        gone.connection.destroy();
        const { port, data } = server;
        await server.stop({ keepData: true });
        for (const { doc } of documents) edits(doc, random, 3);
        server = Object.assign(await start({ cores, port, data }), { ownsData: true });
        await Promise.all(documents.map(document => document.synced(20_000)));
        await agreeing(documents);
        assert.equal(disagreement([gone.doc, await read(left)]), null);
        assert.equal(disagreement([documents[0].doc, await read(kept)]), null);
    });

    // ---- answers and their order ------------------------------------------------------------------
    await suite.test('sync-step-1 is answered by sync-step-2, sync-step-1 and the ack, in this order', async () => {
        const name = fresh('order');
        const raw = await open();
        const empty = await raw.ask(syncStep1(name));
        assert.deepEqual(empty.words, ['sync-step-2', 'sync-step-1', 'ack']);
        assert.equal(hex(empty.frames[0].body), '01000000', 'the envelope of a document that is not there');
        assert.equal(hex(empty.frames[1].vector), '00');
        const doc = new Y.Doc();
        doc.clientID = 77;
        assert.deepEqual((await raw.ask(updateOf(name, writing('A', doc)))).words, ['ack']);
        const again = await raw.ask(syncStep1(name));
        assert.deepEqual(again.words, ['sync-step-2', 'sync-step-1', 'ack']);
        assert.equal(hex(again.frames[1].vector), '014d01');
        assert.equal(again.frames[0].version, 2);
        const nothing = await raw.ask(syncStep1(name, Y.encodeStateVector(doc)));
        const structure = openEnvelope(nothing.frames[0].body);
        assert.equal(Y.parseUpdateMetaV2(structure).to.size, 0, 'nothing is missing');
    });

    await suite.test('sync-step-2 is answered by sync-done and the ack, and not passed on when it is empty', async () => {
        const name = fresh('step2');
        const [a, b] = [await open(), await open()];
        await a.ask(syncStep1(name));
        await b.ask(syncStep1(name));
        for (const body of [envelope(new Uint8Array(0)), envelope(EMPTY_V2)])
            assert.deepEqual((await a.ask({ type: 'doc', kind: 'sync-step-2', document: name, body })).words, ['sync-done', 'ack']);
        assert.deepEqual((await b.settle()).map(word), []);
        const full2 = { type: 'doc', kind: 'sync-step-2', document: name, body: writing('news') };
        assert.deepEqual((await a.ask(full2)).words, ['sync-done', 'ack']);
        const passed = await b.settle();
        assert.deepEqual(passed.map(frame => hex(frame.frame)), [hex(encode(full2))], 'the very bytes');
        assert.equal(await textOf(name), 'news');
    });

    await suite.test('an update reaches the others byte for byte, and its author only as an ack', async () => {
        const name = fresh('relay');
        const [a, b, c] = [await open(), await open(), await open()];
        for (const raw of [a, b, c]) await raw.ask(syncStep1(name));
        const message = updateOf(name, writing('hello'));
        assert.deepEqual((await a.ask(message)).words, ['ack']);
        for (const raw of [b, c]) {
            const [frame] = await raw.settle();
            assert.equal(frame && hex(frame.frame), hex(encode(message)));
        }
        assert.deepEqual(await a.settle(), []);
        assert.deepEqual((await a.ask(message)).words, ['ack'], 'sent again, acknowledged again');
        assert.equal(await textOf(name), 'hello');
    });

    await suite.test('every one of many updates in a row gets exactly one ack, in order', async () => {
        const name = fresh('stream');
        const raw = await open();
        await raw.ask(syncStep1(name));
        const doc = new Y.Doc();
        const ids = Array.from({ length: 500 }, (_, i) => raw.say(updateOf(name, writing(`${i} `, doc))));
        const acks = [];
        while (acks.length < ids.length) acks.push(await raw.next());
        assert.deepEqual(acks.map(ack => ack.messageId), ids);
        assert.ok(acks.every(ack => word(ack) === 'ack'));
        assert.deepEqual(await raw.settle(), []);
        assert.equal(disagreement([doc, await read(name)]), null);
    });

    await suite.test('an update with version 1 may hold a v1 or a v2 structure; readers get v2', async () => {
        const v1 = bytes('01014d0004010174017800');
        const v2 = Y.convertUpdateFormatV1ToV2(v1);
        for (const [label, structure] of [['v1', v1], ['v2', v2]]) {
            const name = fresh(`version-${label}`);
            const [raw, other] = [await open(), await open()];
            await other.ask(syncStep1(name));
            assert.deepEqual((await raw.ask(updateOf(name, envelope(structure), { version: 1 }))).words, ['ack']);
            assert.equal((await read(name)).getText('t').toString(), 'x');
            const [passed] = await other.settle();
            const copy = new Y.Doc();
            Y.applyUpdateV2(copy, openEnvelope(passed.body));
            assert.equal(copy.getText('t').toString(), 'x', 'the others can read it as v2');
        }
    });

    await suite.test('ping is answered by pong, also before any document', async () => {
        const raw = await open();
        assert.deepEqual(await raw.settle(), []);
    });

    await suite.test('sync-done, auth-message and server-made presence from a client are acknowledged and go nowhere', async () => {
        const name = fresh('forged');
        const [a, b] = [await open(), await open()];
        await a.ask(announce(name, 1));
        await b.ask(announce(name, 2));
        await a.settle();
        for (const message of [
            { type: 'doc', kind: 'sync-done', document: name },
            { type: 'doc', kind: 'auth-message', document: name, permission: 0, reason: 'x' },
            { type: 'presence', kind: 'join', document: name, awarenessId: 5, clientId: 'x', userId: 'y', data: {} },
            { type: 'presence', kind: 'leave', document: name, awarenessId: 1, clientId: 'x', userId: 'y', data: {} },
            bytes(hex(encode({ type: 'presence', kind: 'announce', document: name, awarenessId: 0 })).replace(/0000$/, '0300')),
        ])
            assert.deepEqual((await a.ask(message)).words, ['ack']);
        assert.deepEqual((await b.settle()).map(word), []);
        assert.deepEqual((await b.ask(announce(name, 2))).words, ['join 1', 'join 2', 'ack']);
    });

    await suite.test('acks of a client have no effect and no answer', async () => {
        const raw = await open();
        raw.say({ type: 'ack', messageId: '0000000000000000' });
        raw.say({ type: 'ack', messageId: '0000000000000000', error: 'why' });
        assert.deepEqual(await raw.settle(), []);
    });

    // ---- refusals ---------------------------------------------------------------------------------
    const refused = (error, name, message) =>
        suite.test(`${name} gets the NACK "${error}", and the connection goes on`, async () => {
            const raw = await open();
            const { frames, last } = await raw.ask(message);
            assert.equal(frames.length, 1, frames.map(word).join());
            assert.equal(last.error, error);
            const other = fresh('after');
            assert.deepEqual((await raw.ask(updateOf(other, writing('fine')))).words, ['ack']);
            assert.equal(await textOf(other), 'fine');
        });
    await refused('document-required', 'an empty document name', syncStep1(''));
    await refused('document-required', 'an update without document name', updateOf('', writing('x')));
    await refused('invalid-update', 'an update without envelope', updateOf(fresh('bad'), bytes('0000028d010000010405027478410001010000010100 00')));
    await refused('invalid-update', 'a bare v1 update', updateOf(fresh('bad'), bytes('01014d0004010174017800'), { version: 1 }));
    await refused('invalid-update', 'garbage for a structure', updateOf(fresh('bad'), bytes('01030102030000')));
    await refused('invalid-update', 'update version 0', updateOf(fresh('bad'), writing('x'), { version: 0 }));
    await refused('invalid-update', 'update version 9', updateOf(fresh('bad'), writing('x'), { version: 9 }));
    await refused('invalid-update', 'a v1 structure under version 2', updateOf(fresh('bad'), envelope(bytes('01014d0004010174017800'))));
    await suite.test('a structure with bytes left over is taken without them', async () => {
        const name = fresh('left-over');
        const raw = await open();
        assert.deepEqual((await raw.ask(updateOf(name, envelope(Buffer.concat([openEnvelope(writing('x')), Buffer.from('aaaa')]))))).words, ['ack']);
        assert.equal(await textOf(name), 'x');
    });

    for (const [what, message] of [
        ['a name with NUL', syncStep1('a\0b')],
        ['a name of 1025 bytes', syncStep1('x'.repeat(1025))],
        ['a corrupt state vector', syncStep1(fresh('bad'), bytes('0501'))],
    ])
        await suite.test(`${what} gets a NACK with an error, and the connection goes on`, async () => {
            const raw = await open();
            const { frames, last } = await raw.ask(message);
            assert.equal(frames.length, 1, frames.map(word).join());
            assert.ok(last.error, word(last));
            assert.deepEqual((await raw.ask(syncStep1(fresh('after')))).words, ['sync-step-2', 'sync-step-1', 'ack']);
        });

    await suite.test('a refused update leaves the document as it was, and nobody is told', async () => {
        const name = fresh('unhurt');
        const [a, b] = [await open(), await open()];
        await b.ask(syncStep1(name));
        await a.ask(updateOf(name, writing('good')));
        await b.settle();
        assert.equal((await a.ask(updateOf(name, bytes('01030102030000')))).last.error, 'invalid-update');
        assert.deepEqual(await b.settle(), []);
        assert.equal(await textOf(name), 'good');
    });

    await suite.test('a message over the limit gets message-too-large with both sizes', async () => {
        const raw = await open();
        const name = fresh('large');
        const message = encode(updateOf(name, envelope(new Uint8Array(10 << 20))));
        const { last } = await raw.ask(message, 20_000);
        assert.equal(last.error, `message-too-large: ${message.length} > 10485760 bytes`);
        assert.deepEqual((await raw.ask(syncStep1(fresh('after')))).words, ['sync-step-2', 'sync-step-1', 'ack']);
    });

    await suite.test('a message just under the limit is taken', async () => {
        const raw = await open();
        const name = fresh('full');
        const text = 'x'.repeat((10 << 20) - 200);
        assert.deepEqual((await raw.ask(updateOf(name, writing(text)), 20_000)).words, ['ack']);
        assert.equal((await textOf(name)).length, text.length);
    });

    await suite.test('a frame over max_message_size and 64 KiB ends the connection with 1009', async () => {
        const raw = await open();
        raw.raw.send(Buffer.concat([Buffer.from('YJS\x01'), Buffer.alloc((10 << 20) + (64 << 10), 0x59)]));
        assert.equal((await raw.close(10_000)).code, 1009);
    });

    for (const [what, message] of [['sync-step-1', name => syncStep1(name, undefined, { encrypted: true })], ['update', name => updateOf(name, writing('x'), { encrypted: true })]])
        await suite.test(`an encrypted ${what} on a plain document is denied and then acknowledged, so that nothing loops`, async () => {
            const name = fresh('mode');
            const raw = await open();
            await raw.ask(updateOf(name, writing('plain')));
            const { frames, words } = await raw.ask(message(name));
            assert.deepEqual(words, ['auth-message', 'ack']);
            assert.equal(frames[0].permission, 0);
            assert.equal(await textOf(name), 'plain');
        });

    // ---- encrypted documents (spec 02 section 17.4) ----

    const key = crypto.randomBytes(32);
    const seal = text => {
        const iv = crypto.randomBytes(12);
        const cipher = crypto.createCipheriv('aes-256-gcm', key, iv);
        return Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    };
    const unseal = sealed => {
        const cipher = crypto.createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12));
        cipher.setAuthTag(sealed.subarray(-16));
        return Buffer.concat([cipher.update(sealed.subarray(12, -16)), cipher.final()]).toString();
    };
    const sha256 = buffer => crypto.createHash('sha256').update(buffer).digest();
    const encrypted = { encrypted: true };
    /** What a newcomer with the key reads: the structure's characters are zeros, the sidecars hold theirs. */
    const readSealed = async (name, url = server.teleportal) => {
        const raw = await TRaw.open(url);
        const { frames } = await raw.ask(syncStep1(name, undefined, encrypted));
        raw.cut();
        const { structure, sidecars } = openSealed(frames.find(frame => frame.kind === 'sync-step-2').body);
        const doc = new Y.Doc();
        if (structure.length > 0) Y.applyUpdateV2(doc, structure);
        const hidden = doc.getText('text').toString();
        assert.match(hidden, /^\0*$/);
        const parts = sidecars.flatMap(sidecar => JSON.parse(unseal(Buffer.from(sidecar))));
        return { text: parts.sort(([a], [b]) => a - b).map(([, text]) => text).join(''), hidden, sidecars };
    };

    await suite.test('32 updates of an encrypted document leave fewer than 10 sidecars, and all of the text, also after a restart', async () => {
        let own = await start({ cores });
        const name = fresh('sealed');
        const [ann, bob] = [await TRaw.open(own.teleportal), await TRaw.open(own.teleportal)];
        await bob.ask(syncStep1(name, undefined, encrypted));
        // The first sync-step-2 of a client holds nothing, and has a sidecar all the same.
        const first = seal('[]');
        const doc = new Y.Doc();
        await ann.ask({ type: 'doc', kind: 'sync-step-2', document: name, body: sealedEnvelope(EMPTY_V2, [first]), ...encrypted });
        let since = [{ bytes: first, parts: [] }];
        let at = 0, text = '';
        for (let i = 0; i < 32; i++) {
            const word = `${i},`;
            let structure;
            doc.once('updateV2', update => (structure = update));
            doc.getText('text').insert(at, '\0'.repeat(word.length));
            const parts = [[at, word]];
            let compaction;
            if (since.length >= 25) {
                const all = since.flatMap(one => one.parts);
                const sidecar = seal(JSON.stringify(all));
                compaction = { sidecar, hash: sha256(sidecar), index: [[doc.clientID, 0, at - 1]], sources: since.map(one => sha256(one.bytes)) };
                since = [{ bytes: sidecar, parts: all }];
            }
            const bytes = seal(JSON.stringify(parts));
            since.push({ bytes, parts });
            const { words } = await ann.ask(updateOf(name, sealedEnvelope(structure, [bytes], compaction), encrypted));
            assert.deepEqual(words, ['ack']);
            at += word.length;
            text += word;
        }
        const heard = (await bob.settle()).filter(frame => frame.kind === 'update');
        assert.equal(heard.length, 32);
        assert.ok(heard.every(frame => frame.encrypted));

        for (const moment of ['while it is open', 'after a restart']) {
            const { text: got, hidden, sidecars } = await readSealed(name, own.teleportal);
            assert.equal(got, text, moment);
            assert.equal(hidden.length, text.length);
            assert.ok(sidecars.length < 10, `${sidecars.length} sidecars ${moment}`);
            if (moment !== 'while it is open') continue;
            await own.stop({ keepData: true });
            own = await start({ cores, data: own.data });
        }
        // Who has all but the last update is sent the sidecar of that alone.
        const late = await TRaw.open(own.teleportal);
        const vector = Y.encodeStateVector(new Map([[doc.clientID, at - 3]]));
        const { frames } = await late.ask(syncStep1(name, vector, encrypted));
        const { sidecars } = openSealed(frames[0].body);
        assert.deepEqual(sidecars.map(one => unseal(Buffer.from(one))), [JSON.stringify([[at - 3, '31,']])]);
        late.cut();
        await own.stop();
        fs.rmSync(own.data, { recursive: true, force: true });
    });

    await suite.test('a plain client and a y-websocket client cannot get at an encrypted document', async () => {
        const name = fresh('sealed-other');
        const ann = await open();
        const bytes = seal('[[0,"secret"]]');
        await ann.ask(updateOf(name, sealedEnvelope(openEnvelope(writing('\0'.repeat(6))), [bytes]), encrypted));
        assert.equal((await readSealed(name)).text, 'secret');

        const plain = await open();
        for (const message of [syncStep1(name), updateOf(name, writing('x'))])
            assert.deepEqual((await plain.ask(message)).words, ['auth-message', 'ack']);
        const raw = await Raw.open(`${server.yjs}/${name}`);
        suite.after(() => raw.cut());
        assert.equal((await raw.close(5000)).code, 4403);
        assert.equal((await readSealed(name)).text, 'secret');
    });

    await suite.test('error NACKs of one document in a row are delayed by 1, 2, ... s, and only they', async () => {
        const raw = await open();
        const [bad, good] = [fresh('guard'), fresh('guard-good')];
        const garbage = bytes('01030102030000');
        const times = [];
        for (let i = 0; i < 3; i++) {
            const began = Date.now();
            const id = raw.say(updateOf(bad, garbage));
            const meanwhile = await raw.ask(updateOf(good, writing('w')));
            assert.ok(Date.now() - began < 900, 'the other document is not held up');
            const known = meanwhile.frames.find(frame => frame.messageId === id);
            const nack = known ?? (await raw.answers(id, 10_000)).at(-1);
            assert.ok(nack.error);
            times.push(Date.now() - began);
        }
        suite.note(`NACKs after ${times.join(', ')} ms`);
        assert.ok(times[0] < 900 && times[1] >= 900 && times[1] < 1900 && times[2] >= 1900 && times[2] < 4000, times.join());
    });

    // ---- the invalid input of spec 01 section 4.4 -------------------------------------------------
    for (const [what, data, code] of [
        ['a message without the magic', 'aabbccdd', 1003],
        ['an empty message', '', 1003],
        ['a message array', '09594a53010164000003', 1003],
        ['the magic alone', '594a53', 1008],
        ['version 2', '594a53020164000003', 1008],
        ['an unknown type', '594a53010164000900', 1008],
        ['a pong', '594a53706f6e67', 1008],
        ['a truncated frame', '594a5301016400000204', 1008],
        ['bad UTF-8 in the name', '594a530101ff000003', 1007],
    ])
        await suite.test(`${what} ends the connection with ${code}, and no other`, async () => {
            const name = fresh('closing');
            const [good, raw] = [await open(), await open()];
            await good.ask(syncStep1(name));
            await raw.ask(syncStep1(name));
            raw.raw.send(data);
            assert.equal((await raw.close()).code, code);
            assert.deepEqual((await good.ask(updateOf(name, writing('still here')))).words, ['ack']);
        });

    // ---- presence (spec 02 section 7) -------------------------------------------------------------
    await suite.test('an announcement brings the roster, own ids included, and tells those that announced', async () => {
        const name = fresh('roster');
        const [a, b, silent] = [await open(), await open(), await open()];
        await silent.ask(syncStep1(name));
        assert.deepEqual((await a.ask(announce(name, 1001))).words, ['join 1001', 'ack']);
        const second = await b.ask(announce(name, 2001));
        assert.deepEqual(second.words, ['join 1001', 'join 2001', 'ack']);
        assert.notEqual(second.frames[0].clientId, second.frames[1].clientId);
        const told = await a.settle();
        assert.deepEqual(told.map(word), ['join 2001']);
        assert.equal(told[0].clientId, second.frames[1].clientId);
        assert.deepEqual(await silent.settle(), []);
        assert.deepEqual((await a.ask(announce(name, 1002))).words, ['join 1001', 'join 1002', 'join 2001', 'ack']);
        assert.deepEqual((await b.settle()).map(word), ['join 1002']);
        assert.deepEqual((await b.ask(announce(name, 2001))).words, ['join 1001', 'join 1002', 'join 2001', 'ack']);
        assert.deepEqual((await a.settle()).map(word), ['join 2001'], 'announcing again repeats it');
    });

    await suite.test('a retraction is told to all, the author and the silent included; an unknown one only acknowledged', async () => {
        const name = fresh('retract');
        const [a, b, silent] = [await open(), await open(), await open()];
        await silent.ask(syncStep1(name));
        await a.ask(announce(name, 1));
        await b.ask(announce(name, 2));
        await a.settle();
        assert.deepEqual((await a.ask(unannounce(name, 1))).words, ['leave 1', 'ack']);
        assert.deepEqual((await b.settle()).map(word), ['leave 1']);
        assert.deepEqual((await silent.settle()).map(word), ['leave 1']);
        assert.deepEqual((await a.ask(unannounce(name, 9))).words, ['ack']);
        assert.deepEqual((await b.settle()).map(word), []);
    });

    await suite.test('a client that goes leaves with every id it announced', async () => {
        const name = fresh('gone');
        const [a, b] = [await open(), await open()];
        await b.ask(announce(name, 2));
        await a.ask(announce(name, 1));
        await a.ask(announce(name, 11));
        await b.settle();
        a.cut();
        const leaves = [await b.next(), await b.next()].map(word);
        assert.deepEqual(leaves.sort(), ['leave 1', 'leave 11']);
        assert.deepEqual((await b.ask(announce(name, 2))).words, ['join 2', 'ack']);
    });

    await suite.test('an id moves without a leave to the connection that announces it last', async () => {
        const name = fresh('moves');
        const [a, b] = [await open(), await open()];
        await a.ask(announce(name, 1));
        const first = (await a.ask(announce(name, 2))).frames.find(frame => frame.awarenessId === 1);
        const moved = await b.ask(announce(name, 1));
        assert.deepEqual(moved.words, ['join 2', 'join 1', 'ack']);
        assert.notEqual(moved.frames[1].clientId, first.clientId);
        assert.ok(!(await a.settle()).map(word).includes('leave 1'));
        a.cut();
        assert.equal(word(await b.next()), 'leave 2', 'a leaves with what it still had');
        assert.deepEqual(await b.settle(), []);
    });

    await suite.test('awareness frames are passed on as they are and acknowledged; a request too', async () => {
        const name = fresh('awareness');
        const [a, b] = [await open(), await open()];
        await b.ask(syncStep1(name));
        const entry = encoding.encode(out => {
            encoding.writeVarUint(out, 1);
            encoding.writeVarUint(out, 4711);
            encoding.writeVarUint(out, 1);
            encoding.writeVarString(out, JSON.stringify({ user: 'ä🌍' }));
        });
        const message = { type: 'awareness', kind: 'awareness-update', document: name, update: entry };
        assert.deepEqual((await a.ask(message)).words, ['ack']);
        assert.deepEqual((await b.settle()).map(frame => hex(frame.frame)), [hex(encode(message))]);
        const request = { type: 'awareness', kind: 'awareness-request', document: name };
        const { words } = await b.ask(request);
        assert.equal(words.at(-1), 'ack');
        assert.deepEqual((await a.settle()).map(word), ['awareness-request']);
    });

    await suite.test('stock behaviour end to end: cursors appear, change and go with their client', async () => {
        const documents = join(fresh('cursors'), 3);
        await Promise.all(documents.map(document => document.synced()));
        const ids = documents.map(document => document.id);
        documents.forEach((document, i) => document.awareness.setLocalState({ i }));
        await until(() => documents.every(a => ids.every((id, i) => a.awareness.getStates().get(id)?.i === i)), 'all see all');
        await until(() => documents.every(a => ids.every(id => a.peers.has(id))), 'all are in all rosters');
        documents[2].connection.wanted = false;
        documents[2].connection.cut();
        await until(() => documents.slice(0, 2).every(a => !a.awareness.getStates().has(ids[2]) && !a.peers.has(ids[2])), 'the third is gone', 3000);
    });

    await suite.test('a connection that hears nothing else gets a pong within 17 s', async () => {
        await sleep(Math.max(0, quietSince + 17_000 - Date.now()));
        const heard = quiet.raw.messages.map(message => word(decode(message)));
        assert.deepEqual(heard.slice(0, 4), ['sync-step-2', 'sync-step-1', 'ack', 'pong']);
        quiet.cut();
        await quietServer.stop();
    });

    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

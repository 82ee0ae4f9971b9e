// auth.mjs - tokens: who comes in, what they may do, and how it ends.
//
// Every weakness of the reference server that concerns rights has a test here that shows ours is
// right: reading by awareness or presence alone, rooms that run together, read-only clients that never
// sync, refusals that make clients loop, tokens in logs, tokens that outlive themselves.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { WebSocket } from 'ws';
import * as Y from 'yjs';
import { commandLine, freePort, patience, request, runToEnd, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw, upgrade } from './raw.mjs';
import { Events, arrayOf, frameOf, framesOf, post } from './sse-client.mjs';
import { TeleportalConnection, decode, encode, messageId } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1, unannounce, updateOf, word, writing } from './traw.mjs';
import { Key, keyFile, withToken } from './tokens.mjs';
import * as y from './yclient.mjs';

const ALGORITHMS = ['HS256', 'HS384', 'HS512', 'RS256', 'PS256', 'ES256', 'EdDSA'];

const step2Of = (document, body) => ({ type: 'doc', kind: 'sync-step-2', document, body });
const awarenessOf = (document, id = 7, clock = 1) => ({
    type: 'awareness', kind: 'awareness-update', document,
    update: Buffer.concat([Buffer.from([1, id, clock, 7]), Buffer.from('{"a":1}')]),
});
const call = (document, method, requestType = 0) => ({ type: 'rpc', document, method, requestType, requestId: 'deadbeef', payload: { method } });

export default async suite => {
    const { cores } = suite.options;
    const keys = Object.fromEntries(ALGORITHMS.map(alg => [alg, new Key(alg)]));
    const key = keys.HS256;
    const file = keyFile(Object.values(keys));
    const server = await start({ cores, logLevel: 'debug', config: file.config });
    const tokens = []; // all that were ever sent to this server: none may appear in its log

    const token = (claims, header, signer = key) => {
        const made = signer.token(claims, header);
        tokens.push(made);
        return made;
    };
    const as = (user, access, more = {}) => withToken(server.teleportal, token({ user, access, ...more }));
    const open = async url => {
        const raw = await TRaw.open(url);
        suite.after(() => raw.cut());
        return raw;
    };
    const client = url => {
        const connection = new TeleportalConnection(url);
        suite.after(() => connection.destroy());
        return connection;
    };
    const yclient = (room, made, options = {}) => {
        const one = new y.YClient(server.yjs, room, { params: { token: made }, ...options });
        suite.after(() => one.destroy());
        return one;
    };
    /** A document with some text, by somebody who may write it. */
    const written = async (document, more = {}) => {
        const writer = await open(as('writer', { '*': 'read write' }, more));
        assert.deepEqual((await writer.ask(updateOf(document, writing('secret')))).words, ['ack']);
        return writer;
    };

    // ---- coming in ----------------------------------------------------------------------------------

    for (const alg of ALGORITHMS)
        await suite.test(`a token signed with ${alg} opens the door, with the name of its key and without`, async () => {
            for (const header of [{}, { kid: undefined }]) {
                const raw = await open(withToken(server.teleportal, token({}, header, keys[alg])));
                assert.deepEqual((await raw.ask(syncStep1('d'))).words, ['sync-step-2', 'sync-step-1', 'ack']);
            }
        });

    await suite.test('a token may come as a bearer header, and a header goes before the query', async () => {
        const good = token({}), bad = token({ expiresIn: -1 });
        assert.equal(await upgrade(server.teleportal, { headers: { Authorization: `Bearer ${good}` } }), 101);
        assert.equal(await upgrade(server.teleportal, { headers: { Authorization: `bEARER   ${good}` } }), 101);
        assert.equal(await upgrade(withToken(server.teleportal, good), { headers: { Authorization: `Bearer ${bad}` } }), 401);
        assert.equal(await upgrade(server.teleportal, { headers: { Authorization: `Basic ${good}` } }), 401);
    });

    await suite.test('what is no good token is refused with 401 before the upgrade', async () => {
        const other = new Key('HS256', 'hs256'), otherCurve = new Key('ES256', 'es256');
        const good = token({});
        const unsigned = (header, secret) => {
            const input = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${good.split('.')[1]}`;
            return `${input}.${secret ? crypto.createHmac('sha256', secret).update(input).digest('base64url') : ''}`;
        };
        const spki = pem => keys.RS256.public.export({ type: 'spki', format: pem });
        const bad = {
            'no token': '', 'not a token': 'hello', 'another key': token({}, {}, other), 'another curve': token({}, {}, otherCurve),
            'expired': token({ expiresIn: -1 }), 'not yet': token({ nbf: Date.now() / 1000 + 100 }),
            'another issuer': token({ iss: 'x' }), 'another audience': token({ aud: ['x'] }), 'no user': token({ user: null }),
            'no room': token({ room: null }), 'no documents named': token({ access: null }),
            'alg none': unsigned({ alg: 'none' }), 'alg none, signed': unsigned({ alg: 'none' }, key.secret),
            'the public key as secret': unsigned({ alg: 'HS256', kid: 'rs256' }, spki('pem')),
            'the public key as secret, unnamed': unsigned({ alg: 'HS256' }, spki('der')),
            'crit': token({}, { crit: ['exp'] }), 'too long': token({ more: 'x'.repeat(8192) }),
            'one letter more': `${good}A`, 'one letter less': good.slice(0, -1),
            'signed by RS256, said to be PS256': token({}, { alg: 'PS256', kid: undefined }, keys.RS256),
        };
        for (const [name, value] of Object.entries(bad))
            for (const door of [server.teleportal, `${server.yjs}/doc`, `${server.http.replace('http', 'ws')}/anywhere`])
                assert.equal(await upgrade(value === '' ? door : withToken(door, value)), 401, `${name} at ${door}`);
        const answer = await request(withToken(`${server.http}/teleportal`, 'x'), {
            headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': Buffer.alloc(16).toString('base64') } });
        assert.equal(answer.body, 'Unauthorized');
    });

    await suite.test('a client that is refused backs off, and comes in when it gets a token', async () => {
        for (const version of y.VERSIONS) {
            const one = yclient('backing-off', 'no token at all', { version });
            let attempts = 0;
            one.provider.on('connection-error', () => attempts++);
            await sleep(2500);
            assert.ok(attempts >= 2 && attempts <= 8, `${attempts} attempts of ${version} in 2.5 s`);
            one.provider.params.token = token({});
            if (version === '3.1.0') await one.synced(); // 2.1.0 reads its parameters once
        }
    });

    await suite.test('hundreds of handshakes at once, good and bad, are each answered rightly', async () => {
        const count = 300;
        const forged = new Key('ES256', 'es256');
        const answers = await Promise.all(Array.from({ length: count }, (_, i) => {
            const signer = i % 3 === 0 ? forged : [keys.ES256, keys.RS256, keys.EdDSA][i % 7 % 3];
            return upgrade(withToken(server.teleportal, token({ user: `u${i}` }, {}, signer)));
        }));
        answers.forEach((answer, i) => assert.ok(answer === (i % 3 === 0 ? 401 : 101) || answer === 503, `${i}: ${answer}`));
        assert.ok(answers.filter(answer => answer === 101).length >= count / 3);
    });

    await suite.test('a client that goes away while its token is verified leaves nothing behind', async () => {
        for (let i = 0; i < 40; i++) {
            const socket = new WebSocket(withToken(server.teleportal, token({ user: `gone${i}` }, {}, keys.ES256)));
            socket.on('error', () => {});
            setTimeout(() => socket.terminate(), i % 4);
        }
        await sleep(100);
        server.checkAlive();
        assert.equal(await upgrade(as('still', { '*': 'read' })), 101);
    });

    // ---- rights -------------------------------------------------------------------------------------

    await suite.test('nobody reads a document by awareness, presence or calls, without the right to read it', async () => {
        const writer = await written('private');
        await writer.ask(announce('private', 1));
        const spy = await open(as('spy', { 'other/*': 'admin' }));
        const said = [syncStep1('private'), awarenessOf('private'), { type: 'awareness', kind: 'awareness-request', document: 'private' },
            announce('private', 9), unannounce('private', 9), call('private', 'milestoneList'), call('private', 'fileDownload', 1)];
        const words = [];
        for (const message of said) words.push((await spy.ask(message)).words.join(' '));
        assert.deepEqual(words, ['auth-message ack', 'ack', 'ack', 'ack', 'ack', 'rpc 403 ack', 'rpc 403 ack']);
        await writer.settle();
        await writer.ask(updateOf('private', writing('more')));
        await writer.ask(awarenessOf('private', 3));
        assert.deepEqual((await spy.settle()).map(word), [], 'the spy hears nothing');
        assert.deepEqual((await writer.settle()).map(word), [], 'and is not heard of');
    });

    await suite.test('each kind of message is answered as the table of refusals says, and comes to rest', async () => {
        const raw = await open(as('reader', { '*': 'read', '!closed': '' }));
        const asked = async message => (await raw.ask(message)).words.join(' ');
        assert.equal(await asked(syncStep1('shown')), 'sync-step-2 sync-step-1 ack');
        assert.equal(await asked(step2Of('shown', writing('x'))), 'sync-done ack');
        const denied = await raw.ask(updateOf('shown', writing('x')));
        assert.deepEqual(denied.words, ['auth-message', 'ack']);
        assert.equal(denied.frames[0].reason, 'Insufficient permissions to access document shown');
        assert.equal(denied.frames[0].document, 'shown');
        assert.equal(await asked(updateOf('shown', writing('y'))), 'ack', 'told once');
        for (const method of ['milestoneCreate', 'milestoneUpdateName', 'milestoneDelete', 'milestoneRestore', 'fileUpload', 'keysSet', 'keysRevoke', 'keysRotate'])
            assert.equal(await asked(call('shown', method)), 'rpc 403 ack', method);
        const stream = await raw.ask(call('shown', 'fileUpload', 1));
        assert.equal(stream.frames[0].requestId, 'deadbeef');
        assert.equal(stream.frames[0].details, 'Permission denied');
        assert.notEqual(await asked(call('shown', 'milestoneList')), 'rpc 403 ack');
        assert.equal(await asked(awarenessOf('closed')), 'ack');
        assert.equal(await asked(updateOf('closed', writing('x'))), 'auth-message ack');
        assert.equal(await asked(updateOf('closed', writing('y'))), 'ack', 'told once');
        assert.equal(await asked({ type: 'doc', kind: 'auth-message', document: 'shown', permission: 1, reason: '' }), 'ack');
        assert.equal(await asked({ type: 'doc', kind: 'sync-step-1', document: '', vector: new Uint8Array([0]) }), 'nack:document-required');
    });

    await suite.test('what a reader says changes nothing, whatever it says', async () => {
        const writer = await written('untouched');
        await writer.settle();
        const raw = await open(as('reader', { untouched: 'read' }));
        await raw.ask(syncStep1('untouched'));
        for (const message of [updateOf('untouched', writing('intruder')), step2Of('untouched', writing('intruder'))]) await raw.ask(message);
        assert.deepEqual((await writer.settle()).map(word), []);
        const text = client(as('late', { '*': 'read' })).open('untouched');
        await text.synced();
        assert.equal(text.doc.getText('text').toString(), 'secret');
    });

    await suite.test('who may write but not read has its updates saved, and hears of nothing', async () => {
        const writer = await written('dropbox');
        await writer.settle();
        const blind = await open(as('blind', { dropbox: 'write' }));
        assert.deepEqual((await blind.ask(syncStep1('dropbox'))).words, ['auth-message', 'ack']);
        assert.deepEqual((await blind.ask(updateOf('dropbox', writing('from outside')))).words, ['ack']);
        assert.deepEqual((await writer.settle()).map(word), ['update']);
        await writer.ask(updateOf('dropbox', writing('inside')));
        assert.deepEqual((await blind.settle()).map(word), []);
    });

    await suite.test('a read-only Teleportal client syncs, sees edits, and falls silent when it tries to write', async () => {
        const writer = client(as('writer', { '*': 'read write' })).open('shared');
        await writer.synced();
        writer.doc.getText('text').insert(0, 'hello');
        const connection = client(as('reader', { '*': 'read' }));
        const reader = connection.open('shared');
        await reader.synced();
        await until(() => reader.doc.getText('text').toString() === 'hello', 'the text');
        reader.doc.getText('text').insert(0, 'mine ');
        await until(() => reader.denied, 'to be told');
        const before = connection.counts.frames;
        await sleep(5000);
        assert.ok(connection.counts.frames - before <= 4, `${connection.counts.frames - before} frames in 5 s`);
        assert.equal(connection.counts.nacks, 0);
        assert.equal(writer.doc.getText('text').toString(), 'hello');
        assert.equal(connection.failure, null);
    });

    await suite.test('a client without any right to a document hears so once, and does not loop for 5 s', async () => {
        const connection = client(as('stranger', { 'mine/*': 'admin' }));
        const document = connection.open('not-mine');
        await until(() => document.denied, 'to be told');
        document.doc.getText('text').insert(0, 'x');
        await sleep(300);
        const before = connection.counts.frames;
        await sleep(5000);
        assert.ok(connection.counts.frames - before <= 4, `${connection.counts.frames - before} frames in 5 s`);
        assert.ok(connection.counts.frames < 20);
        assert.equal(connection.inFlight.size, 0, 'nothing waits for an answer');
        const mine = connection.open('mine/1');
        await mine.synced();
    });

    await suite.test('y-websocket: documents that may not be read are refused at the upgrade, and clients back off', async () => {
        const made = token({ access: { 'org/*': 'read write', '!org/secret': '' } });
        assert.equal(await upgrade(withToken(`${server.yjs}/org/a`, made)), 101);
        assert.equal(await upgrade(withToken(`${server.yjs}/org/secret`, made)), 403);
        assert.equal(await upgrade(withToken(`${server.yjs}/else`, made)), 403);
        assert.equal(await upgrade(withToken(`${server.yjs}/org/a`, token({ access: { '*': 'write' } }))), 403);
        for (const version of y.VERSIONS) {
            const one = yclient('else', made, { version });
            let attempts = 0;
            one.provider.on('connection-error', () => attempts++);
            await sleep(2000);
            assert.ok(attempts >= 1 && attempts <= 8, `${attempts} attempts of ${version} in 2 s`);
            assert.equal(one.connections, 0);
        }
    });

    await suite.test('y-websocket on a path of its own: refused when it speaks, and from then on at the upgrade', async () => {
        const url = withToken(`${server.http.replace('http', 'ws')}/hidden`, token({ access: { '*': 'read', '!hidden': '' } }));
        const codes = [];
        for (let i = 0; i < 3 * cores + 3; i++) {
            const status = await upgrade(url);
            if (status !== 101) {
                codes.push(status);
                continue;
            }
            const raw = await Raw.open(url).catch(error => ({ refused: error.status }));
            if (raw.refused) { codes.push(raw.refused); continue; }
            raw.send(y.step1());
            codes.push((await raw.close()).code);
        }
        assert.ok(codes.filter(code => code === 4403).length <= cores, `at most once per core: ${codes}`);
        assert.ok(codes.includes(403), `${codes}`);
    });

    await suite.test('y-websocket: read-only clients of every version sync, are told, and change nothing', async () => {
        const writer = yclient('notes', token({ user: 'w', access: { notes: 'read write' } }));
        await writer.synced();
        writer.doc.getText('text').insert(0, 'hello');
        for (const version of y.VERSIONS) {
            const reader = yclient('notes', token({ user: 'r', access: { notes: 'read' } }), { version });
            await reader.synced();
            await until(() => reader.doc.getText('text').toString() === 'hello', 'the text');
            reader.doc.getText('text').insert(0, 'mine ');
            reader.awareness.setLocalStateField('name', version);
            await until(() => writer.sees(reader.id)?.name === version, 'awareness of a reader');
            assert.equal(writer.doc.getText('text').toString(), 'hello');
            assert.equal(reader.connections, 1);
        }
        const raw = await Raw.open(withToken(`${server.yjs}/notes`, token({ access: { notes: 'read' } })));
        suite.after(() => raw.cut());
        const told = y.decode(await raw.find(y.is(y.AUTH)));
        assert.equal(told.reason, 'read-only');
    });

    // ---- rooms and users ----------------------------------------------------------------------------

    await suite.test('room a/b with document c is not room a with document b/c', async () => {
        const one = await open(as('one', { '*': 'admin' }, { room: 'a/b' }));
        const two = await open(as('two', { '*': 'admin' }, { room: 'a' }));
        const three = await open(as('three', { '*': 'admin' }, { room: '' }));
        await two.ask(syncStep1('b/c'));
        await three.ask(syncStep1('a/b/c'));
        await one.ask(updateOf('c', writing('of room a/b')));
        await one.ask(announce('c', 1));
        assert.deepEqual((await two.settle()).map(word), []);
        assert.deepEqual((await three.settle()).map(word), []);
        const same = client(as('same', { c: 'read' }, { room: 'a/b' })).open('c');
        await same.synced();
        assert.equal(same.doc.getText('text').toString(), 'of room a/b');
        const other = client(as('other', { 'b/c': 'read' }, { room: 'a' })).open('b/c');
        await other.synced();
        assert.equal(other.doc.getText('text').toString(), '');
    });

    await suite.test('clients of one room and of both dialects meet, on any core', async () => {
        for (let i = 0; i < 6; i++) {
            const name = `meeting ${i}`;
            const t = client(as('t', { '*': 'read write' }, { room: 'club' })).open(name);
            const w = yclient(encodeURIComponent(name), token({ user: 'w', room: 'club', access: { '*': 'read write' } }));
            const outside = yclient(encodeURIComponent(name), token({ user: 'o', room: 'else', access: { '*': 'read write' } }));
            await Promise.all([t.synced(), w.synced(), outside.synced()]);
            t.doc.getText('text').insert(0, 'from t ');
            w.doc.getText('text').insert(0, 'from w ');
            await until(() => t.doc.getText('text').toString().length === 14 && t.doc.getText('text').toString() === w.doc.getText('text').toString(), 'both texts');
            assert.equal(outside.doc.getText('text').toString(), '');
        }
    });

    await suite.test('one connection holds many documents with different rights, on all cores', async () => {
        const raw = await open(as('mixed', { 'r/*': 'read', 'w/*': 'read write', '!w/no*': '' }));
        for (let i = 0; i < 20; i++) {
            assert.deepEqual((await raw.ask(updateOf(`r/${i}`, writing('x')))).words, ['auth-message', 'ack']);
            assert.deepEqual((await raw.ask(updateOf(`w/${i}`, writing('x')))).words, ['ack']);
            assert.deepEqual((await raw.ask(updateOf(`w/no${i}`, writing('x')))).words, ['auth-message', 'ack']);
            assert.deepEqual((await raw.ask(syncStep1(`r/${i}`))).words, ['sync-step-2', 'sync-step-1', 'ack']);
        }
    });

    await suite.test('presence says the user of the token, whoever announces', async () => {
        const ann = await open(as('ann', { '*': 'read' }));
        const ben = await open(as('бен 🚀', { '*': 'read' }));
        await ann.ask(announce('who', 1));
        const seen = (await ben.ask(announce('who', 2))).frames.filter(frame => frame.kind === 'join');
        assert.deepEqual(seen.map(frame => frame.userId).sort(), ['ann', 'бен 🚀']);
    });

    // ---- logs ---------------------------------------------------------------------------------------

    await suite.test('no token, and no part of one, is in the log of all this', async () => {
        assert.ok(tokens.length > 100);
        const log = server.stderr;
        for (const made of tokens)
            for (const part of made.split('.')) if (part.length > 16) assert.ok(!log.includes(part), 'a token is in the log');
        assert.ok(!/eyJ/.test(log), 'something like a token is in the log');
        server.checkAlive();
    });
    await server.stop();

    // ---- the end of a token -------------------------------------------------------------------------

    const short = async (config, body) => {
        const one = await start({ cores, config: { ...file.config, ...config } });
        try {
            await body(one);
        } finally {
            for (const cleanup of suite.cleanups.splice(0).reverse()) await cleanup();
            await one.stop();
        }
    };

    await suite.test('token_expiry = close: a connection ends with its token, with a code to come back', () =>
        short({}, async one => {
            const life = 1.2 * patience;
            const made = key.token({ expiresIn: life });
            const began = Date.now();
            const t = await TRaw.open(withToken(one.teleportal, made));
            const w = await Raw.open(withToken(`${one.yjs}/d`, made));
            assert.deepEqual((await t.ask(updateOf('d', writing('before')))).words, ['ack']);
            const closed = await t.close(8000);
            const took = (Date.now() - began) / 1000;
            assert.deepEqual(closed, { code: 4503, reason: 'token expired' });
            assert.deepEqual(await w.close(2000), { code: 4503, reason: 'token expired' });
            assert.ok(took >= life - 0.01 && took < life + 1, `after ${took} s of ${life}`);
            assert.equal(await upgrade(withToken(one.teleportal, made)), 401);
            // A client that gets a fresh token for each attempt goes on.
            const client = new y.YClient(one.yjs, 'd', { params: { token: key.token({ expiresIn: 1.5 * patience }) } });
            suite.after(() => client.destroy());
            client.provider.on('status', ({ status }) => {
                if (status === 'disconnected') client.provider.params.token = key.token();
            });
            await client.synced();
            await until(() => client.connections === 2 && client.provider.synced, 'to come back');
            assert.equal(client.doc.getText('text').toString(), 'before');
        }));

    await suite.test('token_expiry = read-only: what was open goes on, for reading, and everyone is told', () =>
        short({ token_expiry: 'read-only' }, async one => {
            const life = 1.5 * patience;
            const made = key.token({ expiresIn: life, user: 'short' });
            const writer = await TRaw.open(withToken(one.teleportal, key.token()));
            const t = await TRaw.open(withToken(one.teleportal, made));
            const w = await Raw.open(withToken(`${one.yjs}/a`, made));
            suite.after(() => [writer, t].forEach(raw => raw.cut()) ?? w.cut());
            for (const document of ['a', 'b', 'c', 'd']) assert.deepEqual((await t.ask(updateOf(document, writing('before')))).words, ['ack']);
            await writer.ask(syncStep1('a'));
            const told = [];
            while (told.length < 4) {
                const frame = await t.next(8000);
                if (word(frame) === 'auth-message') told.push(frame);
            }
            assert.deepEqual(told.map(frame => [frame.document, frame.reason]).sort(), ['a', 'b', 'c', 'd'].map(name => [name, 'token expired']));
            assert.equal(y.decode(await w.find(y.is(y.AUTH))).reason, 'token expired');
            await writer.settle();
            for (const document of ['a', 'b', 'c', 'd']) assert.deepEqual((await t.ask(updateOf(document, writing('after')))).words, ['ack']);
            assert.deepEqual((await t.ask(syncStep1('new one'))).words, ['auth-message', 'ack']);
            w.send(y.update(Y.encodeStateAsUpdate(new Y.Doc({}))));
            assert.deepEqual((await writer.settle()).map(word), []);
            await writer.ask(updateOf('a', writing('news')));
            assert.deepEqual((await t.settle()).map(word), ['update']);
            assert.equal(y.decode(await w.find(y.is(y.SYNC, y.UPDATE))).sub, y.UPDATE);
        }));

    await suite.test('a leeway lets tokens live that much longer, and begin that much earlier', () =>
        short({ jwt_leeway_seconds: 30 }, async one => {
            assert.equal(await upgrade(withToken(one.teleportal, key.token({ expiresIn: -20 }))), 101);
            assert.equal(await upgrade(withToken(one.teleportal, key.token({ expiresIn: -40 }))), 401);
            assert.equal(await upgrade(withToken(one.teleportal, key.token({ nbf: Date.now() / 1000 + 20 }))), 101);
        }));

    // ---- keys ---------------------------------------------------------------------------------------

    await suite.test('SIGHUP reads the keys again, keeps connections, and keeps the old keys when the file is broken', async () => {
        const old = new Key('ES256', 'old'), next = new Key('EdDSA', 'next');
        const changing = keyFile([old]);
        await (async () => {
            const one = await start({ cores, config: changing.config });
            suite.after(() => one.stop());
            const enter = signer => upgrade(withToken(one.teleportal, signer.token()));
            const stays = await TRaw.open(withToken(one.teleportal, old.token()));
            suite.after(() => stays.cut());
            assert.deepEqual([await enter(old), await enter(next)], [101, 401]);

            changing.write([old, next]);
            one.signal('SIGHUP');
            await until(() => one.stderr.includes('keys reloaded'), 'the line that says so');
            await until(async () => (await enter(next)) === 101, 'the next key');
            assert.equal(await enter(old), 101);

            fs.writeFileSync(changing.file, '{"keys": [broken');
            one.signal('SIGHUP');
            await until(() => one.stderr.includes('keys not reloaded'), 'the line that says so');
            assert.deepEqual([await enter(old), await enter(next)], [101, 101]);

            changing.write([next]);
            one.signal('SIGHUP');
            await until(async () => (await enter(old)) === 401, 'the old key to go');
            assert.equal(await enter(next), 101);
            assert.deepEqual((await stays.ask(syncStep1('d'))).words, ['sync-step-2', 'sync-step-1', 'ack'], 'who was in stays');
        })();
    });

    await suite.test('secrets come from files and the command line, several at once', async () => {
        const one = new Key('HS256'), two = new Key('HS256');
        const dir = temporaryDirectory('secrets');
        one.secret = Buffer.from('0123456789abcdef0123456789abcdef');
        two.secret = crypto.randomBytes(48);
        fs.writeFileSync(path.join(dir, 'one'), `${one.secret}\n`);
        fs.writeFileSync(path.join(dir, 'two'), two.secret);
        const server = await start({ cores, extra: ['--auth', 'jwt', '--jwt-secret-file', `${dir}/one, ${dir}/two`, '--jwks-file', keyFile([keys.ES256]).file, '--jwt-issuer', ''] });
        suite.after(() => server.stop());
        for (const signer of [one, two, keys.ES256]) {
            assert.equal(await upgrade(withToken(server.teleportal, signer.token())), 101);
            assert.equal(await upgrade(withToken(server.teleportal, signer.token({ iss: 'anyone' }))), 101);
        }
        assert.equal(await upgrade(withToken(server.teleportal, new Key('HS256').token())), 401);
        assert.equal(await upgrade(withToken(server.teleportal, Object.assign(new Key('HS512'), { secret: two.secret }).token())), 401, 'a bare secret is for HS256');
    });

    await suite.test('a server without the keys that it needs does not start, and says why without telling them', async () => {
        const at = async config => runToEnd(commandLine({ port: await freePort(), data: temporaryDirectory(), config: { auth: 'jwt', ...config } }));
        const bad = path.join(temporaryDirectory('bad'), 'keys');
        fs.writeFileSync(bad, 'sesame-open');
        for (const [config, words] of [
            [{}, /auth = jwt needs keys/],
            [{ jwt_secret_file: `${bad}-none` }, /cannot be read: No such file/],
            [{ jwks_file: bad }, /is no JSON Web Key Set: it is no JSON/],
        ]) {
            const { code, stderr } = await at(config);
            assert.ok(code === 1 || code === 2, `exit ${code}`);
            assert.match(stderr, words);
            assert.ok(!stderr.includes('sesame'));
        }
    });

    // ---- rates --------------------------------------------------------------------------------------

    const numbered = (document, count) => {
        const doc = new Y.Doc();
        return Array.from({ length: count }, (_, i) => updateOf(document, writing(`${i} `, doc)));
    };

    await suite.test('above its rate a Teleportal client is held, then told when to come again, and loses nothing', () =>
        short({ rate_limits: 'sync:user:10/1000', rate_max_delay_ms: 150 }, async one => {
            const raw = await TRaw.open(withToken(one.teleportal, key.token({ user: 'fast' })));
            suite.after(() => raw.cut());
            const said = new Map(numbered('d', 40).map(message => [raw.say(message), message]));
            let again = 0;
            const began = Date.now();
            for (const left = new Set(said.keys()); left.size > 0; ) {
                const frame = await raw.next(20_000);
                if (frame.type !== 'ack') continue;
                if (frame.retryAfter === undefined) {
                    left.delete(frame.messageId);
                    continue;
                }
                assert.equal(frame.error, undefined);
                assert.ok(frame.retryAfter >= 1 && frame.retryAfter <= 1000, `${frame.retryAfter} ms`);
                again++;
                setTimeout(() => raw.say(said.get(frame.messageId)), frame.retryAfter);
            }
            const took = Date.now() - began;
            assert.ok(took >= 2800, `40 messages at 10 and 10 a second in ${took} ms`);
            const status = JSON.parse((await request(`${one.http}/status`)).body);
            assert.equal(status.rateLimitExceededTotal, again);
            const reader = client(withToken(one.teleportal, key.token({ user: 'reader' }))).open('d');
            await reader.synced();
            assert.equal(reader.doc.getText('text').toString(), Array.from({ length: 40 }, (_, i) => `${i} `).join(''));
        }));

    await suite.test('one user has one budget for all connections of a document; other users, and whom the operator trusts, have theirs', () =>
        short({ rate_limits: 'sync:user:5/60000', rate_max_delay_ms: 0, rate_unlimited_users: 'robot-*' }, async one => {
            const enter = async user => {
                const raw = await TRaw.open(withToken(one.teleportal, key.token({ user })));
                suite.after(() => raw.cut());
                return raw;
            };
            const [a, b, other, robot] = [await enter('ann'), await enter('ann'), await enter('ben'), await enter('robot-7')];
            const said = [];
            for (const [i, message] of numbered('d', 10).entries()) said.push((await (i % 2 ? a : b).ask(message)).words.at(-1));
            assert.deepEqual(said, [...Array(5).fill('ack'), ...Array(5).fill('retry')]);
            assert.deepEqual((await other.ask(syncStep1('d'))).words, ['sync-step-2', 'sync-step-1', 'ack']);
            for (const message of numbered('d', 30)) assert.deepEqual((await robot.ask(message)).words, ['ack']);
            await a.settle(); // pings are answered all the same
        }));

    await suite.test('a document has its own budget, which who may not write there cannot use up', () =>
        short({ rate_limits: 'sync:document:5/60000,sync:user:100/1000', rate_max_delay_ms: 0 }, async one => {
            const enter = async (user, access) => {
                const raw = await TRaw.open(withToken(one.teleportal, key.token({ user, access })));
                suite.after(() => raw.cut());
                return raw;
            };
            const outsider = await enter('out', { d: 'read', x: 'admin' });
            for (const message of numbered('d', 20)) assert.equal((await outsider.ask(message)).words.at(-1), 'ack');
            const writer = await enter('in', { '*': 'admin' });
            const words = [];
            for (const message of numbered('d', 7)) words.push((await writer.ask(message)).words.at(-1));
            assert.deepEqual(words, [...Array(5).fill('ack'), 'retry', 'retry']);
            assert.deepEqual((await writer.ask(updateOf('e', writing('x')))).words, ['ack']);
        }));

    await suite.test('y-websocket clients above the rate are slowed down, and lose nothing', () =>
        short({ auth: 'anonymous', rate_limits: 'sync:user:20/1000, awareness:user:20/1000' }, async one => {
            const fast = new y.YClient(one.yjs, 'd'), reader = new y.YClient(one.yjs, 'd');
            suite.after(() => [fast, reader].forEach(client => client.destroy()));
            await Promise.all([fast.synced(), reader.synced()]);
            const began = Date.now();
            for (let i = 0; i < 60; i++) fast.doc.getText('text').insert(fast.doc.getText('text').length, `${i} `);
            await until(() => reader.doc.getText('text').toString() === fast.doc.getText('text').toString(), 'all of it');
            assert.ok(Date.now() - began >= 1800, `60 updates at 20 and 20 a second in ${Date.now() - began} ms`);
            assert.equal(fast.connections, 1);
        }));

    await suite.test('over HTTP: tokens and rights are asked for, and a message held back is awaited once and acknowledged once', () =>
        short({ rate_limits: 'sync:user:10/1000', rate_max_delay_ms: 300 }, async one => {
            const made = key.token({ user: 'http', access: { d: 'read write' } });
            const answer = async (messages, given = made) => {
                const { status, body } = await post(withToken(`${one.http}/message`, given), arrayOf(messages.map(encode)));
                return { status, words: status === 200 ? framesOf(body).map(decode).map(word) : [] };
            };
            assert.equal((await answer([syncStep1('d')], 'nonsense')).status, 401);
            assert.deepEqual((await answer([syncStep1('e'), awarenessOf('e')])).words, ['auth-message', 'ack', 'ack']);

            assert.equal((await request(`${one.http}/sse`)).status, 401);
            assert.equal((await request(withToken(`${one.http}/sse`, made) + '&documents=e:plaintext')).status, 403);
            const events = await Events.open(withToken(`${one.http}/sse`, made) + '&documents=d:plaintext');
            suite.after(() => events.cut());
            const id = await events.clientId();
            const say = (messages, given = made) =>
                post(withToken(`${one.http}/sse`, given), arrayOf(messages.map(encode)), { headers: { 'x-teleportal-client-id': id } });
            assert.equal((await say([syncStep1('d')], key.token({ user: 'thief' }))).status, 404);
            const messages = numbered('d', 13);
            assert.equal((await say(messages)).status, 200);
            const acks = events.list.filter(({ event }) => event === 'message').map(frameOf);
            assert.deepEqual(acks.map(ack => ack.messageId), messages.map(message => messageId(encode(message))));
            assert.ok(acks.every(ack => ack.retryAfter === undefined && ack.error === undefined), 'held for less than 300 ms each');
        }));

    await suite.test('with the limits that are on by default, people do not notice them', () =>
        short({ rate_limits: 'sync:user:300/1000, awareness:user:120/1000, file:user:5000/1000' }, async one => {
            const connections = ['ann', 'ben'].map(user => client(withToken(one.teleportal, key.token({ user }))));
            const documents = connections.map(connection => connection.open('d'));
            await Promise.all(documents.map(document => document.synced()));
            for (let i = 0; i < 100; i++) {
                documents[i % 2].doc.getText('text').insert(0, 'x');
                documents[i % 2].awareness.setLocalStateField('cursor', i);
                await sleep(10);
            }
            await until(() => documents.every(document => document.isSaved && document.doc.getText('text').length === 100), 'both texts');
            assert.deepEqual(connections.map(connection => connection.counts.nacks), [0, 0]);
        }));

    await suite.test('auth = anonymous asks nobody for anything', async () => {
        const server = await start({ cores });
        suite.after(() => server.stop());
        const raw = await TRaw.open(withToken(server.teleportal, 'whatever'));
        suite.after(() => raw.cut());
        assert.deepEqual((await raw.ask(updateOf('d', writing('x')))).words, ['ack']);
        server.signal('SIGHUP');
        await until(() => server.stderr.includes('nothing to reload'), 'the line that says so');
        server.checkAlive();
    });
};

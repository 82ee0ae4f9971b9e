// documents.mjs - documents as resources of the management API: looking, listing, deleting; and what
// becomes of clients that come back with what was deleted.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import * as Y from 'yjs';
import { request, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw } from './raw.mjs';
import { TeleportalConnection, envelope, openEnvelope } from './teleportal-client.mjs';
import { TRaw, syncStep1, updateOf, writing } from './traw.mjs';
import { Key, keyFile, withToken } from './tokens.mjs';
import * as y from './yclient.mjs';

const at = (name, room) => `/v1/docs/${encodeURIComponent(name)}${room === undefined ? '' : `?room=${encodeURIComponent(room)}`}`;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const DELETED = 'this document was deleted';

export default async suite => {
    const { cores } = suite.options;
    const config = { admin: '127.0.0.1:0' };
    let server = await start({ cores, config });
    let names = 0;
    const fresh = label => `${label}/${names++}`;

    const joinY = (name, options = {}) => {
        const client = new y.YClient(server.yjs, encodeURIComponent(name), options);
        suite.after(() => client.destroy());
        return client;
    };
    const joinT = (name, options) => {
        const connection = new TeleportalConnection(server.teleportal);
        suite.after(() => connection.destroy());
        return connection.open(name, options);
    };
    const openT = async (url = server.teleportal) => {
        const raw = await TRaw.open(url);
        suite.after(() => raw.cut());
        return raw;
    };
    const openY = async name => {
        const raw = await Raw.open(`${server.yjs}/${encodeURIComponent(name)}`);
        suite.after(() => raw.cut());
        return raw;
    };
    /** A document with `text` in it, and nobody there. Resolves to the author's Y.Doc. */
    const make = async (name, text = 'x', url) => {
        const raw = await openT(url), doc = new Y.Doc();
        await raw.ask(updateOf(name, writing(text, doc)));
        raw.cut();
        return doc;
    };
    const textOf = doc => doc.getText('text').toString();
    const look = async name => (await server.manage('GET', at(name)));
    /** The text of a newcomer. */
    const read = async name => {
        const raw = await openT(), doc = new Y.Doc();
        const { frames } = await raw.ask(syncStep1(name));
        const structure = openEnvelope(frames[0].body);
        if (structure.length > 0) Y.applyUpdateV2(doc, structure);
        raw.cut();
        return doc;
    };

    // ---- looking ----------------------------------------------------------------------------------
    await suite.test('a document tells when it was made and changed, its size, its updates, and who has it open', async () => {
        const name = fresh('org/näme %?');
        const before = Date.now();
        assert.equal((await look(name)).status, 404);
        await make(name, 'hello');
        const raw = await openT();
        await raw.ask(updateOf(name, writing(' again')));
        const { status, json } = await look(name);
        assert.equal(status, 200);
        assert.deepEqual(Object.keys(json).sort(), ['clients', 'createdAt', 'document', 'encrypted', 'epoch', 'open', 'room', 'sizeBytes', 'updatedAt', 'updates']);
        const { createdAt, updatedAt, sizeBytes, ...rest } = json;
        assert.deepEqual(rest, { document: name, room: '', epoch: 0, encrypted: false, updates: 2, open: true, clients: 1 });
        assert.match(createdAt, ISO);
        assert.ok(Date.parse(createdAt) >= before - 1 && Date.parse(updatedAt) >= Date.parse(createdAt) && Date.parse(updatedAt) <= Date.now() + 1);
        assert.ok(sizeBytes > 40 && sizeBytes < 400, `${sizeBytes} bytes`);
        assert.equal((await server.manage('HEAD', at(name))).status, 200);
        raw.cut();
        await until(async () => (await look(name)).json.clients === 0, 'nobody there');
    });

    await suite.test('a room is part of the name, in whatever way it is written, and no slash runs two of them together', async () => {
        const key = new Key('HS256'), token = 'a-management-token';
        const file = path.join(temporaryDirectory('admin'), 'token');
        fs.writeFileSync(file, token);
        const one = await start({ cores, config: keyFile([key], { ...config, admin_token_file: file }).config });
        suite.after(() => one.stop());
        const ask = (method, where) => one.manage(method, where, { headers: { authorization: `Bearer ${token}` } });
        const places = [['a b+/c', 'd/e'], ['a', 'b/c'], ['a/b', 'c'], ['', 'a/b/c']];
        for (const [room, name] of places) await make(name, 'x', withToken(one.teleportal, key.token({ room })));
        for (const [room, name] of places) {
            for (const query of [`room=${encodeURIComponent(room)}`, new URLSearchParams({ room })]) {
                const { json } = await ask('GET', `/v1/docs/${encodeURIComponent(name)}?${query}`);
                assert.deepEqual([json.room, json.document], [room, name]);
            }
            const { json } = await ask('GET', `/v1/docs?${new URLSearchParams({ room })}`);
            assert.deepEqual(json.documents.map(d => d.document), [name]);
        }
        assert.equal((await ask('DELETE', at('b/c', 'a'))).status, 200);
        const left = await Promise.all(places.map(([room, name]) => ask('GET', at(name, room))));
        assert.deepEqual(left.map(({ status }) => status), [200, 404, 200, 200]);
    });

    await suite.test('what is no name, room, limit or cursor is 400 and says so; a bare slash is no name', async () => {
        for (const path of ['/v1/docs/a/b', '/v1/docs/', '/v1/docs/%', '/v1/docs/%zz', '/v1/docs/%00', '/v1/docs/%ff', `/v1/docs/${'x'.repeat(1025)}`,
            '/v1/docs/x?room=%00', '/v1/docs/x?room=%', `/v1/docs?room=${'r'.repeat(1025)}`, '/v1/docs?limit=0', '/v1/docs?limit=1001', '/v1/docs?limit=',
            '/v1/docs?limit=x', '/v1/docs?prefix=%f', '/v1/docs?prefix=b&cursor=a', '/v1/docs?cursor=%00']) {
            const { status, json } = await server.manage('GET', path);
            assert.equal(status, 400, path.slice(0, 40));
            assert.equal(typeof json.error, 'string');
        }
        for (const [method, path, allow] of [['PUT', '/v1/docs/x', 'GET, HEAD, DELETE'], ['DELETE', '/v1/docs', 'GET, HEAD']]) {
            const { status, headers } = await server.manage(method, path);
            assert.deepEqual([status, headers.allow], [405, allow]);
        }
        assert.equal((await server.manage('GET', '/v1/docsx')).status, 404);
        assert.equal((await request(`${server.http}/v1/docs/x`)).status, 404, 'not on the public listener');
        assert.equal((await request(`${server.http}/v1/docs/x`, { method: 'DELETE' })).status, 405);
    });

    await suite.test('a list is in order, by prefix, in pages, without what was deleted', async () => {
        const prefix = `list-${names++}/`;
        const all = [];
        for (const i of [...Array(12).keys()]) all.push(`${prefix}${String(i).padStart(2, '0')} ü`);
        for (const name of [...all, `list-${names}`, `${prefix.slice(0, -1)}0`]) await make(name);
        assert.equal((await server.manage('DELETE', at(all[3]))).status, 200);
        const left = all.filter((_, i) => i !== 3);
        const list = async query => (await server.manage('GET', `/v1/docs?${new URLSearchParams(query)}`)).json;
        const whole = await list({ prefix });
        assert.deepEqual(whole.documents.map(d => d.document), left);
        assert.deepEqual(Object.keys(whole), ['room', 'documents']);
        assert.deepEqual(Object.keys(whole.documents[0]), ['document', 'epoch', 'encrypted', 'createdAt']);
        const pages = [];
        for (let cursor; ; ) {
            const page = await list({ prefix, limit: 5, ...(cursor !== undefined && { cursor }) });
            pages.push(page.documents.map(d => d.document));
            cursor = page.cursor;
            if (cursor === undefined) break;
        }
        assert.equal(pages.length, 3);
        assert.deepEqual(pages.flat(), left);
        assert.deepEqual((await list({ prefix, room: 'elsewhere' })), { room: 'elsewhere', documents: [] });
        assert.ok((await list({})).documents.length >= left.length);
    });

    // ---- deleting ---------------------------------------------------------------------------------
    await suite.test('a deleted document is gone: for who looks, for newcomers, and after a restart', async () => {
        const name = fresh('gone');
        await make(name, 'secret');
        assert.deepEqual((await server.manage('DELETE', at(name))).json, { deleted: true });
        for (const restarted of [false, true]) {
            const { status, json } = await look(name);
            assert.deepEqual([status, json], [404, { error: 'the document was deleted', epoch: 0 }]);
            assert.equal((await server.manage('DELETE', at(name))).status, 404);
            assert.equal(textOf(await read(name)), '');
            if (restarted) break;
            const { data } = server;
            await server.stop({ keepData: true });
            server = await start({ cores, config, data });
        }
        assert.equal((await server.manage('DELETE', at('never there'))).status, 404);
    });

    for (const version of y.VERSIONS)
        await suite.test(`y-websocket ${version}: 4404 for who has it open, 4409 for who comes back with it, and a new document of the name has nothing of the old`, async () => {
            const name = fresh('old');
            const old = joinY(name, { version });
            await old.synced();
            old.doc.getText('text').insert(0, 'old');
            await until(async () => (await look(name)).json.updates === 1, 'the update at rest');
            const codes = [];
            old.provider.on('connection-close', event => event && codes.push(event.code));
            assert.equal((await server.manage('DELETE', at(name))).status, 200);
            await until(() => codes.length > 0, 'the close');
            assert.equal(codes[0], 4404);

            const next = joinY(name, { version });
            await next.synced();
            assert.equal(textOf(next.doc), '');
            next.doc.getText('text').insert(0, 'new');

            old.doc.getText('text').insert(3, ' and more'); // written while away
            old.provider.disconnect();
            old.provider.connect();
            await until(() => codes.includes(4409), () => `4409 among ${codes}`);
            const again = joinY(name, { version, doc: old.doc }); // as from an offline copy
            const closes = [];
            again.provider.on('connection-close', event => event && closes.push(event.code));
            await until(() => closes.includes(4409), () => `4409 among ${closes}`);
            old.destroy();
            again.destroy();

            assert.equal(textOf(old.doc), 'old and more', 'nothing of the new one came in');
            assert.equal(textOf(next.doc), 'new');
            assert.equal(textOf(await read(name)), 'new');
            const { json } = await look(name);
            assert.equal(json.epoch, 1);
        });

    await suite.test('Teleportal: an auth message for who has it open or comes back with it, the connection stays, and clients come to rest', async () => {
        const name = fresh('old'), other = fresh('other');
        const old = joinT(name);
        const beside = old.connection.open(other);
        await Promise.all([old.synced(), beside.synced()]);
        old.doc.getText('text').insert(0, 'old');
        await until(() => old.isSaved, 'saved');
        assert.equal((await server.manage('DELETE', at(name))).status, 200);
        await until(() => old.denied, 'the auth message');
        assert.equal(old.denied, DELETED);

        const next = joinT(name);
        await next.synced();
        assert.equal(textOf(next.doc), '');
        next.doc.getText('text').insert(0, 'new');
        await until(() => next.isSaved, 'saved');

        old.doc.getText('text').insert(3, ' goes on'); // still on its connection
        await until(() => old.isSaved, 'an ack, so that it rests');
        const before = old.connection.counts.frames;
        await sleep(400);
        assert.ok(old.connection.counts.frames - before <= 2, 'no loop');
        old.connection.cut(); // and comes back with all it has
        old.denied = null;
        await until(() => old.denied, 'the auth message again');
        assert.equal(old.denied, DELETED);
        assert.equal(old.connection.failure ?? null, null);

        assert.equal(textOf(old.doc), 'old goes on', 'nothing of the new one came in');
        assert.equal(textOf(await read(name)), 'new');
        beside.doc.getText('text').insert(0, 'fine');
        await until(() => beside.isSaved, 'its other document');
        assert.equal(textOf(await read(other)), 'fine');
    });

    await suite.test('the connection of a dismissed client may begin the document anew', async () => {
        const name = fresh('anew');
        const raw = await openT(), doc = new Y.Doc();
        await raw.ask(updateOf(name, writing('old', doc)));
        await server.manage('DELETE', at(name));
        await raw.next(); // the auth message
        assert.deepEqual((await raw.ask(updateOf(name, writing('old', doc)))).words, ['ack']);
        assert.deepEqual((await raw.ask(syncStep1(name))).words, ['sync-step-2', 'sync-step-1', 'ack']);
        assert.deepEqual((await raw.ask(updateOf(name, writing('new')))).words, ['ack']);
        assert.equal(textOf(await read(name)), 'new');
    });

    await suite.test('an encrypted document is deleted like any other, and its name is free for a plain one', async () => {
        const name = fresh('sealed');
        const raw = await openT();
        await raw.ask(updateOf(name, writing('sealed'), { encrypted: true }));
        assert.equal((await look(name)).json.encrypted, true);
        assert.equal((await server.manage('DELETE', at(name))).status, 200);
        const told = await raw.next();
        assert.deepEqual([told.kind, told.encrypted, told.reason], ['auth-message', true, DELETED]);
        await make(name, 'plain');
        assert.equal(textOf(await read(name)), 'plain');
        assert.equal((await look(name)).json.encrypted, false);
    });

    await suite.test('old content stays out after the next epoch has been stored and read again, and after a second deletion', async () => {
        const name = fresh('twice');
        const first = await make(name, 'first');
        await server.manage('DELETE', at(name));
        const second = await make(name, 'second');
        const { data } = server;
        await server.stop({ keepData: true });
        server = await start({ cores, config, data });
        const tries = async doc => {
            const raw = await openY(name);
            raw.send(y.step2(Y.encodeStateAsUpdate(doc)));
            return (await raw.close()).code;
        };
        assert.equal(await tries(first), 4409);
        assert.equal(textOf(await read(name)), 'second');
        await server.manage('DELETE', at(name));
        assert.equal(await tries(first), 4409);
        assert.equal(await tries(second), 4409);
        assert.equal((await look(name)).json.epoch, 1);
        await make(name, 'third');
        assert.equal(await tries(first), 4409);
        assert.equal(textOf(await read(name)), 'third');
    });

    await suite.test('many who have it open on every core, of both dialects, are told, while others go on', async () => {
        const name = fresh('crowd'), quiet = fresh('quiet');
        const raws = [], sockets = [];
        for (let i = 0; i < 30; i++) {
            const raw = await openT();
            await raw.ask(syncStep1(i % 2 ? fresh('first') : name)); // some live on another core
            await raw.ask(syncStep1(name));
            raws.push(raw);
            sockets.push(await openY(name));
        }
        await raws[0].ask(updateOf(name, writing('old')));
        const bystander = joinY(quiet);
        await bystander.synced();
        assert.equal((await server.manage('DELETE', at(name))).status, 200);
        for (const socket of sockets) assert.equal((await socket.close()).code, 4404);
        for (const raw of raws) {
            const came = await raw.settle();
            assert.equal(came.filter(m => m.kind === 'auth-message' && m.reason === DELETED).length, 1);
        }
        await make(name, 'new');
        for (const raw of raws) assert.deepEqual(await raw.settle(), [], 'nothing of the new one');
        bystander.doc.getText('text').insert(0, 'on');
        await until(async () => textOf(await read(quiet)) === 'on', 'the bystander');
        server.checkAlive();
    });

    await suite.test('clients that write while it is deleted, again and again, leave one epoch or the other, never both', async () => {
        const name = fresh('race');
        for (let round = 0; round < 12; round++) {
            const raw = await openT(), doc = new Y.Doc();
            for (let i = 0; i < 20; i++) raw.say(updateOf(name, writing(`${round}.${i} `, doc)));
            const [answer] = await Promise.all([server.manage('DELETE', at(name)), raw.settle()]);
            assert.ok([200, 404].includes(answer.status), `${answer.status}`);
            raw.cut();
            const rounds = new Set(textOf(await read(name)).split(' ').filter(Boolean).map(word => word.split('.')[0]));
            assert.ok(rounds.size <= 1, `of rounds ${[...rounds]}`);
            await server.manage('DELETE', at(name));
        }
        assert.equal(textOf(await read(name)), '');
        server.checkAlive();
    });

    // ---- sizes ------------------------------------------------------------------------------------
    await suite.test('a document warns, then takes nothing more in; who deletes may go on, and so may all others', async () => {
        const one = await start({ cores, config: { ...config, document_size_warning: '20k', document_size_limit: '40k' } });
        suite.after(() => one.stop());
        const metric = async name => Number(new RegExp(`^teleportald_${name} (\\d+)$`, 'm').exec((await one.manage('GET', '/metrics')).body)[1]);
        const doc = new Y.Doc(), raw = await openT(one.teleportal);
        const text = doc.getText('text'), changes = [];
        doc.on('updateV2', update => changes.push(update));
        const write = size => (text.insert(text.length, 'x'.repeat(size)), raw.ask(updateOf('big', envelope(changes.splice(0)[0]))));
        assert.deepEqual((await write(15_000)).words, ['ack']);
        assert.ok(!one.stderr.includes('size-warning'));
        assert.deepEqual((await write(10_000)).words, ['ack']);
        await until(() => /warn document what=size-warning room=("")? document=big size=2\d{4}\b/.test(one.stderr), () => one.stderr);
        assert.deepEqual((await write(20_000)).words, ['nack:document-too-large']);
        await until(() => /warn document what=size-limit/.test(one.stderr), 'the line');
        assert.deepEqual([await metric('documents_over_warning'), await metric('documents_over_limit')], [1, 1]);
        const status = JSON.parse((await request(`${one.http}/status`)).body);
        assert.deepEqual([status.documentsOverWarningThreshold, status.documentsOverLimit], [1, 1]);
        assert.ok(status.totalDocumentSizeBytes > 25_000 && status.totalDocumentSizeBytes < 26_000);

        const client = new y.YClient(one.yjs, 'big');
        suite.after(() => client.destroy());
        await client.synced();
        assert.equal(client.doc.getText('text').length, 25_000, 'reading is as ever');
        const codes = [];
        client.provider.on('connection-close', event => event && codes.push(event.code));
        client.doc.getText('text').insert(0, 'y'.repeat(30_000));
        await until(() => codes.length > 0, 'a close');
        assert.equal(codes[0], 4413);

        const other = new y.YClient(one.yjs, 'big', { version: '2.1.0' });
        suite.after(() => other.destroy());
        await other.synced();
        other.doc.getText('text').delete(0, 20_000);
        await until(async () => {
            const now = await openT(one.teleportal), copy = new Y.Doc();
            Y.applyUpdateV2(copy, openEnvelope((await now.ask(syncStep1('big'))).frames[0].body));
            now.cut();
            return copy.getText('text').length === 5_000;
        }, 'the deletion');
        assert.equal((await raw.ask(updateOf('small', writing('fine')))).words.at(-1), 'ack');
        assert.equal((one.stderr.match(/what=size-limit/g) ?? []).length, 1, 'said once');
    });

    await suite.test('the server under all of this is alive, and ends in order', async () => {
        server.checkAlive();
        await server.stop();
    });
};

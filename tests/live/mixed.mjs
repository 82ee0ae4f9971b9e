// mixed.mjs - y-websocket and Teleportal clients on the same documents.
//
// What the one dialect cannot say the server says for it: spec 05 section 5, spec 02 section 7, and
// the rule that the server keeps the newest awareness state of every client and knows who owns it.

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import { disagreement, edits } from './edits.mjs';
import { sleep, start, until } from './harness.mjs';
import { Raw, hex } from './raw.mjs';
import { TeleportalConnection, openEnvelope } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1, updateOf, word, writing } from './traw.mjs';
import * as y from './yclient.mjs';

const agreeing = async (clients, ms = 20_000) => {
    const docs = clients.map(client => client.doc);
    await until(() => {
        for (const { connection } of clients) if (connection?.failure) throw connection.failure;
        return disagreement(docs) === null;
    }, () => disagreement(docs), ms);
};

export default async suite => {
    const { cores } = suite.options;
    const random = suite.random;
    let server = await start({ cores });
    let names = 0;
    const fresh = label => `${label}-${names++}`;

    const joinY = (name, options = {}) => {
        const client = new y.YClient(server.yjs, name, { version: y.VERSIONS[names++ % 2], ...options });
        suite.after(() => client.destroy());
        return client;
    };
    const joinT = (name, options) => {
        const connection = new TeleportalConnection(server.teleportal);
        suite.after(() => connection.destroy());
        return connection.open(name, options);
    };
    const openY = async name => {
        const raw = await Raw.open(`${server.yjs}/${name}`);
        suite.after(() => raw.cut());
        return raw;
    };
    const openT = async () => {
        const raw = await TRaw.open(server.teleportal);
        suite.after(() => raw.cut());
        return raw;
    };
    const both = (name, count) => Array.from({ length: count }, (_, i) => (i % 2 ? joinY(name) : joinT(name)));
    const cut = client => (client.connection ?? client).cut();
    const synced = clients => Promise.all(clients.map(client => client.synced(20_000)));
    const sees = (client, id) => client.awareness.getStates().get(id);

    // ---- content ----------------------------------------------------------------------------------
    for (const [count, rounds] of [[2, 60], [10, 20], [40, 5]])
        await suite.test(`${count} clients of both kinds edit everything at once and agree`, async () => {
            const clients = both(fresh('edit'), count);
            await synced(clients);
            for (let round = 0; round < rounds; round++) {
                for (const { doc } of clients) edits(doc, random, 1 + random.below(3));
                await sleep(random.below(10));
            }
            await agreeing(clients, 60_000);
        }, { seconds: 120 });

    await suite.test('late joiners of both kinds, cut sockets and a restart: all agree', async () => {
        const name = fresh('storm');
        const clients = both(name, 6);
        await synced(clients);
        const storm = async rounds => {
            for (let round = 0; round < rounds; round++) {
                for (const { doc } of clients) edits(doc, random, 1);
                if (random.below(4) === 0) cut(random.pick(clients));
                await sleep(random.below(25));
            }
        };
        await storm(25);
        clients.push(...both(name, 4));
        await storm(25);
        await synced(clients);
        await agreeing(clients);
        const { port, data } = server;
        await server.stop({ keepData: true });
        for (const { doc } of clients) edits(doc, random, 3);
        server = Object.assign(await start({ cores, port, data }), { ownsData: true });
        await storm(10);
        await synced(clients);
        clients.push(...both(name, 2));
        await agreeing(clients, 30_000);
    }, { seconds: 120 });

    await suite.test('an update of a Teleportal client reaches y-websocket as v1, its own kind byte for byte', async () => {
        const name = fresh('bytes');
        const [a, b, c] = [await openT(), await openT(), await openY(name)];
        await b.ask(syncStep1(name));
        c.send(y.step1());
        await c.find(y.is(y.SYNC, y.STEP2));
        const message = updateOf(name, writing('grüße 🌍'));
        const id = a.say(message);
        await a.answers(id);
        const relayed = (await b.settle()).filter(frame => frame.kind === 'update');
        assert.deepEqual(relayed.map(frame => frame.id), [id]);
        const { bytes } = y.decode(await c.find(y.is(y.SYNC, y.UPDATE)));
        const copy = new Y.Doc();
        Y.applyUpdate(copy, bytes);
        assert.equal(copy.getText('text').toString(), 'grüße 🌍');
    });

    await suite.test('an update of a y-websocket client reaches Teleportal as v2 in its envelope, its own kind byte for byte', async () => {
        const name = fresh('bytes');
        const [a, b, c] = [await openY(name), await openY(name), await openT()];
        await c.ask(syncStep1(name));
        for (const raw of [a, b]) {
            raw.send(y.step1());
            await raw.find(y.is(y.SYNC, y.STEP2));
        }
        const doc = new Y.Doc();
        let made;
        doc.on('update', u => (made = y.update(u)));
        doc.getMap('map').set('key', { nested: ['🌍', 1.5] });
        a.send(made);
        assert.equal(hex(await b.find(y.is(y.SYNC, y.UPDATE))), hex(made));
        const frame = await c.next();
        assert.equal(frame.kind, 'update');
        assert.equal(frame.document, name);
        const copy = new Y.Doc();
        Y.applyUpdateV2(copy, openEnvelope(frame.body));
        assert.equal(disagreement([doc, copy]), null);
    });

    await suite.test('the first sync of each kind holds what the other wrote', async () => {
        const name = fresh('first');
        const writer = joinT(name);
        await writer.synced();
        edits(writer.doc, random, 40);
        await writer.synced();
        const second = joinY(name);
        await second.synced();
        await agreeing([writer, second]);
        edits(second.doc, random, 40);
        await agreeing([writer, second]);
        const third = joinT(name);
        await third.synced();
        await agreeing([writer, second, third]);
    });

    // ---- presence ---------------------------------------------------------------------------------
    await suite.test('cursors are seen across, changed across, and go across', async () => {
        const name = fresh('cursors');
        const clients = both(name, 4);
        await synced(clients);
        clients.forEach((client, i) => client.awareness.setLocalState({ i }));
        await until(() => clients.every(a => clients.every((b, i) => sees(a, b.id)?.i === i)), 'everybody sees everybody');
        clients.forEach((client, i) => client.awareness.setLocalState({ i: i + 10 }));
        await until(() => clients.every(a => clients.every((b, i) => sees(a, b.id)?.i === i + 10)), 'everybody sees the change');
        const [t0, y0, t1, y1] = clients;
        y1.provider.disconnect();
        t1.connection.disconnect();
        await until(() => [t0, y0].every(a => !sees(a, y1.id) && !sees(a, t1.id)), 'those that left are gone', 3000);
        assert.ok(sees(t0, y0.id) && sees(y0, t0.id));
    });

    for (const [what, make] of [['y-websocket', joinY], ['Teleportal', joinT]])
        await suite.test(`a ${what} client that is cut off is gone for both kinds within 3 s, announced or not`, async () => {
            const name = fresh('ghost');
            const watchers = [joinY(name), joinT(name), joinT(name, { presence: false })];
            const victim = make(name);
            await synced([...watchers, victim]);
            victim.awareness.setLocalState({ user: 'victim' });
            await until(() => watchers.every(w => sees(w, victim.id)), 'all see the victim');
            if (victim.provider) victim.provider.shouldConnect = false;
            else victim.connection.wanted = false;
            cut(victim);
            await until(() => watchers.every(w => !sees(w, victim.id)), () => `gone for ${watchers.map(w => !sees(w, victim.id))}`, 3000);
            await sleep(300);
            assert.ok(watchers.every(w => !sees(w, victim.id)), 'and no echo brings it back');
        });

    for (const [what, make] of [['y-websocket', joinY], ['Teleportal', joinT]])
        await suite.test(`a ${what} client that comes back after a cut is visible again for both kinds within 3 s`, async () => {
            const name = fresh('gap');
            const watchers = [joinY(name), joinT(name)];
            const victim = make(name);
            await synced([...watchers, victim]);
            victim.awareness.setLocalState({ user: 'back' });
            await until(() => watchers.every(w => sees(w, victim.id)), 'all see it');
            cut(victim);
            await until(() => watchers.every(w => !sees(w, victim.id)), 'gone', 3000);
            await until(() => watchers.every(w => sees(w, victim.id)?.user === 'back'), () => `visible for ${watchers.map(w => sees(w, victim.id)?.user)}`, 3000);
            victim.awareness.setLocalState({ user: 'changed' });
            await until(() => watchers.every(w => sees(w, victim.id)?.user === 'changed'), 'and can change its state', 3000);
        });

    await suite.test('a newcomer is told who is there: y-websocket at once, Teleportal when it asks', async () => {
        const name = fresh('newcomer');
        const [first, second] = [joinY(name), joinT(name)];
        await synced([first, second]);
        first.awareness.setLocalState({ kind: 'y' });
        second.awareness.setLocalState({ kind: 't' });
        await until(() => sees(first, second.id)?.kind && sees(second, first.id)?.kind, 'they see each other');
        const lateY = joinY(name);
        await until(() => sees(lateY, first.id)?.kind === 'y' && sees(lateY, second.id)?.kind === 't', 'a late y-websocket client sees both', 3000);
        const lateT = joinT(name);
        await lateT.synced();
        lateT.connection.send({ type: 'awareness', kind: 'awareness-request', document: name });
        await until(() => sees(lateT, first.id)?.kind === 'y' && sees(lateT, second.id)?.kind === 't', 'a late Teleportal client sees both', 3000);
    });

    await suite.test('nobody can speak for, or remove, a client of the other kind', async () => {
        const name = fresh('impersonate');
        const [first, second, watcher] = [joinY(name), joinT(name), joinY(name)];
        await synced([first, second, watcher]);
        first.awareness.setLocalState({ user: 'y' });
        second.awareness.setLocalState({ user: 't' });
        await until(() => sees(watcher, first.id)?.user && sees(watcher, second.id)?.user, 'both are seen');
        const entries = (client, clock, state) => y.awareness([{ client, clock, state }]);
        const thiefY = await openY(name);
        thiefY.send(y.step1());
        thiefY.send(entries(second.id, 1000, { user: 'thief' }));
        thiefY.send(entries(second.id, 1001, null));
        const thiefT = await openT();
        await thiefT.ask(syncStep1(name));
        for (const [clock, state] of [[1000, { user: 'thief' }], [1001, null]]) {
            // A y-websocket message is type and bytes; the bytes are what a Teleportal frame carries.
            const update = entries(first.id, clock, state).slice(2);
            assert.deepEqual((await thiefT.ask({ type: 'awareness', kind: 'awareness-update', document: name, update })).words.at(-1), 'ack');
        }
        thiefY.send(entries(4242, 1, { user: 'own' }));
        await until(() => sees(watcher, 4242)?.user === 'own', 'what was sent last has arrived');
        assert.equal(sees(watcher, first.id)?.user, 'y');
        assert.equal(sees(watcher, second.id)?.user, 't');
        assert.equal(sees(second, first.id)?.user, 'y');
        assert.equal(sees(first, second.id)?.user, 't');
    });

    await suite.test('one connection of Teleportal with several ids leaves with all of them', async () => {
        const name = fresh('tabs');
        const watcher = joinY(name);
        await watcher.synced();
        const tabs = await openT();
        await tabs.ask(syncStep1(name));
        for (const id of [71, 72]) {
            await tabs.ask(announce(name, id));
            await tabs.ask({ type: 'awareness', kind: 'awareness-update', document: name, update: y.awareness([{ client: id, clock: 1, state: { id } }]).slice(2) });
        }
        await until(() => sees(watcher, 71) && sees(watcher, 72), 'both tabs are seen');
        tabs.cut();
        await until(() => !sees(watcher, 71) && !sees(watcher, 72), 'both are gone', 3000);
    });

    await suite.test('garbage of one kind is not noticed by the other', async () => {
        const name = fresh('garbage');
        const [first, second] = [joinY(name), joinT(name)];
        await synced([first, second]);
        const badY = await openY(name);
        badY.send('00 02 06 ff ff ff ff ff ff');
        assert.equal((await badY.close()).code, 4400);
        const badT = await openT();
        assert.equal(word((await badT.ask(updateOf(name, Buffer.from('01030102030000', 'hex')))).last), 'nack:invalid-update');
        edits(first.doc, random, 5);
        edits(second.doc, random, 5);
        await agreeing([first, second]);
        assert.equal(second.connection.connections, 1);
        assert.equal(first.connections, 1);
    });

    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

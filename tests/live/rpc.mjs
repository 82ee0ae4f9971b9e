// rpc.mjs - remote calls (spec 03), driven as applications do, over WebSocket.

import assert from 'node:assert/strict';
import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import * as Y from 'yjs';
import { request, start, temporaryDirectory, until } from './harness.mjs';
import { TeleportalConnection, sealedEnvelope } from './teleportal-client.mjs';
import { Key, keyFile, withToken } from './tokens.mjs';

const text = doc => doc.getText('text').toString();
const anyOf = bytes => decoding.readAny(decoding.createDecoder(bytes));

/** {inserts, deletes}: ranges {client, from, to, ...attributes} (spec 03 section 5.1). */
const contentMap = bytes => {
    const input = decoding.createDecoder(bytes);
    const part = () => {
        const out = [], attributes = [], names = [];
        let client = 0;
        for (let clients = decoding.readVarUint(input); clients > 0; clients--) {
            client += decoding.readVarUint(input);
            let clock = 0;
            for (let ranges = decoding.readVarUint(input); ranges > 0; ranges--) {
                const range = { client, from: (clock += decoding.readVarUint(input)) };
                range.to = clock += decoding.readVarUint(input) + 1;
                for (let count = decoding.readVarUint(input); count > 0; count--) {
                    const index = decoding.readVarUint(input);
                    if (index === attributes.length) {
                        const nth = decoding.readVarUint(input);
                        if (nth === names.length) names.push(decoding.readVarString(input));
                        attributes.push([names[nth], decoding.readAny(input)]);
                    }
                    range[attributes[index][0]] = attributes[index][1];
                }
                out.push(range);
            }
        }
        return out;
    };
    const map = { inserts: part(), deletes: part() };
    assert.ok(!decoding.hasContent(input));
    return map;
};
const refused = async (promise, status, details) => {
    const error = await promise.then(() => assert.fail('was answered'), error => error);
    assert.equal(error.status, status, error.message);
    if (details !== undefined) assert.match(error.details, details);
    return error;
};

export default async suite => {
    const { cores } = suite.options;
    const key = new Key('HS256');
    const options = { cores, config: keyFile([key]).config };
    const server = await start(options);
    let names = 0;
    const fresh = label => `${label}-${names++}`;

    const connect = (user, access = { '*': 'read write' }, to = server) => {
        const connection = new TeleportalConnection(withToken(to.teleportal, key.token({ user, room: 'r1', access })));
        suite.after(() => connection.destroy());
        return connection;
    };
    const open = async (user, name, { access, to } = {}) => {
        const document = connect(user, access, to).open(name);
        await document.synced();
        return document;
    };
    const type = async (document, what, at = document.doc.getText('text').length) => {
        document.doc.getText('text').insert(at, what);
        document.flush();
        await until(() => document.isSaved, 'saved');
    };
    const snapshotOf = document => Y.encodeStateAsUpdateV2(document.doc);

    // ---- every call ---------------------------------------------------------------------------------
    await suite.test('an unknown method is 501, and a wrong type 400 that names the field', async () => {
        const alice = await open('alice', fresh('calls'));
        await refused(alice.call('fly'), 501, /^Unknown RPC method: fly$/);
        await refused(alice.call('milestoneGet'), 400, /milestoneId is missing/);
        await refused(alice.call('milestoneGet', { milestoneId: 7 }), 400, /milestoneId must be a text/);
        await refused(alice.call('milestoneCreate', { name: 'x', snapshot: 'no bytes' }), 400, /snapshot must be bytes/);
        await refused(alice.call('milestoneList', { includeDeleted: 'yes' }), 400, /includeDeleted must be true or false/);
        await refused(alice.call('milestoneList', { snapshotIds: [1] }), 400, /snapshotIds must hold texts/);
        await refused(alice.call('milestoneUpdateName', { milestoneId: 'a', name: ['b'] }), 400, /name must be a text/);
    });

    // ---- milestones ---------------------------------------------------------------------------------
    await suite.test('a milestone is made, listed, fetched, applied, renamed, deleted, restored', async () => {
        const name = fresh('milestones');
        const alice = await open('alice', name);
        await type(alice, 'one');
        const { payload: { milestone } } = await alice.call('milestoneCreate', { name: 'first', snapshot: snapshotOf(alice) });
        assert.equal(milestone.name, 'first');
        assert.equal(milestone.documentId, `r1/${name}`);
        assert.deepEqual(milestone.createdBy, { type: 'user', id: 'alice' });
        assert.ok(Math.abs(milestone.createdAt - Date.now()) < 60_000);
        assert.match(milestone.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        await type(alice, ' two');
        const second = (await alice.call('milestoneCreate', { name: undefined, snapshot: snapshotOf(alice) })).payload.milestone;
        assert.equal(second.name, 'Version 2');

        const bob = await open('bob', name);
        const list = async options => (await bob.call('milestoneList', options)).payload.milestones;
        assert.deepEqual(await list({ snapshotIds: [], includeDeleted: false }), [milestone, second]);

        const got = await bob.call('milestoneGet', { milestoneId: milestone.id });
        assert.equal(got.encrypted, false);
        assert.equal(got.payload.milestoneId, milestone.id);
        const doc = new Y.Doc();
        Y.applyUpdateV2(doc, got.payload.snapshot);
        assert.equal(text(doc), 'one');

        const renamed = (await bob.call('milestoneUpdateName', { milestoneId: milestone.id, name: 'début' })).payload.milestone;
        assert.deepEqual(renamed, { ...milestone, name: 'début' });
        assert.deepEqual((await alice.call('milestoneDelete', { milestoneId: milestone.id })).payload, { milestoneId: milestone.id });
        assert.deepEqual(await list(), [second]);
        const [deleted] = await list({ includeDeleted: true });
        assert.equal(deleted.lifecycleState, 'deleted');
        assert.ok(deleted.deletedAt >= milestone.createdAt);
        const error = await refused(bob.call('milestoneGet', { milestoneId: milestone.id }), 404, /^Milestone not found$/);
        assert.deepEqual(error.payload, { milestoneId: milestone.id });

        const restored = (await bob.call('milestoneRestore', { milestoneId: milestone.id })).payload.milestone;
        assert.equal(restored.lifecycleState, 'active');
        assert.equal(restored.deletedAt, undefined);
        assert.deepEqual((await list()).map(m => m.id), [milestone.id, second.id]);

        await alice.call('milestoneDelete', { milestoneId: milestone.id });
        await alice.call('milestoneDelete', { milestoneId: milestone.id });
        assert.deepEqual((await list({ includeDeleted: true })).map(m => m.id), [second.id]);
        await refused(bob.call('milestoneRestore', { milestoneId: milestone.id }), 404);
        await refused(bob.call('milestoneUpdateName', { milestoneId: 'nope', name: 'x' }), 404);
        await alice.call('milestoneDelete', { milestoneId: milestone.id });
    });

    await suite.test('who may only read lists and fetches, and changes nothing', async () => {
        const name = fresh('readers');
        const alice = await open('alice', name);
        await type(alice, 'text');
        const { milestone } = (await alice.call('milestoneCreate', { snapshot: snapshotOf(alice) })).payload;
        const reader = await open('reader', name, { access: { '*': 'read' } });
        assert.equal((await reader.call('milestoneList')).payload.milestones.length, 1);
        assert.equal((await reader.call('milestoneGet', { milestoneId: milestone.id })).payload.snapshot.length, snapshotOf(alice).length);
        for (const [method, fields] of [['milestoneCreate', { snapshot: snapshotOf(alice) }], ['milestoneUpdateName', { milestoneId: milestone.id, name: 'mine' }],
            ['milestoneDelete', { milestoneId: milestone.id }], ['milestoneRestore', { milestoneId: milestone.id }]])
            await refused(reader.call(method, fields), 403, /^Permission denied$/);
        assert.deepEqual((await alice.call('milestoneList')).payload.milestones, [milestone]);
    });

    await suite.test('what is no update is no snapshot, and an empty document has none', async () => {
        const name = fresh('rubbish');
        const alice = await open('alice', name);
        assert.deepEqual((await alice.call('milestoneList')).payload, { milestones: [] });
        await refused(alice.call('milestoneCreate', { snapshot: snapshotOf(alice) }), 409, /empty/);
        await type(alice, 'text');
        await refused(alice.call('milestoneCreate', { snapshot: Buffer.from('rubbish') }), 400, /snapshot is no update/);
        await refused(alice.call('milestoneCreate', { snapshot: Buffer.alloc(0) }), 400, /snapshot is no update/);
        assert.deepEqual((await alice.call('milestoneList')).payload, { milestones: [] });
    });

    await suite.test('milestones outlive the server, and a large one is checked off the core', async () => {
        const data = temporaryDirectory();
        let own = await start({ ...options, data });
        suite.after(() => own.stop());
        const name = fresh('large');
        const alice = await open('alice', name, { to: own });
        await type(alice, 'x'.repeat(300_000));
        const { milestone } = (await alice.call('milestoneCreate', { name: 'large', snapshot: snapshotOf(alice) })).payload;
        alice.connection.destroy();
        await own.stop();
        own = await start({ ...options, data });
        const bob = await open('bob', name, { to: own });
        assert.deepEqual((await bob.call('milestoneList')).payload.milestones, [milestone]);
        const doc = new Y.Doc();
        Y.applyUpdateV2(doc, (await bob.call('milestoneGet', { milestoneId: milestone.id })).payload.snapshot);
        assert.equal(text(doc).length, 300_000);
    });

    await suite.test('milestones of an encrypted document are containers, and their answers say so', async () => {
        const connection = connect('alice');
        await until(() => connection.connected, 'connected');
        const name = fresh('sealed');
        const document = connection.open(name, { presence: false });
        const doc = new Y.Doc();
        doc.getText('text').insert(0, '\0\0\0');
        const body = sealedEnvelope(Y.encodeStateAsUpdateV2(doc), [Buffer.from('ciphertext')]);
        connection.send({ type: 'doc', kind: 'update', document: name, encrypted: true, body });
        await until(() => document.isSaved, 'saved');
        await refused(document.call('milestoneCreate', { snapshot: Y.encodeStateAsUpdateV2(doc) }, { encrypted: true }), 400, /container/);
        const made = await document.call('milestoneCreate', { name: 'first', snapshot: body }, { encrypted: true });
        assert.equal(made.encrypted, true);
        const got = await document.call('milestoneGet', { milestoneId: made.payload.milestone.id });
        assert.equal(got.encrypted, true);
        assert.deepEqual(Buffer.from(got.payload.snapshot), Buffer.from(body));
    });

    await suite.test('twenty are made at once, each with a number of its own', async () => {
        const alice = await open('alice', fresh('many'));
        await type(alice, 'text');
        const made = await Promise.all(Array.from({ length: 20 }, (_, i) => alice.call('milestoneCreate', { snapshot: snapshotOf(alice), nonce: i })));
        assert.deepEqual(made.map(({ payload }) => payload.milestone.name), Array.from({ length: 20 }, (_, i) => `Version ${i + 1}`));
    });

    await suite.test('automatic milestones: by count, by time, when the last one leaves; a Y.Doc can take them', async () => {
        const own = await start({ cores, config: { ...options.config, milestone_updates: 3, milestone_seconds: 1, milestone_event: 'empty', milestone_count_max: 3 } });
        suite.after(() => own.stop());
        const name = fresh('automatic');
        const alice = await open('alice', name, { to: own });
        const watcher = await open('bob', fresh('elsewhere'), { to: own });
        const list = async from => (await from.call('milestoneList')).payload.milestones;
        for (const word of ['a', 'b', 'c']) await type(alice, word);
        const [first] = await until(async () => { const all = await list(alice); return all.length === 1 && all; }, 'one by count');
        assert.equal(first.name, 'Milestone 1');
        assert.deepEqual(first.createdBy, { type: 'system', id: 'auto' });
        const doc = new Y.Doc();
        Y.applyUpdateV2(doc, (await alice.call('milestoneGet', { milestoneId: first.id })).payload.snapshot);
        assert.equal(text(doc), 'abc');

        await new Promise(resolve => setTimeout(resolve, 1100));
        await type(alice, 'd');
        await until(async () => (await list(alice)).length === 2, 'one by time');
        await type(alice, 'e');
        alice.connection.destroy();
        const bob = await open('bob', name, { to: own });
        const all = await until(async () => { const now = await list(bob); return now.length === 3 && now; }, 'one when empty');
        const last = new Y.Doc();
        Y.applyUpdateV2(last, (await bob.call('milestoneGet', { milestoneId: all[2].id })).payload.snapshot);
        assert.equal(text(last), 'abcde');

        // At the limit the oldest automatic one makes room; clients are refused.
        await refused(bob.call('milestoneCreate', { snapshot: snapshotOf(bob) }), 413);
        for (const word of ['f', 'g', 'h']) await type(bob, word);
        await until(async () => { const now = await list(bob); return now.length === 3 && now[0].id === all[1].id; }, 'the oldest made room');
        assert.equal(watcher.isSynced, true);
    });

    // ---- keys ---------------------------------------------------------------------------------------
    const wrapped = fill => Buffer.alloc(40, fill);
    const entry = (userId, fill) => ({ userId, wrappedKey: wrapped(fill) });

    await suite.test('keys are set, fetched, listed, revoked, rotated, before the document has content and after a restart', async () => {
        const data = temporaryDirectory();
        let own = await start({ ...options, data });
        suite.after(() => own.stop());
        const name = fresh('keys');
        let alice = await open('alice', name, { to: own });
        await refused(alice.call('keysGet'), 404, /^No wrapped key found for this user$/);
        assert.deepEqual((await alice.call('keysMeta')).payload, { generation: 0, userIds: [] });
        assert.deepEqual((await alice.call('keysSet', { entries: [entry('alice', 1), entry('bob', 2)] })).payload, { generation: 0 });
        const bob = await open('bob', name, { to: own });
        const eve = await open('eve', name, { to: own });
        const got = (await bob.call('keysGet')).payload;
        assert.deepEqual([Buffer.from(got.wrappedKey), got.generation], [wrapped(2), 0]);
        await refused(eve.call('keysGet'), 404);
        assert.deepEqual((await alice.call('keysSet', { entries: [entry('carol', 3), entry('bob', 4), entry('carol', 5)] })).payload, { generation: 0 });
        assert.deepEqual((await alice.call('keysMeta')).payload.userIds, ['alice', 'bob', 'carol']);
        assert.deepEqual(Buffer.from((await bob.call('keysGet')).payload.wrappedKey), wrapped(4));
        assert.deepEqual((await alice.call('keysRevoke', { userIds: ['carol', 'nobody'] })).payload, { generation: 0 });
        assert.deepEqual((await alice.call('keysMeta')).payload.userIds, ['alice', 'bob']);

        // Everybody else in the room hears of a rotation, under the name they know the document by.
        const heard = new Map([['alice', []], ['bob', []], ['eve', []]]);
        for (const [user, document] of [['alice', alice], ['bob', bob], ['eve', eve]])
            document.on('rpc', message => message.requestType === 0 && heard.get(user).push(message));
        assert.deepEqual((await alice.call('keysRotate', { entries: [entry('alice', 6)], expectedGeneration: 0 })).payload, { generation: 1 });
        await until(() => heard.get('bob').length === 1 && heard.get('eve').length === 1, 'keysRotated');
        assert.equal(heard.get('alice').length, 0);
        const told = heard.get('bob')[0];
        assert.deepEqual([told.method, told.document, told.encrypted], ['keysRotated', name, false]);
        assert.deepEqual(anyOf(told.payload), { generation: 1 });
        await refused(bob.call('keysGet'), 404);
        await refused(alice.call('keysRotate', { entries: [entry('alice', 7)], expectedGeneration: 0 }), 409,
            /^Key rotation conflict: expected generation 0, but current is 1$/);

        alice.connection.destroy();
        await own.stop();
        own = await start({ ...options, data });
        alice = await open('alice', name, { to: own });
        const kept = (await alice.call('keysGet')).payload;
        assert.deepEqual([Buffer.from(kept.wrappedKey), kept.generation], [wrapped(6), 1]);
    });

    await suite.test('who may only read gets its key and changes none; wrong types are 400', async () => {
        const name = fresh('keyring');
        const alice = await open('alice', name);
        await alice.call('keysSet', { entries: [entry('reader', 9)] });
        const reader = await open('reader', name, { access: { '*': 'read' } });
        assert.deepEqual(Buffer.from((await reader.call('keysGet')).payload.wrappedKey), wrapped(9));
        await refused(reader.call('keysSet', { entries: [entry('reader', 1)] }), 403, /^Permission denied$/);
        await refused(reader.call('keysRevoke', { userIds: ['alice'] }), 403);
        await refused(reader.call('keysRotate', { entries: [], expectedGeneration: 0 }), 403);
        await refused(alice.call('keysSet', { entries: 5 }), 400, /entries must be an array/);
        await refused(alice.call('keysSet', { entries: [1] }), 400, /entries must hold objects/);
        await refused(alice.call('keysSet', { entries: [{ userId: 'a', wrappedKey: 'text' }] }), 400, /wrappedKey must be bytes/);
        await refused(alice.call('keysSet', { entries: [entry('', 1)] }), 400, /userId is empty/);
        await refused(alice.call('keysRevoke', { userIds: [1] }), 400, /userIds must hold texts/);
        await refused(alice.call('keysRotate', { entries: [], expectedGeneration: -1 }), 400, /expectedGeneration must be a whole number/);
        assert.deepEqual((await alice.call('keysMeta')).payload, { generation: 0, userIds: ['reader'] });
    });

    await suite.test('a connection without a user has no key', async () => {
        const open = await start({ cores });
        suite.after(() => open.stop());
        const connection = new TeleportalConnection(open.teleportal);
        suite.after(() => connection.destroy());
        const document = connection.open(fresh('nobody'));
        await document.synced();
        await refused(document.call('keysGet'), 401, /^userId required in message context$/);
    });

    await suite.test('of ten rotations at once one wins', async () => {
        const documents = await Promise.all(Array.from({ length: 10 }, () => open('alice', 'rotated-at-once')));
        const results = await Promise.allSettled(documents.map((document, i) => document.call('keysRotate', { entries: [entry('alice', i)], expectedGeneration: 0 })));
        assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
        assert.deepEqual([...new Set(results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason.status))], [409]);
    });

    // ---- attribution --------------------------------------------------------------------------------
    const who = (map, part, client) => map[part].filter(range => range.client === client).map(range => [range.from, range.to, range.insert ?? range.delete]);

    for (const compacts of [false, true])
        await suite.test(`two users' interleaved edits are attributed${compacts ? ', also after compaction and a restart' : ''}`, async () => {
            const data = temporaryDirectory();
            const config = { ...options.config, compact_count: compacts ? 2 : 128, session_grace_seconds: compacts ? 0 : 60, public_metrics: 'on' };
            let own = await start({ ...options, data, config });
            suite.after(() => own.stop());
            const name = fresh('attribution');
            const alice = await open('alice', name, { to: own });
            const bob = await open('bob', name, { to: own });
            assert.deepEqual((await alice.call('attributionGet')).payload, { contentMap: null });
            assert.deepEqual((await alice.call('attributionActivity')).payload, { activity: [] });
            const began = Date.now();
            const both = () => until(() => text(alice.doc) === text(bob.doc), 'the same text');
            await type(alice, 'aaa');
            await both();
            await type(bob, 'bb', 1);
            await both();
            await type(alice, 'A', 2);
            await both();
            bob.doc.getText('text').delete(0, 1); // alice's first letter
            bob.flush();
            await until(() => bob.isSaved, 'saved');
            await both();
            let reader = alice;
            if (compacts) {
                alice.connection.destroy();
                bob.connection.destroy();
                await until(async () => /teleportald_compact_bases_total [1-9]/.test((await request(`${own.http}/metrics`)).body), 'compacted');
                await own.stop();
                own = await start({ ...options, data, config });
                reader = await open('carol', name, { to: own, access: { '*': 'read' } });
            }
            const get = async fields => contentMap((await reader.call('attributionGet', fields)).payload.contentMap);
            const map = await get();
            assert.deepEqual(who(map, 'inserts', alice.id), [[0, 3, 'alice'], [3, 4, 'alice']]);
            assert.deepEqual(who(map, 'inserts', bob.id), [[0, 2, 'bob']]);
            assert.deepEqual(who(map, 'deletes', alice.id), [[0, 1, 'bob']]);
            for (const { insertAt, deleteAt } of [...map.inserts, ...map.deletes])
                assert.ok((insertAt ?? deleteAt) >= began - 1000 && (insertAt ?? deleteAt) <= Date.now() + 1000);
            const ofBob = await get({ filter: { userId: 'bob' } });
            assert.deepEqual([ofBob.inserts.length, ofBob.deletes.length], [1, 1]);
            assert.deepEqual(await get({ filter: { to: began - 10_000 } }), { inserts: [], deletes: [] });
            assert.deepEqual(await get({ filter: { from: began - 10_000 } }), map);

            const { activity } = (await reader.call('attributionActivity')).payload;
            assert.deepEqual(activity.map(entry => entry.userId), ['alice', 'bob', 'alice', 'bob']);
            assert.deepEqual((await reader.call('attributionActivity', { userId: 'alice' })).payload.activity.every(entry => entry.userId === 'alice'), true);

            const known = encoding.encode(out => { // all of bob's inserts
                for (const number of [1, bob.id, 1, 0, 1, 0]) encoding.writeVarUint(out, number);
            });
            const rest = contentMap((await reader.call('attributionGetIncremental', { knownIds: known })).payload.contentMap);
            assert.deepEqual(who(rest, 'inserts', bob.id), []);
            assert.deepEqual(who(rest, 'deletes', alice.id), [[0, 1, 'bob']]);
            await refused(reader.call('attributionGetIncremental', { knownIds: Buffer.from([200]) }), 400, /knownIds/);
            await refused(reader.call('attributionGetIncremental'), 400, /knownIds is missing/);
            await refused(reader.call('attributionGet', { filter: { userId: 1 } }), 400, /userId must be a text/);
            await refused(reader.call('attributionActivity', { from: 'yesterday' }), 400, /from must be a number/);
        });

    await suite.test('what comes with a first sync, and from nobody, is attributed to nobody', async () => {
        const name = fresh('unattributed');
        const alice = await open('alice', name);
        alice.connection.cut();
        alice.doc.getText('text').insert(0, 'offline');
        await alice.synced();
        assert.deepEqual((await alice.call('attributionGet')).payload, { contentMap: null });
        await type(alice, '!');
        const map = contentMap((await alice.call('attributionGet')).payload.contentMap);
        assert.deepEqual(who(map, 'inserts', alice.id), [[7, 8, 'alice']]);
    });

    await suite.test('where it is wanted, attribution is pushed to the others', async () => {
        const own = await start({ cores, config: { ...options.config, attribution_push: 'on' } });
        suite.after(() => own.stop());
        const name = fresh('pushed');
        const alice = await open('alice', name, { to: own });
        const bob = await open('bob', name, { to: own });
        const pushed = { alice: [], bob: [] };
        alice.on('rpc', message => pushed.alice.push(message));
        bob.on('rpc', message => pushed.bob.push(message));
        await type(alice, 'abc');
        await until(() => pushed.bob.length === 1, 'a push');
        assert.deepEqual([pushed.bob[0].method, pushed.bob[0].requestType, pushed.bob[0].document], ['attributionPush', 2, name]);
        const map = contentMap(anyOf(pushed.bob[0].payload).contentMap);
        assert.deepEqual(who(map, 'inserts', alice.id), [[0, 3, 'alice']]);
        assert.equal(pushed.alice.length, 0);
    });
};

// bridge.mjs - several nodes behind a broker, clients of both kinds on all of them.
//
// One update is one publication, however many nodes; whatever happens to the broker, people on a
// node go on, and afterwards everybody has everything, in every node's store.

import assert from 'node:assert/strict';
import { Multicast, Nats, Redis, connected, metric, startNode } from './cluster.mjs';
import { disagreement, edits } from './edits.mjs';
import { removeDirectory, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { TeleportalConnection } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1 } from './traw.mjs';
import * as y from './yclient.mjs';

export default async suite => {
    await behind(suite, Redis);
    await behind(suite, Nats);
    await behind(suite, Multicast);
};

async function behind(suite, Broker) {
    const { cores } = suite.options;
    const random = suite.random;
    const isRedis = Broker === Redis;
    const hasBroker = Broker !== Multicast;
    const broker = await Broker.start();
    const test = (sentence, ...rest) => suite.test(`${Broker.name}: ${sentence}`, ...rest);
    const datas = [0, 1, 2].map(() => temporaryDirectory('node'));
    const nodes = [];
    for (const i of [0, 1, 2]) nodes.push(await startNode(broker, `node-${i}`, { cores, data: datas[i] }));
    let names = 0;
    const fresh = label => `${label}-${names++}`;

    const joinY = (node, name) => {
        const client = new y.YClient(node.yjs, name, { version: y.VERSIONS[names++ % 2] });
        suite.after(() => client.destroy());
        return client;
    };
    const joinT = (node, name, options) => {
        const connection = new TeleportalConnection(node.teleportal);
        suite.after(() => connection.destroy());
        return connection.open(name, options);
    };
    const join = (node, name, i) => (i % 2 ? joinY(node, name) : joinT(node, name));
    const spread = (name, count) => Array.from({ length: count }, (_, i) => join(nodes[i % 3], name, Math.floor(i / 3) + i));
    const synced = clients => Promise.all(clients.map(client => client.synced(20_000)));
    const agreeing = (clients, ms = 30_000) => {
        const docs = clients.map(client => client.doc);
        return until(() => {
            for (const { connection } of clients) if (connection?.failure) throw connection.failure;
            return disagreement(docs) === null;
        }, () => disagreement(docs), ms);
    };
    const sum = async name => (await Promise.all(nodes.map(node => metric(node, `teleportald_${name}`)))).reduce((a, b) => a + b);
    const text = client => client.doc.getText('text').toString();

    await test('clients of both kinds on three nodes edit several documents and agree', async () => {
        const documents = [0, 1, 2].map(() => spread(fresh('edit'), 6));
        for (const clients of documents) await synced(clients);
        for (let round = 0; round < 25; round++) {
            for (const clients of documents) for (const { doc } of clients) edits(doc, random, 1);
            await sleep(random.below(10));
        }
        for (const clients of documents) await agreeing(clients);
    }, { seconds: 120 });

    await test('an update is published once, and what was heard never again', async () => {
        const clients = spread(fresh('once'), 6);
        await synced(clients);
        await sleep(500); // questions of new documents
        clients[0].doc.getText('text').insert(0, 'first');
        await agreeing(clients);
        await sleep(3500); // digests
        const published = () => (isRedis ? broker.publishes() : sum('bridge_published_total'));
        const before = await published();
        for (let i = 0; i < 50; i++) {
            clients[i % 6].doc.getText('text').insert(0, `${i} `);
            await until(() => clients.every(client => text(client).includes(`${i} `)), 'all have it');
        }
        assert.equal(await published() - before, 50);
        for (const node of nodes) assert.equal(await metric(node, 'teleportald_bridge_gaps_total'), 0);
    }, { seconds: 120 });

    await test('a node hears only of documents that somebody there has open', async () => {
        const [here, there] = [fresh('here'), fresh('there')];
        const a = joinY(nodes[0], here), b = joinY(nodes[1], there);
        await synced([a, b]);
        await sleep(500);
        const before = await metric(nodes[1], 'teleportald_bridge_heard_total');
        for (let i = 0; i < 20; i++) a.doc.getText('text').insert(0, 'x');
        if (isRedis) await until(async () => (await broker.command('PUBSUB', 'NUMSUB', `document/${here}`)).includes(':1'), 'subscribed once');
        await sleep(300);
        assert.equal(await metric(nodes[1], 'teleportald_bridge_heard_total'), before);
    });

    await test('a document is what it is on the others when it is opened on one more node', async () => {
        const name = fresh('late');
        const a = joinY(nodes[0], name);
        await synced([a]);
        for (let i = 0; i < 30; i++) edits(a.doc, random, 2);
        const b = joinT(nodes[1], name), c = joinY(nodes[2], name);
        await agreeing([a, b, c]);
    });

    await test('everybody is seen from everywhere, at once by who comes, and gone at once when gone', async () => {
        const name = fresh('presence');
        const [a, b] = [joinY(nodes[0], name), joinT(nodes[1], name)];
        await synced([a, b]);
        a.awareness.setLocalState({ name: 'a' });
        b.awareness.setLocalState({ name: 'b' });
        const states = client => client.awareness.getStates();
        await until(() => states(a).get(b.doc.clientID)?.name === 'b' && states(b).get(a.doc.clientID)?.name === 'a', 'a and b see each other');
        const c = joinY(nodes[2], name);
        await until(() => states(c).get(a.doc.clientID)?.name === 'a' && states(c).get(b.doc.clientID)?.name === 'b', 'c sees both', 5000);
        a.destroy();
        await until(() => !states(b).has(a.doc.clientID) && !states(c).has(a.doc.clientID), 'a is gone', 5000);
    });

    await test('Teleportal clients are told who joins and leaves on other nodes', async () => {
        const name = fresh('roster');
        const open = async node => {
            const raw = await TRaw.open(node.teleportal);
            suite.after(() => raw.cut());
            await raw.ask(syncStep1(name));
            return raw;
        };
        const next = async (raw, kind, id) => {
            for (;;) {
                const message = await raw.next(10_000);
                if (message.type === 'presence' && message.kind === kind && message.awarenessId === id) return;
            }
        };
        const a = await open(nodes[0]), b = await open(nodes[1]);
        a.say(announce(name, 7));
        await next(a, 'join', 7);
        await sleep(200);
        b.say(announce(name, 8));
        await Promise.all([next(b, 'join', 7), next(a, 'join', 8)]);
        const c = await open(nodes[2]);
        await sleep(500);
        c.say(announce(name, 9));
        await Promise.all([next(c, 'join', 7), next(a, 'join', 9), next(b, 'join', 9)]);
        a.cut();
        await Promise.all([next(b, 'leave', 7), next(c, 'leave', 7)]);
    });

    await test('a document whose name is a wildcard of the broker is that document alone', async () => {
        const name = fresh('wild');
        const [wild, other] = [[0, 1].map(i => joinY(nodes[i], `${name}.>`)), [0, 1].map(i => joinY(nodes[i], `${name}.x`))];
        await synced([...wild, ...other]);
        wild[0].doc.getText('text').insert(0, 'wild');
        other[0].doc.getText('text').insert(0, 'other');
        await agreeing(wild);
        await agreeing(other);
        assert.deepEqual([text(wild[1]), text(other[1])], ['wild', 'other']);
        const blank = [0, 1].map(i => joinT(nodes[i], `${name} with blanks . and * ..`));
        await synced(blank);
        blank[0].doc.getText('text').insert(0, 'blank');
        await agreeing(blank);
    });

    if (hasBroker) await test('the broker is killed and comes back: nobody notices, and all agree', async () => {
        const clients = spread(fresh('kill'), 6);
        await synced(clients);
        for (const { doc } of clients) edits(doc, random, 2);
        await agreeing(clients);
        await broker.stop();
        for (let i = 0; i < 3; i++) {
            for (const { doc } of clients) edits(doc, random, 2);
            for (const at of [0, 1, 2]) await agreeing([clients[at], clients[at + 3]], 5000);
        }
        const again = await Broker.start(broker.port);
        Object.assign(broker, again);
        for (const node of nodes) await connected(node, cores);
        await agreeing(clients);
    }, { seconds: 120 });

    if (hasBroker) await test('the broker is frozen for some seconds: nobody notices, and all agree', async () => {
        const clients = spread(fresh('freeze'), 6);
        await synced(clients);
        for (const { doc } of clients) edits(doc, random, 2);
        await agreeing(clients);
        broker.signal('SIGSTOP');
        try {
            for (let i = 0; i < 20; i++) {
                for (const { doc } of clients) edits(doc, random, 1);
                await sleep(200);
            }
            for (const at of [0, 1, 2]) await agreeing([clients[at], clients[at + 3]], 5000);
        } finally {
            broker.signal('SIGCONT');
        }
        await agreeing(clients);
    }, { seconds: 120 });

    await test('a node is killed and starts again: it has what it missed', async () => {
        const name = fresh('crash');
        const clients = spread(name, 6);
        await synced(clients);
        for (const { doc } of clients) edits(doc, random, 2);
        await agreeing(clients);
        await nodes[1].crash();
        for (const i of [0, 2, 3, 5]) edits(clients[i].doc, random, 4);
        nodes[1] = await startNode(broker, 'node-1', { cores, data: datas[1], port: nodes[1].port });
        await agreeing(clients, 60_000);
    }, { seconds: 120 });

    await test('a second node with an id that is taken ends with a sentence that says so', async () => {
        await sleep(2500); // an id is had for good after two seconds
        const second = await startNode(broker, 'node-0', { cores, contact: false }).catch(error => error);
        if (!(second instanceof Error)) {
            await until(() => second.exit !== null, 'it ends');
            assert.equal(second.exit.code, 1);
            assert.match(second.stderr, /node id taken.*node-0.*another node of this cluster has it/s);
        } else {
            assert.match(second.message, /node id taken/);
        }
        for (const node of nodes) node.checkAlive();
    });

    await test('every node has stored all of it', async () => {
        const name = fresh('store');
        const clients = spread(name, 6);
        await synced(clients);
        for (let i = 0; i < 10; i++) for (const { doc } of clients) edits(doc, random, 2);
        await agreeing(clients);
        const want = clients[0].doc;
        assert.equal(await sum('bridge_refused_total'), 0);
        for (const client of clients) (client.connection ?? client).destroy();
        for (const node of nodes) await node.stop({ keepData: true });
        for (const data of datas) {
            const alone = await start({ cores, data });
            const reader = new y.YClient(alone.yjs, name);
            await reader.synced();
            assert.equal(disagreement([want, reader.doc]), null);
            reader.destroy();
            await alone.stop({ keepData: true });
        }
    }, { seconds: 120 });

    for (const node of nodes) if (!node.exit) await node.stop({ keepData: true });
    for (const data of datas) removeDirectory(data);
    await broker.stop();
}

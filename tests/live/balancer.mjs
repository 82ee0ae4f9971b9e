// balancer.mjs - three nodes behind HAProxy and nginx, configured by the files in docs/balancer with
// nothing changed but addresses. (Each balancer with one number of cores, so that the suite is short.)

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { disagreement } from './edits.mjs';
import { freePort, patience, request, root, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { SseConnection } from './sse-client.mjs';
import { TeleportalConnection } from './teleportal-client.mjs';
import { VERSIONS, YClient } from './yclient.mjs';

const KINDS = {
    haproxy: { file: 'haproxy.cfg', door: /^ {4}bind :80$/m, to: at => `    bind ${at}`, args: (dir, file) => ['-db', '-f', file] },
    nginx: { file: 'nginx.conf', door: /^ {8}listen 80;$/m, to: at => `        listen ${at};`,
        args: (dir, file) => ['-p', dir, '-c', file, '-g', `daemon off; pid ${dir}/pid; error_log stderr warn;`] },
};

async function balance(kind, nodes) {
    const { file, door, to, args } = KINDS[kind];
    const port = await freePort();
    const dir = temporaryDirectory(kind);
    let text = fs.readFileSync(path.join(root, 'docs/balancer', file), 'utf8');
    assert.match(text, door);
    text = text.replace(door, to(`127.0.0.1:${port}`)).replace(/10\.0\.0\.([123]):1234/g, (all, n) => nodes[n - 1].address);
    fs.writeFileSync(path.join(dir, file), text);
    const child = spawn(kind, args(dir, path.join(dir, file)), { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
    const ended = once(child, 'exit').catch(error => [String(error)]);
    let said = '';
    child.stderr.on('data', data => (said += data));
    const balancer = {
        port, http: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}`,
        said: () => said,
        stop: async () => (child.kill('SIGTERM'), await ended),
    };
    await until(async () => {
        if (child.exitCode !== null) throw new Error(`${kind} ended: ${said}`);
        return (await request(`${balancer.http}/livez`, { timeout: 1000 }).catch(() => ({}))).status === 200;
    }, () => `${kind} serves: ${said}`);
    return balancer;
}

export default async suite => {
    const { cores } = suite.options;
    const kind = cores === 1 ? 'nginx' : 'haproxy';
    const nodes = await Promise.all([0, 1, 2].map(() => start({ cores, config: { unready_seconds: 3, drain_seconds: 2 } })));
    const balancer = await balance(kind, nodes);
    let names = 0;
    const joinY = (name, params) => {
        const client = new YClient(`${balancer.ws}/yjs`, name, { version: VERSIONS[names++ % 2], ...(params && { params }) });
        suite.after(() => client.destroy());
        return client;
    };
    const joinT = name => {
        const connection = new TeleportalConnection(`${balancer.ws}/teleportal?document=${encodeURIComponent(name)}`);
        suite.after(() => connection.destroy());
        return connection.open(name);
    };
    const opened = async () => {
        const counts = [];
        for (const node of nodes) counts.push(JSON.parse((await request(`${node.http}/status`)).body).totalDocumentsOpened);
        return counts;
    };
    const agreeing = clients => until(() => disagreement(clients.map(c => c.doc)) === null, () => disagreement(clients.map(c => c.doc)), 20_000);

    await suite.test(`${kind}: clients of a document meet on one node, whatever they speak, and nodes share the documents`, async () => {
        const before = (await opened()).reduce((a, b) => a + b);
        const documents = Array.from({ length: 60 }, (_, i) => `shared/ü ${i}`);
        const groups = documents.map(name => [joinY(name, { document: name }), joinT(name), joinY(name, { document: name })]);
        await Promise.all(groups.flat().map(client => client.synced(20_000)));
        groups.forEach(group => group.forEach((client, i) => client.doc.getMap('m').set(`${i}`, i)));
        for (const group of groups) await agreeing(group);
        const counts = await opened();
        suite.note(`documents by node: ${counts.join(', ')}`);
        assert.equal(counts.reduce((a, b) => a + b) - before, documents.length, 'each was opened by one node');
        for (const count of counts) assert.ok(count > documents.length / 10, counts.join(', '));
        for (const client of groups.flat()) (client.connection ?? client).destroy();
    });

    await suite.test(`${kind}: y-websocket clients that name their document in the path alone meet as well`, async () => {
        const groups = Array.from({ length: 12 }, (_, i) => [joinY(`path ${i}`), joinY(`path ${i}`)]);
        await Promise.all(groups.flat().map(client => client.synced(20_000)));
        groups.forEach(group => group.forEach((client, i) => client.doc.getMap('m').set(`${i}`, i)));
        for (const group of groups) await agreeing(group);
        groups.flat().forEach(client => client.destroy());
    });

    await suite.test(`${kind}: what a client posts reaches the node that holds its event stream`, async () => {
        const clients = Array.from({ length: 6 }, () => {
            const connection = new SseConnection(balancer.http);
            suite.after(() => connection.destroy());
            return connection.open('over http');
        });
        await Promise.all(clients.map(client => client.synced(20_000)));
        for (let round = 0; round < 5; round++)
            clients.forEach((client, i) => client.doc.getText('t').insert(0, `${i}.${round} `));
        await agreeing(clients);
        for (const client of clients) assert.equal(client.connection.connections, 1, 'never had to come back');
        clients.forEach(client => client.connection.destroy());
    });

    // ---- nodes go ---------------------------------------------------------------------------------
    /** Pairs that write all the time, and a prober; resolves to what to check afterwards. */
    const load = async name => {
        const pairs = Array.from({ length: 12 }, (_, i) => [joinY(`${name}-${i}`), joinY(`${name}-${i}`)]);
        await Promise.all(pairs.flat().map(client => client.synced(20_000)));
        const agent = new http.Agent({ keepAlive: true });
        const answers = { good: 0, bad: [] };
        let writes = 0;
        const timers = [
            setInterval(() => pairs.forEach(pair => pair.forEach((client, i) => client.doc.getMap('m').set(`${i}.${writes}`, 1)), writes++), 50),
            setInterval(() => {
                const req = http.get(`${balancer.http}/livez`, { agent }, res => {
                    res.resume();
                    if (res.statusCode === 200) answers.good++;
                    else answers.bad.push(res.statusCode);
                });
                req.on('error', error => answers.bad.push(error.code));
            }, 20),
        ];
        return {
            pairs, answers,
            async end() {
                timers.forEach(clearInterval);
                await until(() => pairs.flat().every(client => client.provider.synced), 'all are back', 20_000);
                for (const pair of pairs) {
                    await agreeing(pair);
                    assert.equal(pair[0].doc.getMap('m').size, 2 * writes, 'every edit of both is there');
                }
                pairs.flat().forEach(client => client.destroy());
                agent.destroy();
                return writes;
            },
        };
    };

    await suite.test(`${kind}: a node is drained under load: no failed request, no lost edit, everybody moves within the drain time`, async () => {
        const work = await load('drain');
        const moved = () => work.pairs.flat().filter(client => client.connections > 1).length;
        await sleep(300);
        const began = Date.now();
        await nodes[0].stop({ keepData: true });
        const took = Date.now() - began;
        await until(() => work.pairs.flat().every(client => client.provider.wsconnected), 'everybody is somewhere');
        suite.note(`${moved()} clients moved; the node ended after ${took} ms, all were elsewhere after ${Date.now() - began} ms`);
        assert.ok(Date.now() - began < (5000 + 3000) * patience, 'unready, drain, and the clients\' own pause');
        const writes = await work.end();
        assert.ok(moved() === 0 || writes > 0);
        assert.deepEqual(work.answers.bad, []);
        assert.ok(work.answers.good > 50, `${work.answers.good} requests`);
    });

    await suite.test(`${kind}: a node that is killed is left out, and its documents go on elsewhere`, async () => {
        const work = await load('crash');
        await nodes[1].crash();
        await until(() => work.pairs.flat().some(client => client.connections > 1), 'those who were there are elsewhere');
        await until(() => work.pairs.flat().every(client => client.provider.wsconnected), 'everybody is somewhere');
        await work.end();
        for (let i = 0; i < 20; i++) assert.equal((await request(`${balancer.http}/readyz`)).status, 200);
    });

    await suite.test(`${kind}: the last node has nothing to complain about`, async () => {
        await nodes[2].stop();
        await balancer.stop();
    });
};

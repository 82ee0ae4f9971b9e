// replicated.mjs - CPU per replicated update: of the node that publishes, the broker, and each node
// that hears it.
//
//     node bench/replicated.mjs [--updates 20000] [--rate 4000] [--broker redis|nats] [--json FILE]
//
// One y-websocket client types on node A, which stores in memory; nodes B and C have one listener
// each. The run is made once without a bridge (nothing but A) and once with it: what A uses more is
// what publishing costs. B and C do nothing but hear, store and pass on. CPU is the scheduler's
// count over all threads, warm-up and idle time measured and taken off.

import fs from 'node:fs';
import { Nats, Redis, metric, startNode } from '../tests/live/cluster.mjs';
import { endEverything, sleep, start, until } from '../tests/live/harness.mjs';
import { Raw } from '../tests/live/raw.mjs';
import * as y from '../tests/live/yclient.mjs';
import * as Y from '../tests/live/node_modules/yjs/dist/yjs.mjs';

const options = { updates: 20000, rate: 4000, broker: 'redis', json: null };
for (let args = process.argv.slice(2); args.length > 0; args = args.slice(2)) {
    const name = args[0].replace(/^--/, '');
    if (!(name in options)) throw new Error(`no option ${args[0]}`);
    options[name] = typeof options[name] === 'number' ? Number(args[1]) : args[1];
}

const cpuNs = pid =>
    fs.readdirSync(`/proc/${pid}/task`).reduce((sum, task) => sum + Number(fs.readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]), 0);

function typing(count) {
    const doc = new Y.Doc(), updates = [];
    doc.on('update', update => updates.push(y.update(update)));
    const text = doc.getText('text');
    for (let i = 0; i < count; i++) text.insert(i, String.fromCharCode(97 + (i % 26)));
    return updates;
}

/** Sends the updates on node `a`; the CPU that each of `pids` used for it, in microseconds each. */
async function run(a, listeners, pids, updates) {
    const raw = await Raw.open(`${a.yjs}/bench`);
    for (const node of listeners) await Raw.open(`${node.yjs}/bench`);
    const accepted = async nodes => (await Promise.all(nodes.map(node => metric(node, 'teleportald_updates_accepted_total')))).every(n => n >= updates.length);
    await sleep(4000); // questions and digests of a new document
    const idle = pids.map(cpuNs), idleBegan = Date.now();
    await sleep(1000);
    const idlePerMs = pids.map((pid, i) => (cpuNs(pid) - idle[i]) / (Date.now() - idleBegan));
    const before = pids.map(cpuNs), began = Date.now();
    for (let sent = 0; sent < updates.length;) {
        const due = Math.min(updates.length, Math.ceil(((Date.now() - began + 1) * options.rate) / 1000));
        for (; sent < due; sent++) raw.send(updates[sent]);
        await sleep(1);
    }
    await until(() => accepted([a, ...listeners]), 'all is everywhere', 30_000);
    const ms = Date.now() - began;
    return pids.map((pid, i) => (cpuNs(pid) - before[i] - idlePerMs[i] * ms) / updates.length / 1000);
}

const updates = typing(options.updates);
const node = { cores: 1, durability: 'memory', config: { drain_seconds: 0 } };
const alone = await start(node);
const [base] = await run(alone, [], [alone.pid], updates);
await alone.stop();

const broker = await (options.broker === 'nats' ? Nats : Redis).start();
const nodes = [];
for (const id of ['a', 'b', 'c']) nodes.push(await startNode(broker, id, node));
const [a, redis, b, c] = await run(nodes[0], nodes.slice(1), [nodes[0].pid, broker.child.pid, nodes[1].pid, nodes[2].pid], updates);
const published = await metric(nodes[0], 'teleportald_bridge_published_total');
const others = (await metric(nodes[1], 'teleportald_bridge_published_total')) + (await metric(nodes[2], 'teleportald_bridge_published_total'));
const row = { what: 'replicated update', broker: options.broker, updates: options.updates, rate: options.rate,
    publisherUs: a - base, publisherWholeUs: a, brokerUs: redis, receiverUs: [b, c], publications: published, ofOthers: others };
for (const [name, value] of Object.entries(row)) console.log(`${name.padEnd(18)} ${Array.isArray(value) ? value.map(v => v.toFixed(1)).join(' ') : typeof value === 'number' ? Number(value.toFixed(1)) : value}`);
if (options.json) fs.appendFileSync(options.json, `${JSON.stringify(row)}\n`);
for (const server of nodes) await server.stop();
await broker.stop();
endEverything();

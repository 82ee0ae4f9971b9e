// bench.mjs - the load benchmark: rows x servers, medians of several runs, all of them verified.
//
//     node bench/load/bench.mjs [--servers teleportald,floor,...] [--runs N] [--run ID] [ROW]...
//
// The server runs on core 0, the generator on core 1; rows that say so use all. A row whose check
// fails has the reason in place of figures. One line per row and server is appended to
// bench/history.jsonl; rows of one --run become one page, build/bench/load.html.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { page } from './report.mjs';
import { load, root, scratch, start } from './servers.mjs';

const PEERS = ['y-websocket', 'hocuspocus'];
const K = 1024, M = K * K;
const typing = (documents, subscribers, window, updates) => ({
    workload: 'typing',
    args: { documents, subscribers, window, updates },
    main: 'cpu_us_per_delivery',
});
const latency = (rate, seconds) => ({
    workload: 'typing',
    args: { documents: 10, subscribers: 20, rate, seconds },
    main: 'p99_us',
});
const opening = (size, structs, clients) => ({
    workload: 'sync',
    args: { 'document-size': size, structs, clients, window: 4 },
    main: 'bytes_per_s',
    answer: size,
});
const ours = ['teleportald'];

// `peers`: the part of the updates or clients that the peers get, who would take minutes.
// `only`: servers for which the row makes sense.
const rows = {
    'typing-1x100-w16': { ...typing(1, 100, 16, 10000), peers: 0.1 },
    'typing-1x100-w1': { ...typing(1, 100, 1, 3000), peers: 0.3 },
    'typing-1x2000-w2': { ...typing(1, 2000, 2, 200), peers: 0.5 },
    'typing-100x10-w2': { ...typing(100, 10, 2, 300), peers: 0.3 },
    'typing-1000x2-w1': { ...typing(1000, 2, 1, 100), peers: 0.3 },
    'cursors-1x100-w16': { ...typing(1, 100, 16, 10000), workload: 'cursors', peers: 0.1 },
    'typing-zipf': { ...typing(200, 10, 32, 200), zipf: 1, peers: 0.3 },
    'typing-writers': { ...typing(20, 5, 4, 1000), writers: 5, peers: 0.2 },
    paste: { workload: 'paste', args: { updates: 40 }, main: 'bytes_per_s', only: [...ours, ...PEERS] },
    'latency-2000': latency(2000, 4),
    'latency-20000': latency(20000, 4),
    'ack-2000': { ...latency(2000, 4), dialect: 'teleportal', main: 'ack_p99_us', only: [...ours, 'hocuspocus', 'disk'] },
    'ack-20000': { ...latency(20000, 4), dialect: 'teleportal', main: 'ack_p99_us', only: [...ours, 'hocuspocus', 'disk'] },
    // 16 MB that a stuck reader does not read: more than sockets and its outbox hold.
    slow: { workload: 'slow', args: { subscribers: 200, stuck: 100, rate: 20000, size: 8192, seconds: 10 }, main: 'p99_us', only: ours },
    'slow-none': { workload: 'slow', args: { subscribers: 100, stuck: 0, rate: 20000, size: 8192, seconds: 10 }, main: 'p99_us', only: ours },
    connect: { workload: 'connect', args: { clients: 5000 }, main: 'cpu_us_per_sync', peers: 0.4 },
    storm: { workload: 'storm', args: { clients: 2000, documents: 200 }, main: 'seconds' },
    reconnect: { workload: 'reconnect', args: { clients: 2000, documents: 200 }, main: 'seconds', only: [...ours, ...PEERS] },
    idle: { workload: 'idle', args: { clients: 4000, documents: 400, seconds: 3 }, main: 'bytes_each' },
    'sync-1m': { ...opening(M, 0, 1000), peers: 0.2 },
    'sync-1m-10000-structs': { ...opening(M, 10000, 1000), peers: 0.1 },
    'sync-1m-cold': { ...opening(M, 1000, 32), cold: true, only: [...ours, 'y-websocket'] },
    'join-20m': { workload: 'join', args: { 'document-size': 20 * M, clients: 150 }, main: 'seconds', answer: 20 * M, only: [...ours, 'floor'] },
    // Cost does not grow with what a message does not touch: subscribers, open documents, idle connections.
    'flat-1x10': { ...typing(1, 10, 1, 20000), only: [...ours, 'floor'] },
    'flat-1x2000': { ...typing(1, 2000, 1, 200), only: [...ours, 'floor'] },
    'flat-1-document': { ...typing(1, 10, 16, 20000), multiplexed: true, only: ours },
    'flat-20000-documents': { ...typing(20000, 10, 16, 2), multiplexed: true, only: ours },
    'flat-10-idle': { ...typing(10, 10, 1, 2000), idle: 10, only: ours },
    'flat-15000-idle': { ...typing(10, 10, 1, 2000), idle: 15000, only: ours },
    // The generator shares the cores with the server here: CPU is what counts, not the rate.
    'cores-1': { ...typing(100, 10, 2, 300), cores: 1, only: ours },
    'cores-2': { ...typing(100, 10, 2, 300), cores: 2, only: ours },
};

function options() {
    const chosen = { servers: ['teleportald', 'floor'], runs: 3, run: new Date().toISOString(), rows: [] };
    const args = process.argv.slice(2);
    while (args.length > 0) {
        const arg = args.shift();
        if (arg === '--servers') chosen.servers = args.shift().split(',');
        else if (arg === '--runs') chosen.runs = Number(args.shift());
        else if (arg === '--run') chosen.run = args.shift();
        else if (rows[arg]) chosen.rows.push(arg);
        else {
            console.error(`no row or option called ${arg}; rows: ${Object.keys(rows).join(' ')}`);
            process.exit(2);
        }
    }
    if (chosen.rows.length === 0) chosen.rows = Object.keys(rows);
    return chosen;
}

function machine() {
    const cpus = os.cpus();
    return { cpu: cpus[0].model, cores: cpus.length, memory_gb: Math.round(os.totalmem() / 1e9), kernel: os.release() };
}

function commit() {
    try {
        const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
        return git('rev-parse', '--short=10', 'HEAD') + (git('status', '--porcelain', '--', 'src', 'include') ? '+' : '');
    } catch {
        return 'unknown';
    }
}

/** Of each figure the median; the curves are those of the run in the middle. */
function median(results, main) {
    const sorted = [...results].sort((a, b) => a[main] - b[main]);
    const middle = { ...sorted[(sorted.length - 1) >> 1] };
    for (const [name, value] of Object.entries(middle))
        if (typeof value === 'number') {
            const values = results.map(result => result[name] ?? 0).sort((a, b) => a - b);
            middle[name] = values[(values.length - 1) >> 1];
        }
    return middle;
}

function flags(row, kind) {
    const args = { ...row.args };
    if (PEERS.includes(kind) && row.peers)
        for (const name of ['updates', 'clients']) if (args[name]) args[name] = Math.max(1, Math.round(args[name] * row.peers));
    if (row.zipf !== undefined) args.zipf = row.zipf;
    if (row.writers) args.writers = row.writers;
    if (row.idle) Object.assign(args, { idle: row.idle, sources: 4 });
    if (row.multiplexed) Object.assign(args, { zipf: 0, multiplex: 1000 });
    return Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

async function once(row, kind) {
    if (kind === 'disk') return load(['--disk', scratch(), '--seconds', '3', '--label', 'fdatasync']);
    const dialect = row.multiplexed ? 'teleportal' : row.dialect;
    const cpus = row.cores ? null : undefined;
    const how = { cpus: row.cores ? null : '0', cores: row.cores, answer: kind === 'floor' ? row.answer : 0 };
    const args = flags(row, kind);
    let server = await start(kind, { ...how, stored: row.cold });
    if (row.cold) { /* written, then opened by a server that starts anew */
        const cold = ['--prefix', 'cold', '--documents', String(row.args.clients)];
        await load([...server.args(dialect), ...args, ...cold, 'fill'], { cpus });
        await new Promise(resolve => setTimeout(resolve, 2000));
        await server.stop();
        server = await start(kind, { ...how, stored: true, data: server.data });
        args.push(...cold, '--filled', '--cold');
        if (kind === 'y-websocket') args.push('--early'); // it answers before it has read its disk
    }
    try {
        return await load([...server.args(dialect), '--timeout', '180', ...args, row.workload], { cpus, seconds: 200 });
    } finally {
        await server.stop();
    }
}

const columns = [
    ['row', 24, line => line.row],
    ['server', 12, line => line.server],
    ['per s', 10, line => fixed(line.deliveries_per_s ?? line.syncs_per_s, 0)],
    ['MB/s', 7, line => fixed(line.bytes_per_s && line.bytes_per_s / 1e6, 0)],
    ['cpu us each', 11, line => fixed(line.cpu_us_per_delivery ?? line.cpu_us_per_sync, 2)],
    ['p50 us', 9, line => fixed(line.p50_us, 0)],
    ['p99 us', 9, line => fixed(line.p99_us, 0)],
    ['p99.9 us', 9, line => fixed(line.p999_us, 0)],
    ['ack p99', 9, line => fixed(line.ack_p99_us, 0)],
    ['seconds', 8, line => fixed(line.seconds, 2)],
    ['rss MB', 7, line => fixed(line.rss && line.rss / 1e6, 0)],
    ['peak MB', 7, line => fixed(line.rss_peak && line.rss_peak / 1e6, 0)],
    ['calls each', 10, line => fixed(line.syscalls_per_delivery ?? line.enters_per_sync, 4)],
    ['switches', 8, line => fixed(line.switches_per_delivery ?? line.switches_per_sync, 4)],
];
const fixed = (value, digits) => (value === undefined ? '' : value.toFixed(digits));
const line = cells => cells.map((text, i) => (i < 2 ? text.padEnd(columns[i][1]) : text.padStart(columns[i][1]))).join(' ');

const chosen = options();
const facts = { run: chosen.run, time: new Date().toISOString(), commit: commit(), machine: machine() };
const history = path.join(root, 'bench/history.jsonl');
let failures = 0;
console.log(line(columns.map(([title]) => title)));
for (const name of chosen.rows) {
    const row = rows[name];
    const servers = row.only ? row.only.filter(kind => kind === 'disk' || chosen.servers.includes(kind)) : chosen.servers;
    for (const kind of servers) {
        try {
            const results = [];
            const count = PEERS.includes(kind) ? Math.min(chosen.runs, 1 + (chosen.runs > 1) * 2) : chosen.runs;
            for (let i = 0; i < count; i++) results.push(await once(row, kind));
            const result = { ...facts, row: name, runs: count, ...median(results, kind === 'disk' ? 'p99_us' : row.main) };
            fs.appendFileSync(history, JSON.stringify(result) + '\n');
            console.log(line(columns.map(([, , text]) => text(result))));
        } catch (error) {
            failures++;
            console.log(`${name.padEnd(24)} ${kind.padEnd(12)} no figure: ${error.message.split('\n')[0]}`);
        }
    }
}
fs.mkdirSync(path.join(root, 'build/bench'), { recursive: true });
const lines = fs.existsSync(history) ? fs.readFileSync(history, 'utf8').trim().split('\n').map(text => JSON.parse(text)) : [];
fs.writeFileSync(path.join(root, 'build/bench/load.html'), page(lines.filter(line => line.run === chosen.run)));
console.log('build/bench/load.html shows this run');
process.exit(failures > 0 ? 1 : 0);

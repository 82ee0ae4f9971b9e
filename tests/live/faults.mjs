// faults.mjs - what the server does when the machine below it fails, and that it loses nothing.
//
// faults.c makes calls of the running server fail. While they do, a raw Teleportal writer counts acks
// and NACKs, and stock clients of both protocols edit. Then the fault ends, everybody must be saved
// without help, the server is killed, and a new one must have all that was acknowledged.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import * as Y from 'yjs';
import { Faults } from './faults-control.mjs';
import { commandLine, freePort, patience, request, runToEnd, sleep, start, until, within } from './harness.mjs';
import { Raw } from './raw.mjs';
import { TeleportalConnection, decode, encode, envelope, openEnvelope } from './teleportal-client.mjs';
import { syncStep1, updateOf } from './traw.mjs';
import { YClient } from './yclient.mjs';

const RESEND_MS = 50;
const REPAIR_MS = 3000; // what was refused and nobody sends again is saved by then

/** Writes numbers into its own document, one after the other: each is said until it is acknowledged.
 * More at a time would meet the guard against clients that repeat what is refused (spec 02), whose
 * answers come later and later. */
class Writer {
    constructor(name) {
        Object.assign(this, { name, doc: new Y.Doc(), acked: new Set(), nacks: [], sent: 0, waiting: null, stopped: false });
    }

    async open(server) {
        this.raw = await Raw.open(server.teleportal);
        this.raw.socket.on('message', data => {
            this.raw.messages.length = 0;
            const message = decode(data);
            if (message.type !== 'ack' || message.messageId !== this.waiting?.id) return;
            if (message.error === undefined && message.retryAfter === undefined) {
                this.acked.add(this.waiting.number);
                this.waiting = null;
                setTimeout(() => this.write(), 10);
            } else {
                this.nacks.push(message.error ?? 'retry');
                setTimeout(() => this.raw.closing || this.raw.send(this.waiting.frame), RESEND_MS);
            }
        });
        this.write();
    }

    write() {
        if (this.stopped || this.raw.closing) return;
        let made;
        this.doc.once('updateV2', update => (made = update));
        this.doc.getArray('numbers').push([this.sent]);
        const frame = encode(updateOf(this.name, envelope(made)));
        this.waiting = { id: decode(frame).id, number: this.sent++, frame };
        this.raw.send(frame);
    }

    stop() {
        this.stopped = true;
    }
}

async function documentOf(server, name) {
    const raw = await Raw.open(server.teleportal);
    raw.send(encode(syncStep1(name)));
    const { body } = decode(await raw.find(data => decode(data).kind === 'sync-step-2', 10_000));
    raw.cut();
    const doc = new Y.Doc();
    const structure = openEnvelope(body);
    if (structure.length > 0) Y.applyUpdateV2(doc, structure);
    return doc;
}

/** Text that no compression makes shorter. */
const noise = size => randomBytes(Math.ceil((size * 3) / 4)).toString('base64').slice(0, size);

/** Seconds of CPU that the server has used. */
const cpuTime = server => {
    const fields = fs.readFileSync(`/proc/${server.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
};

const page = async (server, path) => request(`${server.http}${path}`);
const metric = async (server, name) => {
    const { body } = await page(server, '/metrics');
    const line = body.split('\n').find(line => line.startsWith(`${name} `));
    assert.ok(line, `no metric ${name}`);
    return Number(line.slice(name.length + 1));
};
const lines = (server, words) => server.stderr.split('\n').filter(line => line.includes(words));

const unready = (server, reason) =>
    until(async () => {
        const { status, body } = await page(server, '/readyz');
        return status === 503 && body.includes(reason);
    }, `/readyz says ${reason}`);
const ready = server => until(async () => (await page(server, '/readyz')).status === 200, 'ready again', 15_000);

/** A server whose machine obeys `faults`, a raw writer and stock clients of both protocols. */
async function scene(suite, options = {}) {
    const faults = new Faults();
    suite.after(() => faults.end());
    const server = await start({ cores: suite.options.cores, durability: 'disk', ...options, data: faults.data, env: { ...faults.env, ...options.env } });
    suite.after(() => server.exit || server.crash());
    const writer = new Writer('raw');
    const connection = new TeleportalConnection(server.teleportal);
    const tele = connection.open('tele');
    const stock = new YClient(server.yjs, 'stock');
    const reader = new YClient(server.yjs, 'stock');
    suite.after(() => (writer.stop(), connection.destroy(), stock.destroy(), reader.destroy()));
    await writer.open(server);
    await Promise.all([tele.synced(), stock.synced(), reader.synced()]);
    let edits = 0;
    const type = () => {
        for (const { doc } of [tele, stock]) doc.getText('text').insert(0, `${edits} `);
        edits++;
    };
    type();
    await until(() => writer.acked.size > 5, 'the first acks');

    return {
        faults, server, writer, tele, stock, type,
        /** All is well: everybody is saved; kills the server; a new one has everything. */
        async settle() {
            type();
            writer.stop();
            await until(() => writer.waiting === null, 'the last ack of the writer', 15_000);
            await tele.synced(15_000);
            await stock.synced(15_000);
            await until(() => reader.doc.getText('text').toString() === stock.doc.getText('text').toString(), 'both stock clients agree');
            await sleep(REPAIR_MS);
            server.checkAlive();
            connection.destroy();
            stock.destroy();
            reader.destroy();
            await server.crash();
            faults.clear();
            const next = await start({ cores: suite.options.cores, data: faults.data });
            suite.after(() => next.exit || next.crash());
            const numbers = (await documentOf(next, 'raw')).getArray('numbers').toArray();
            assert.equal(new Set(numbers).size, numbers.length, 'numbers twice');
            assert.deepEqual([...writer.acked].filter(number => !numbers.includes(number)), [], 'acknowledged and lost');
            for (const [name, doc] of [['tele', tele.doc], ['stock', stock.doc]])
                assert.equal((await documentOf(next, name)).getText('text').toString(), doc.getText('text').toString(), `${name} lost edits`);
            await next.stop({ keepData: true });
        },
    };
}

// What fails, what /readyz and the metric say then.
const DISK_FAULTS = [
    { sentence: 'a disk that is full in the middle of a write', rule: { ops: 'write allocate', error: 'ENOSPC', room: 3000 }, state: 'disk full' },
    { sentence: 'a log that cannot be synced', rule: { ops: 'sync', kinds: 'wal other', error: 'EIO' }, state: 'I/O error' },
    { sentence: 'a log that cannot be written', rule: { ops: 'write', kinds: 'wal other', error: 'EIO' }, state: 'I/O error' },
    { sentence: 'a file system that has become read-only', rule: { ops: 'open write sync allocate rename', error: 'EROFS' }, state: 'disk is read-only' },
    { sentence: 'a quota that is used up', rule: { ops: 'write allocate', error: 'EDQUOT', room: 0 }, state: 'disk full' },
];

export default async suite => {
    const { cores, full } = suite.options;
    // Most of this is the same whatever the cores: each is tested with one or with two, both with --full.
    const withOne = full || cores === 1, withTwo = full || cores !== 1;

    for (const [nth, { sentence, rule, state }] of DISK_FAULTS.entries()) {
        if (!(nth % 2 ? withOne : withTwo)) continue;
        await suite.test(`${sentence} is said, refused, and survived`, async () => {
            const { faults, server, writer, type, settle } = await scene(suite);
            faults.rule(0, rule);
            await unready(server, `store: ${state}\n`);
            const acked = writer.acked.size;
            type();
            assert.equal((await page(server, '/livez')).status, 200);
            const health = JSON.parse((await page(server, '/health')).body);
            assert.equal(health.checks.store, state);
            assert.equal(await metric(server, `teleportald_store_state{state="${state}"}`), 1);
            assert.equal(await metric(server, 'teleportald_store_healthy'), 0);
            assert.equal(await metric(server, 'teleportald_ready'), 0);
            await sleep(1300); // recovery is tried, in vain
            assert.equal(writer.acked.size, acked, 'acknowledged what was not saved');
            assert.ok(writer.nacks.length > 0, 'no NACK');
            assert.deepEqual([...new Set(writer.nacks)], ['storage-failure']);
            assert.ok(faults.hits() > 0, 'the fault never struck');
            assert.equal(lines(server, 'the store takes no writes').length, 1, server.stderr);
            faults.clear();
            await ready(server);
            await until(() => writer.acked.size > acked, 'acks again');
            await until(() => lines(server, 'the store takes writes again').length === 1, 'the line that says so');
            assert.equal(await metric(server, 'teleportald_store_state{state="ok"}'), 1);
            await settle();
        });
    }

    if (withOne) await suite.test('disk_reserve keeps space free: edits are refused below it, and taken above it', async () => {
        const { faults, server, writer, type, settle } = await scene(suite, { config: { disk_reserve: '100M' } });
        faults.free(90 << 20);
        await unready(server, 'store: disk reserve reached\n');
        const acked = writer.acked.size;
        type();
        await sleep(300);
        assert.equal(writer.acked.size, acked);
        assert.deepEqual([...new Set(writer.nacks)], ['storage-failure']);
        assert.match(lines(server, 'the store takes no writes')[0], /bytes are free .* disk_reserve is 104857600/);
        faults.free(105 << 20); // above it, but not by enough to stay there
        await sleep(1200);
        assert.equal((await page(server, '/readyz')).status, 503);
        faults.free(null);
        await ready(server);
        await settle();
    });

    if (withTwo) await suite.test('a write that does not come back is a stalled store: clients wait, and nothing is refused', async () => {
        const { faults, server, writer, type, settle } = await scene(suite);
        faults.rule(0, { ops: 'sync', kinds: 'wal', delay: 60_000 });
        await unready(server, 'store: stalled\n');
        assert.equal(await metric(server, 'teleportald_store_state{state="stalled"}'), 1);
        await until(() => lines(server, 'the store takes no writes').length === 1, 'the line that says so');
        assert.equal((await page(server, '/livez')).status, 200);
        type();
        faults.clear();
        await ready(server);
        assert.deepEqual(writer.nacks, []);
        assert.equal(lines(server, 'the store takes no writes').length, 1);
        await settle();
    });

    for (const thread of [`shard-${cores - 1}`, withOne && 'store-commit', withTwo && 'worker'].filter(Boolean))
        await suite.test(`${thread} that hangs is noticed, and systemd's watchdog is not answered`, async () => {
            const { faults, server, settle } = await scene(suite, {
                config: { hang_seconds: 2 },
                env: { NOTIFY_SOCKET: '/nowhere', WATCHDOG_USEC: '2000000' },
            });
            const before = faults.watchdogs;
            await until(() => faults.watchdogs > before, 'an answer to the watchdog');
            // Only a thread that turns meets its fate: the others turn by themselves.
            faults.hang(thread);
            const more = new YClient(server.yjs, `more-${Math.random()}`);
            suite.after(() => more.destroy());
            more.doc.getText('text').insert(0, 'x'.repeat(200_000)); // large: a worker looks at it
            await until(() => faults.hung > 0, 'the thread hangs');
            await until(() => lines(server, `a thread hangs thread=${thread}`).length === 1, 'a line that names it');
            const then = faults.watchdogs;
            await sleep(2500);
            assert.equal(faults.watchdogs, then, 'the watchdog was answered');
            faults.release();
            await until(() => lines(server, 'every thread runs again').length === 1, 'the line that says so');
            await until(() => faults.watchdogs > then, 'an answer to the watchdog');
            await ready(server);
            await settle();
        });

    await suite.test('without file descriptors those who are there go on, and others come in when there are some again', async () => {
        const { server, writer, type, settle } = await scene(suite, { config: { request_seconds: 300 }, env: { FAULTS_NOFILE: '120' } });
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        suite.after(() => agent.destroy());
        const ask = path => new Promise((resolve, reject) => http.get(`${server.http}${path}`, { agent }, res => {
            let body = '';
            res.on('data', part => (body += part)).on('end', () => resolve({ status: res.statusCode, body }));
        }).on('error', reject));
        assert.equal((await ask('/readyz')).status, 200);
        const crowd = Array.from({ length: 150 }, () => net.connect(server.port, '127.0.0.1').on('error', () => {}));
        suite.after(() => crowd.forEach(socket => socket.destroy()));
        await until(() => lines(server, 'connections cannot be accepted').length === 1, 'a line that says so');
        const { status, body } = await ask('/readyz');
        assert.equal(status, 503);
        assert.match(body, /^connections: no file descriptor or memory is left$/m);
        const [acked, cpu] = [writer.acked.size, cpuTime(server)];
        type();
        await sleep(2000);
        assert.ok(writer.acked.size > acked, 'those who are there are not served');
        assert.ok(cpuTime(server) - cpu < 0.8 * patience, `it spins: ${cpuTime(server) - cpu} s of CPU in 2 s`);
        assert.deepEqual(writer.nacks, []);
        const late = new YClient(server.yjs, 'stock');
        suite.after(() => late.destroy());
        await sleep(300);
        assert.ok(!late.provider.synced, 'there was a descriptor left after all');
        crowd.forEach(socket => socket.destroy());
        await late.synced(15_000);
        await until(() => lines(server, 'connections are accepted again').length === 1, 'the line that says so');
        await ready(server);
        await settle();
    });

    if (withTwo) await suite.test('the wall clock jumps, a day ahead and two back, and nobody notices', async () => {
        const { faults, server, writer, stock, type, settle } = await scene(suite);
        const connected = stock.connections;
        for (const hours of [24, -24, 0]) {
            faults.clock(hours * 3600_000);
            const acked = writer.acked.size;
            type();
            await until(() => writer.acked.size > acked + 10, 'acks');
            assert.equal((await page(server, '/readyz')).status, 200);
            const { body } = await page(server, '/metrics');
            assert.ok(Number(/^teleportald_uptime_seconds (\S+)$/m.exec(body)[1]) < 600, 'the uptime jumps as well');
        }
        assert.equal(stock.connections, connected, 'reconnected');
        assert.deepEqual(writer.nacks, []);
        await settle();
    });

    if (withOne) await suite.test('a process that stood still for 10 s goes on: nobody was hung, and nothing is lost', async () => {
        const { server, writer, type, settle } = await scene(suite, { config: { hang_seconds: 3 } });
        server.signal('SIGSTOP');
        type();
        await sleep(10_000);
        server.signal('SIGCONT');
        const acked = writer.acked.size;
        await until(() => writer.acked.size > acked + 10, 'acks');
        await sleep(1500);
        assert.equal(lines(server, 'a thread hangs').length, 0, server.stderr);
        assert.deepEqual(writer.nacks, []);
        await settle();
    });

    if (withTwo) await suite.test('tables that cannot be written stall the store: clients wait until they can', async () => {
        const { faults, server, settle } = await scene(suite, { config: { store_memory: '8M' } });
        faults.rule(0, { ops: 'write', kinds: 'table', delay: 60_000 });
        const bulk = new TeleportalConnection(server.teleportal);
        suite.after(() => bulk.destroy());
        const document = bulk.open('bulk');
        await document.synced();
        let stalled = false;
        for (let i = 0; i < 200 && !stalled; i++) {
            document.doc.getArray('bulk').push([noise(150_000)]);
            document.flush();
            stalled = (await page(server, '/readyz')).body.includes('store: stalled');
            await sleep(20);
        }
        await unready(server, 'store: stalled');
        assert.ok(faults.hits() > 0);
        faults.clear();
        await ready(server);
        await document.synced(30_000);
        await settle();
    }, { seconds: 90 });

    if (withOne) await suite.test('a log that is damaged in its middle is not opened: nothing is lost in silence', async () => {
        const { server, writer, faults, tele } = await scene(suite);
        await until(() => writer.acked.size > 60, 'acks');
        writer.stop();
        await until(() => writer.waiting === null, 'the last ack');
        await server.crash();
        const log = fs.readdirSync(faults.data).filter(name => name.endsWith('.log')).map(name => path.join(faults.data, name))
            .sort((a, b) => fs.statSync(b).size - fs.statSync(a).size)[0];
        const bytes = fs.readFileSync(log);
        bytes[bytes.length >> 1] ^= 0x10;
        fs.writeFileSync(log, bytes);

        const { code, stderr } = await runToEnd(commandLine({ port: await freePort(), data: faults.data, cores }));
        assert.equal(code, 1);
        assert.match(stderr, /the database is damaged, and nothing was changed: .*Corruption: .*--salvage=on/);
        assert.ok(fs.readFileSync(log).equals(bytes), 'the log was changed');

        const next = await start({ cores, data: faults.data, port: server.port, config: { salvage: 'on' } });
        suite.after(() => next.exit || next.crash());
        assert.match(next.stderr, /error the store was not whole detail=.*the log is kept in /);
        const [kept] = fs.readdirSync(faults.data).filter(name => name.startsWith('damaged-'));
        assert.ok(fs.readFileSync(path.join(faults.data, kept, path.basename(log))).equals(bytes), 'the damaged log is not kept');
        await tele.synced(15_000); // it has come back, and brings what was lost of its document
        assert.equal((await documentOf(next, 'tele')).getText('text').toString(), tele.doc.getText('text').toString());
        await next.stop({ keepData: true });
        const again = await start({ cores, data: faults.data });
        assert.equal((await documentOf(again, 'tele')).getText('text').toString(), tele.doc.getText('text').toString());
        await again.stop({ keepData: true });
    });

    if (withTwo) await suite.test('a log that ends in the middle of a write, as a crash leaves it, is opened', async () => {
        const { server, writer, faults } = await scene(suite);
        await until(() => writer.acked.size > 20, 'acks');
        await server.crash();
        for (const name of fs.readdirSync(faults.data).filter(name => name.endsWith('.log'))) {
            const file = path.join(faults.data, name);
            fs.appendFileSync(file, Buffer.from('01020304e80301aabbccddeeff', 'hex')); // a head that promises 1000 bytes
        }
        const next = await start({ cores, data: faults.data });
        suite.after(() => next.exit || next.crash());
        const numbers = (await documentOf(next, 'raw')).getArray('numbers').toArray();
        assert.deepEqual([...writer.acked].filter(number => !numbers.includes(number)), [], 'acknowledged and lost');
        await next.stop({ keepData: true });
    });

    if (withTwo) await suite.test('a last write that a power failure has torn, zeros and all, is dropped and said', async () => {
        const { server, writer, faults } = await scene(suite);
        await until(() => writer.acked.size > 20, 'acks');
        await server.crash();
        for (const name of fs.readdirSync(faults.data).filter(name => name.endsWith('.log'))) {
            const file = path.join(faults.data, name);
            const left = 32768 - (fs.statSync(file).size % 32768) - 7;
            if (left < 100) continue;
            const torn = Buffer.alloc(7 + Math.min(9000, left)); // a whole record but for what never reached the disk
            torn.writeUInt32LE(0x12345678);
            torn.writeUInt16LE(torn.length - 7, 4);
            torn[6] = 1;
            torn.fill('it was under way', 7, 7 + (torn.length - 7) / 3);
            fs.appendFileSync(file, torn);
        }
        const next = await start({ cores, data: faults.data });
        suite.after(() => next.exit || next.crash());
        assert.match(next.stderr, /error the store was not whole detail="the last write, \d+ bytes of the log, is torn; /);
        const numbers = (await documentOf(next, 'raw')).getArray('numbers').toArray();
        assert.deepEqual([...writer.acked].filter(number => !numbers.includes(number)), [], 'acknowledged and lost');
        await next.stop({ keepData: true });
    });

    if (withTwo) await suite.test('a damaged table costs the documents in it, and nobody else; compaction that meets it stops alone', async () => {
        const faults = new Faults();
        suite.after(() => faults.end());
        const options = { cores, data: faults.data, durability: 'disk' };
        let server = await start(options);
        suite.after(() => server.exit || server.crash());
        const writer = new TeleportalConnection(server.teleportal);
        const victim = writer.open('victim');
        await victim.synced();
        const mark = noise(64).slice(0, 40);
        for (let i = 0; i < 30; i++) {
            victim.doc.getArray('rows').push([i === 15 ? mark + noise(8000) : noise(8000)]);
            victim.flush();
            await victim.synced();
        }
        writer.destroy();
        await server.crash();
        server = await start(options); // the log becomes a table
        await server.crash();
        const table = fs.readdirSync(faults.data).filter(name => name.endsWith('.sst')).map(name => path.join(faults.data, name))
            .find(file => fs.readFileSync(file).includes(mark));
        assert.ok(table, 'no table has the marked row');
        const bytes = fs.readFileSync(table);
        bytes[bytes.indexOf(mark) + 10] ^= 1;
        fs.writeFileSync(table, bytes);

        const others = new Y.Doc();
        for (let round = 0; round < 6; round++) { // each start makes a table: by the fourth they are compacted
            server = await start(options);
            const raw = await Raw.open(`${server.yjs}/victim`);
            assert.equal((await within(raw.closed, 10_000, 'the damaged document is refused')).code, 4503);
            const connection = new TeleportalConnection(server.teleportal);
            const other = connection.open('other', { doc: others });
            await other.synced();
            others.getText('text').insert(0, `${round} `);
            other.flush();
            await other.synced(15_000);
            await until(() => lines(server, 'the store is damaged').length >= 1, 'a line that says so');
            assert.match(lines(server, 'the store is damaged')[0], /detail=.*Corruption: .*\.sst/);
            assert.equal(await metric(server, 'teleportald_store_state{state="damaged"}'), 1);
            assert.ok((await metric(server, 'teleportald_store_damaged_reads_total')) > 0);
            await ready(server);
            connection.destroy();
            if (round < 5) await server.crash();
        }
        const stops = await metric(server, 'teleportald_store_stops_total');
        suite.note(`compaction stopped the store ${stops} times in its last life`);
        assert.equal((await documentOf(server, 'other')).getText('text').toString(), others.getText('text').toString());
        await server.stop({ keepData: true });
    }, { seconds: 90 });
};

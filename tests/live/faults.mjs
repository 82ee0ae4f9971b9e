// faults.mjs - what the server does when the machine below it fails, and that it loses nothing.
//
// faults.c makes calls of the running server fail. While they do, a raw Teleportal writer counts acks
// and NACKs, and stock clients of both protocols edit. Then the fault ends, everybody must be saved
// without help, the server is killed, and a new one must have all that was acknowledged.

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import { Faults } from './faults-control.mjs';
import { request, sleep, start, until } from './harness.mjs';
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
        faults, server, writer, type,
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

    for (const [nth, { sentence, rule, state }] of DISK_FAULTS.entries()) {
        if (!full && nth % 2 !== cores % 2) continue; // the store is the same whatever the cores
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

    await suite.test('disk_reserve keeps space free: edits are refused below it, and taken above it', async () => {
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

    await suite.test('a write that does not come back is a stalled store: clients wait, and nothing is refused', async () => {
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

    for (const [thread, shown] of [[`shard-${cores - 1}`, `shard-${cores - 1}`], ['store-commit', 'store-commit'], ['worker', 'worker']])
        await suite.test(`${shown} that hangs is noticed, and systemd's watchdog is not answered`, async () => {
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
            await until(() => lines(server, `a thread hangs thread=${shown}`).length === 1, 'a line that names it');
            const then = faults.watchdogs;
            await sleep(2500);
            assert.equal(faults.watchdogs, then, 'the watchdog was answered');
            faults.release();
            await until(() => lines(server, 'every thread runs again').length === 1, 'the line that says so');
            await until(() => faults.watchdogs > then, 'an answer to the watchdog');
            await ready(server);
            await settle();
        });
};

// crash.mjs - promise 1: what was acknowledged is there after kill -9, at any moment.
//
// Several writers stream updates: Teleportal clients with up to 32 unacknowledged at a time, and
// y-websocket clients that ask "102" after every few. At a moment drawn from the seed the server is
// killed and started again on the same directory. Every number whose update was acknowledged must be
// in its document, and none that nobody wrote. At the end all documents of all rounds are read again.

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import { removeDirectory, request, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw } from './raw.mjs';
import { decode, encode, envelope, openEnvelope } from './teleportal-client.mjs';
import { syncStep1, updateOf } from './traw.mjs';
import * as y from './yclient.mjs';

const WINDOW = 32;

/** Writes 0, 1, 2, ... until the connection ends. `acked` is how many came back as saved. */
class Writer {
    constructor(name) {
        this.name = name;
        this.acked = new Set();
        this.sent = 0;
        this.doc = new Y.Doc();
    }

    write(number) {
        let made;
        this.doc.once(this.event, update => (made = update));
        this.doc.getArray('numbers').push([number]);
        return made;
    }
}

class TWriter extends Writer {
    event = 'updateV2';

    async run(server) {
        const raw = await Raw.open(server.teleportal);
        const waiting = new Map();
        const more = () => {
            while (waiting.size < WINDOW && !raw.closing) {
                const frame = encode(updateOf(this.name, envelope(this.write(this.sent))));
                waiting.set(decode(frame).id, this.sent++);
                raw.send(frame);
            }
        };
        raw.socket.on('message', data => {
            raw.messages.length = 0;
            const message = decode(data);
            if (message.type !== 'ack') return;
            assert.equal(message.error, undefined);
            this.acked.add(waiting.get(message.messageId));
            waiting.delete(message.messageId);
            more();
        });
        more();
        await raw.closed;
    }
}

class YWriter extends Writer {
    event = 'update';

    async run(server) {
        const raw = await Raw.open(`${server.yjs}/${this.name}`);
        const more = () => {
            if (raw.closing) return;
            for (let i = 0; i < 8; i++) raw.send(y.update(this.write(this.sent++)));
            raw.send(y.echo(new TextEncoder().encode(String(this.sent))));
        };
        raw.socket.on('message', data => {
            raw.messages.length = 0;
            const message = y.decode(data);
            if (message.type !== 102) return;
            for (let number = 0; number < Number(Buffer.from(message.bytes).toString()); number++) this.acked.add(number);
            more();
        });
        more();
        await raw.closed;
    }
}

async function numbersOf(server, name) {
    const raw = await Raw.open(server.teleportal);
    raw.send(encode(syncStep1(name)));
    const { body } = decode(await raw.find(data => decode(data).kind === 'sync-step-2', 10_000));
    raw.cut();
    const structure = openEnvelope(body);
    const doc = new Y.Doc();
    if (structure.length > 0) Y.applyUpdateV2(doc, structure);
    return doc.getArray('numbers').toArray();
}

async function metrics(server) {
    return (await request(`${server.http}/metrics`)).body;
}

async function verify(server, writer) {
    const numbers = await numbersOf(server, writer.name);
    const there = new Set(numbers);
    assert.equal(there.size, numbers.length, `${writer.name}: numbers twice`);
    const lost = [...writer.acked].filter(number => !there.has(number));
    assert.deepEqual(lost, [], `${writer.name}: acknowledged and lost`);
    assert.deepEqual(numbers.filter(number => number >= writer.sent), [], `${writer.name}: never written`);
}

export default async suite => {
    const { cores, seed, full } = suite.options;
    const random = suite.random;

    for (const durability of ['os', 'disk'])
        await suite.test(`durability = ${durability}: nothing acknowledged is lost in 20 crashes`, async () => {
            const data = temporaryDirectory();
            suite.after(() => removeDirectory(data));
            const config = { compact_count: 24 }; // so that kills also hit the folding of logs
            const writers = [];
            const moments = [];
            let folded = 0;
            let server = await start({ cores, durability, data, config });
            suite.after(() => server.crash());
            const rounds = full ? 60 : 20;
            for (let round = 0; round < rounds; round++) {
                const batch = [0, 1, 2, 3].map(i => (i < 3 ? new TWriter(`t-${round}-${i}`) : new YWriter(`y-${round}-${i}`)));
                writers.push(...batch);
                // One that is killed before its connection is open has written nothing.
                const runs = batch.map(writer => writer.run(server).catch(error => assert.equal(writer.sent, 0, error)));
                const moment = 15 + random.below(random.below(3) === 0 ? 600 : 150);
                moments.push(moment);
                await sleep(moment);
                folded += Number((await metrics(server)).match(/^teleportald_compact_bases_total (\d+)$/m)[1]);
                await server.crash();
                await Promise.all(runs);
                server = await start({ cores, durability, data, config });
                for (const writer of batch) await verify(server, writer);
            }
            await server.stop({ keepData: true });
            server = await start({ cores, durability, data, config });
            await until(async () => Number((await metrics(server)).match(/^teleportald_compact_sweeps_total (\d+)$/m)[1]) > 0,
                'the sweep through all logs', 60_000);
            assert.match(await metrics(server), /^teleportald_compact_failures_total 0$/m);
            let acked = 0, sent = 0;
            for (const writer of writers) {
                await verify(server, writer);
                acked += writer.acked.size;
                sent += writer.sent;
            }
            suite.note(`seed ${seed}: killed after ${moments.join(' ')} ms; ${acked} of ${sent} updates acknowledged; ${folded} logs folded`);
            assert.ok(folded > 0, 'no log was folded before any crash');
            assert.ok(acked > rounds * 20, `only ${acked} updates were acknowledged: the test proves little`);
            await server.stop({ keepData: true });
        }, { seconds: full ? 400 : 120 });

    await suite.test('SIGTERM in the middle of a stream loses nothing acknowledged, and a second one ends it at once', async () => {
        const data = temporaryDirectory();
        suite.after(() => removeDirectory(data));
        for (const impatient of [false, true]) {
            let server = await start({ cores, durability: 'disk', data });
            const writers = [new TWriter(`term-t-${impatient}`), new YWriter(`term-y-${impatient}`)];
            const runs = writers.map(writer => writer.run(server));
            await sleep(200);
            server.signal('SIGTERM');
            const began = Date.now();
            if (impatient) {
                await sleep(5);
                server.signal('SIGTERM');
            }
            await Promise.all([...runs, server.ended]);
            server.checkWords();
            if (impatient) assert.ok(Date.now() - began < 3000, `took ${Date.now() - began} ms`);
            else assert.equal(server.exit.code, 0);
            server = await start({ cores, data });
            for (const writer of writers) {
                assert.ok(writer.acked.size > 0);
                await verify(server, writer);
            }
            await server.stop({ keepData: true });
        }
    });
};

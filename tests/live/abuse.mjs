// abuse.mjs - promise 3: every budget has a stated behaviour when it is used up, and whoever uses it
// up is the one who feels it. Each test starts a server with small budgets, uses one of them up, and
// looks at the one who did it and at a bystander.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { disagreement } from './edits.mjs';
import { patience, request, sleep, start, until, within } from './harness.mjs';
import { Raw, tcp } from './raw.mjs';
import { Events } from './sse-client.mjs';
import { TRaw, syncStep1, updateOf, word, writing } from './traw.mjs';
import * as Y from 'yjs';
import * as y from './yclient.mjs';

const handshake = (pathname, more = '') =>
    `GET ${pathname} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${more}\r\n`;

/** One client frame, masked with zeros. */
const frame = (first, payload) => {
    const size = payload.length;
    const head = size < 126 ? Buffer.from([first, 0x80 | size, 0, 0, 0, 0])
        : size < 65536 ? Buffer.from([first, 0xfe, size >> 8, size & 255, 0, 0, 0, 0])
            : Buffer.from([first, 0xff, 0, 0, 0, 0, size >> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255, 0, 0, 0, 0]);
    return Buffer.concat([head, payload]);
};

export async function metric(server, name) {
    const { body } = await request(`${server.http}/metrics`, { timeout: 10_000 });
    const found = new RegExp(`^teleportald_${name} (\\d+)$`, 'm').exec(body);
    assert.ok(found, `a metric teleportald_${name}`);
    return Number(found[1]);
}

export default async suite => {
    const { cores, full } = suite.options;

    const serve = async config => {
        const server = await start({ cores, config });
        suite.after(() => server.stop());
        return server;
    };
    /** Tries `count` handshakes one after the other. Resolves to the open sockets and the answers of the refused. */
    const knock = async (server, count, { pathname = '/teleportal', host, more } = {}) => {
        const open = [];
        const refused = [];
        for (let i = 0; i < count; i++) {
            const socket = await tcp(server.port, host);
            suite.after(() => socket.destroy());
            socket.write(handshake(pathname, more));
            await until(() => socket.text.includes('\r\n\r\n') || socket.destroyed, 'an answer');
            if (socket.text.startsWith('HTTP/1.1 101 ')) open.push(socket);
            else refused.push(socket.text);
        }
        return { open, refused };
    };
    /** Opens a stream; resolves to the status of its answer. */
    const stream = async (server, headers = {}) => {
        const events = await Events.open(`${server.http}/sse`, { headers });
        suite.after(() => events.request.destroy());
        if (events.response.statusCode === 503) assert.ok(Number(events.response.headers['retry-after']) > 0);
        return events.response.statusCode;
    };
    const assertRefused = answers => {
        for (const answer of answers) {
            assert.match(answer, /^HTTP\/1\.1 503 /);
            assert.match(answer, /\r\nRetry-After: [1-9]\d*\r\n/);
        }
    };
    /** A client that writes and reads; `check` throws when it is not served promptly. */
    const bystander = async (server, name = 'bystander') => {
        const traw = await TRaw.open(server.teleportal);
        suite.after(() => traw.cut());
        await traw.ask(syncStep1(name));
        return {
            traw,
            async check(ms = 2000) {
                const { words } = await traw.ask(updateOf(name, writing('still here')), ms);
                assert.deepEqual(words, ['ack']);
            },
        };
    };
    const upgraded = async (server, pathname) => {
        const { open } = await knock(server, 1, { pathname });
        assert.equal(open.length, 1, 'accepted');
        open[0].text = '';
        return open[0];
    };

    // ---- who may come ------------------------------------------------------------------------------
    await suite.test('an address has so many connections and no more; others do not notice, and who leaves makes room', async () => {
        const server = await serve({ max_connections_per_address: 10, trusted_proxies: '' });
        const { open, refused } = await knock(server, 10 * cores + 20);
        assert.ok(open.length >= 10 && open.length <= 10 * cores, `${open.length} accepted`);
        assertRefused(refused);
        const other = await tcp({ port: server.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
        suite.after(() => other.destroy());
        other.write(handshake('/teleportal'));
        await until(() => other.text.startsWith('HTTP/1.1 101 '), 'another address is served');
        open.forEach(socket => socket.destroy());
        other.write(Buffer.concat([frame(0x82, Buffer.from('YJSping'))]));
        await until(async () => {
            const { open: again } = await knock(server, 1);
            return again.length === 1;
        }, 'room after they have left');
    });

    await suite.test('behind a trusted proxy the address is the one the proxy names, whatever the client adds to it', async () => {
        const server = await serve({ max_connections_per_address: 10 });
        const { open: direct, refused: none } = await knock(server, 40);
        assert.equal(direct.length, 40, 'loopback is trusted, and has no limit of its own');
        assert.equal(none.length, 0);
        let made = 0;
        const { open, refused } = await knock(server, 10 * cores + 20, { more: 'X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 9.9.9.9, 10.1.1.1, 127.0.0.7\r\n' });
        made += open.length;
        assert.ok(made >= 10 && made <= 10 * cores, `${made} accepted`);
        assertRefused(refused);
        const { open: others } = await knock(server, 5, { more: 'X-Forwarded-For: 10.1.1.1, 10.1.1.2\r\n' });
        assert.equal(others.length, 5, 'another client of the same proxy');
        const statuses = [];
        for (let i = 0; i < 10 * cores + 1; i++) statuses.push(await stream(server, { 'X-Forwarded-For': '10.1.1.1' }));
        assert.ok(statuses.includes(503), 'streams count as well');
        assert.ok(await metric(server, 'net_refused_origin_total') >= refused.length);
    });

    await suite.test('handshakes of one address beyond its rate are answered 503, and counted out in time', async () => {
        const server = await serve({ max_handshakes_per_address: 2, trusted_proxies: '127.0.0.1' });
        const from = 'X-Forwarded-For: 10.0.0.1\r\n';
        const { open, refused } = await knock(server, 20 * cores + 20, { more: from });
        // Ten seconds' worth, and what the knocking itself took in time.
        assert.ok(open.length >= 20 && refused.length > 0, `${open.length} accepted, ${refused.length} refused`);
        assertRefused(refused);
        assert.equal((await knock(server, 1, { more: 'X-Forwarded-For: 10.0.0.2\r\n' })).open.length, 1);
        assert.ok(await metric(server, 'net_refused_handshake_total') >= refused.length);
        await sleep(1000);
        await until(async () => (await knock(server, 1, { more: from })).open.length === 1, 'one that waited is served');
    });

    await suite.test('a core whose documents fill its memory refuses new clients and documents, serves those it has, and takes new ones when some have left', async () => {
        const server = await serve({ session_memory: '1M', session_grace_seconds: 0, max_message_size: '4M' });
        const big = new Y.Doc();
        big.getText('text').insert(0, 'x'.repeat(1_500_000));
        const first = await bystander(server, 'here');
        const holders = [];
        for (let i = 0; i < 8; i++) {
            const raw = await Raw.open(`${server.yjs}/big-${i}`).catch(error => error);
            if (raw.status) {
                assert.equal(raw.status, 503);
                continue;
            }
            suite.after(() => raw.cut());
            raw.send(y.update(Y.encodeStateAsUpdate(big)));
            raw.send(y.step1());
            await raw.find(message => y.decode(message).type === y.SYNC && y.decode(message).sub === y.STEP2);
            holders.push(raw);
        }
        await until(async () => await metric(server, 'cores_full') === cores, 'every core is full');
        assertRefused((await knock(server, 3)).refused.concat((await knock(server, 3, { pathname: '/yjs/new' })).refused));
        assert.equal((await knock(server, 3)).open.length, 0);
        for (let i = 0; i < 3; i++) assert.equal(await stream(server), 503);
        await first.check();
        assert.equal(word((await first.traw.ask(syncStep1('not-open-yet'))).last), 'retry');
        assert.ok(await metric(server, 'refused_budget_total') > 0);
        for (const raw of holders) await raw.leave();
        await until(async () => (await knock(server, 1)).open.length === 1, 'a new client is served');
        await until(async () => word((await first.traw.ask(syncStep1('not-open-yet'))).last) === 'ack', 'a new document is served');
    });

    // ---- what comes in -----------------------------------------------------------------------------
    await suite.test('heads and bodies that trickle in are cut off in time, and cost nobody else anything', async () => {
        const server = await serve({ request_seconds: 1 });
        const by = await bystander(server);
        const silent = await Promise.all(Array.from({ length: 50 }, () => tcp(server.port)));
        const slow = await Promise.all(Array.from({ length: 50 }, () => tcp(server.port)));
        const body = await tcp(server.port);
        body.write('POST /message HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nfirst');
        const everyone = [...silent, ...slow, body];
        everyone.forEach(socket => suite.after(() => socket.destroy()));
        const head = Buffer.from(handshake('/teleportal').slice(0, -2));
        let at = 0;
        const drip = setInterval(() => at < head.length && slow.forEach(socket => socket.destroyed || socket.write(head.subarray(at, at + 1))) + at++, 100);
        suite.after(() => clearInterval(drip));
        await by.check();
        const began = Date.now();
        await within(Promise.all(everyone.map(socket => socket.gone)), 5000, 'all of them are gone');
        assert.ok(Date.now() - began < 4000 * patience);
        for (const socket of [...slow, body]) assert.match(socket.text, /^HTTP\/1\.1 408 /);
        assert.ok(await metric(server, 'net_slow_closed_total') >= 101);
        await by.check();
    });

    await suite.test('messages half received have a budget: above it their senders are closed with 1013, whole messages go on', async () => {
        const server = await serve({ receive_memory: '1M' });
        const by = await bystander(server);
        const half = Buffer.alloc(400_000);
        const sockets = [];
        for (let i = 0; i < 6 * cores; i++) {
            const socket = await upgraded(server, '/teleportal');
            socket.write(frame(0x02, half));
            sockets.push(socket);
        }
        const closed = () => sockets.filter(socket => Buffer.from(socket.text, 'latin1').includes(Buffer.from([0x88, 0x02, 1013 >> 8, 1013 & 255])));
        await until(() => closed().length >= 6 * cores - 3 * cores, 'those above the budget are closed');
        assert.ok(closed().length < sockets.length, 'and only those');
        await by.check();
        assert.equal(await metric(server, 'net_join_failures_total'), closed().length);
    });

    await suite.test('a message in endless fragments ends when it is too large, one in endless empty fragments holds nothing', async () => {
        const server = await serve({ max_message_size: '64k', max_update_bytes: '64k' });
        const by = await bystander(server);
        const growing = await upgraded(server, '/teleportal');
        growing.write(frame(0x02, Buffer.alloc(1000)));
        const more = Buffer.concat(Array.from({ length: 50 }, () => frame(0x00, Buffer.alloc(1000))));
        for (let i = 0; i < 10 && !growing.destroyed; i++) growing.write(more);
        await until(() => Buffer.from(growing.text, 'latin1').includes(Buffer.from([0x88, 0x02, 1009 >> 8, 1009 & 255])), 'a close with 1009');
        const empty = await upgraded(server, '/teleportal');
        empty.write(frame(0x02, Buffer.alloc(0)));
        const nothing = Buffer.concat(Array.from({ length: 10_000 }, () => frame(0x00, Buffer.alloc(0))));
        const before = server.residentSize();
        for (let i = 0; i < 30; i++) {
            if (!empty.write(nothing)) await once(empty, 'drain');
            if (i % 10 === 5) await by.check();
        }
        await until(async () => await metric(server, 'net_bytes_in_total') > 1_800_000, 'all of it has arrived', 30_000);
        assert.ok(server.residentSize() - before < 16 << 20, 'no memory for it');
        assert.ok(await metric(server, 'receive_bytes') < 200_000);
    });

    await suite.test('writers faster than the disk are not read from for a while, and nothing they said is lost', async () => {
        const server = await serve({ store_queue: '64k' });
        const writers = await Promise.all(Array.from({ length: 8 }, () => TRaw.open(server.teleportal)));
        writers.forEach(traw => suite.after(() => traw.cut()));
        const rounds = full ? 200 : 40;
        await Promise.all(writers.map(async (traw, i) => {
            await traw.ask(syncStep1(`flood-${i}`));
            const doc = new Y.Doc();
            const ids = Array.from({ length: rounds }, () => traw.say(updateOf(`flood-${i}`, writing('w'.repeat(30_000), doc))));
            const waiting = new Set(ids);
            while (waiting.size > 0) {
                const message = await traw.next(20_000);
                assert.ok(message.type !== 'ack' || message.error === undefined && message.retryAfter === undefined, word(message));
                if (message.type === 'ack') waiting.delete(message.messageId);
            }
        }));
        assert.ok(await metric(server, 'store_waits_total') > 0, 'the budget was used up');
        assert.equal(await metric(server, 'store_queue_bytes'), 0);
    });

    // ---- what goes out -----------------------------------------------------------------------------
    await suite.test('one who asks and asks and does not read is not listened to, holds no more than its outbox, and ends when it stays so', async () => {
        const server = await serve({ outbox_size: '256k', dead_seconds: 3, ping_seconds: 1 });
        const by = await bystander(server);
        const big = new Y.Doc();
        big.getText('text').insert(0, 'y'.repeat(500_000));
        const writer = await Raw.open(`${server.yjs}/wanted`);
        suite.after(() => writer.cut());
        writer.send(y.update(Y.encodeStateAsUpdate(big)));
        writer.send(y.echo(Buffer.from('stored')));
        await writer.next();
        const deaf = await upgraded(server, '/yjs/wanted');
        deaf.pause();
        const asks = Buffer.concat(Array.from({ length: 200 }, () => frame(0x82, Buffer.from(y.step1()))));
        let ended = false;
        deaf.on('close', () => (ended = true));
        const keep = setInterval(() => ended || deaf.writableLength > 1 << 20 || deaf.write(asks), 20);
        suite.after(() => clearInterval(keep));
        let highest = 0;
        await until(async () => {
            highest = Math.max(highest, await metric(server, 'outbox_bytes'));
            return ended || await metric(server, 'net_slow_closed_total') > 0;
        }, 'it is disconnected', 30_000);
        assert.ok(highest < (256 << 10) + 4 * 520_000, `${highest} bytes were queued`);
        await until(async () => await metric(server, 'outbox_bytes') < 100_000, 'what it had is given back'); // a page like this one counts too
        await by.check();
        clearInterval(keep);
        deaf.destroy();
    });

    await suite.test('all outboxes together have a budget: above it slow readers keep 64k each, new clients are refused, readers are served', async () => {
        const server = await serve({ outbox_memory: '1M', outbox_size: '4M' });
        const by = await bystander(server);
        const writer = await Raw.open(`${server.yjs}/loud`);
        suite.after(() => writer.cut());
        const stuck = [];
        for (let i = 0; i < 12; i++) {
            const socket = await upgraded(server, '/yjs/loud');
            socket.write(frame(0x82, Buffer.from(y.step1())));
            await until(() => socket.text.length > 0, 'an answer');
            socket.pause();
            stuck.push(socket);
        }
        const doc = new Y.Doc();
        let highest = 0;
        let lost = 0;
        for (let i = 0; i < 400 && (i < 100 || lost === 0); i++) {
            const made = once(doc, 'update');
            doc.getText('text').insert(0, 'z'.repeat(30_000));
            writer.send(y.update((await made)[0]));
            writer.send(y.echo(Buffer.from([i & 255])));
            await writer.find(message => message[0] === 102, 10_000);
            if (i % 10 !== 9) continue;
            highest = Math.max(highest, await metric(server, 'outbox_bytes'));
            lost = await metric(server, 'outbox_full_total');
        }
        assert.ok(lost > 0, 'the budget is used up');
        assert.ok(highest < (1 << 20) + 12 * 31_000, `${highest} bytes waited`);
        await by.check();

        // Answers cannot be dropped: those who ask for them use it up for good.
        for (let i = 0; i < 20; i++) stuck.forEach(socket => socket.write(frame(0x82, Buffer.from(y.step1()))));
        await until(async () => await metric(server, 'cores_full') > 0, 'the core is full');
        assertRefused((await knock(server, 1, { pathname: '/yjs/loud' })).refused);
        assert.equal((await knock(server, 1, { pathname: '/yjs/loud' })).open.length, 0);
        await by.check();
        stuck.forEach(socket => socket.destroy());
        await until(async () => (await knock(server, 1, { pathname: '/yjs/loud' })).open.length === 1, 'room again');
    });

    await suite.test('one who never answers a ping is disconnected, one who only answers pings is not', async () => {
        const server = await serve({ ping_seconds: 1, dead_seconds: 3 });
        const mute = await upgraded(server, '/teleportal');
        const alive = await Raw.open(server.teleportal); // ws answers pings by itself
        suite.after(() => alive.cut());
        const began = Date.now();
        await within(mute.gone, 8000, 'the end of the mute one');
        assert.ok(Date.now() - began >= 2500);
        assert.ok(Buffer.from(mute.text, 'latin1').includes(Buffer.from([0x89, 0x00])), 'it was pinged');
        await sleep(1000);
        assert.equal(alive.closing, null);
    });

    await suite.test('one who reads a byte at a time gets its document, and costs the others nothing', async () => {
        const server = await serve({ outbox_size: '64k' });
        const by = await bystander(server);
        const big = new Y.Doc();
        big.getText('text').insert(0, 'b'.repeat(20_000));
        const writer = await Raw.open(`${server.yjs}/slow`);
        suite.after(() => writer.cut());
        writer.send(y.update(Y.encodeStateAsUpdate(big)));
        writer.send(y.echo(Buffer.from('stored')));
        await writer.next();
        const socket = await tcp(server.port);
        suite.after(() => socket.destroy());
        socket.removeAllListeners('data');
        let text = '';
        socket.on('readable', () => {});
        socket.write(handshake('/yjs/slow'));
        socket.write(frame(0x82, Buffer.from(y.step1())));
        const end = Date.now() + 20_000 * patience;
        while (!text.includes('b'.repeat(20_000))) {
            assert.ok(Date.now() < end, `${text.length} bytes so far`);
            for (let i = 0; i < 50; i++) text += socket.read(1) ?? '';
            await sleep(0);
            if (text.length % 5000 < 50) await by.check();
        }
    });

    // ---- a hundred who do not read -----------------------------------------------------------------
    const percentile = (values, part) => values.toSorted((a, b) => a - b)[Math.floor(values.length * part)];

    /** A reader that keeps what came as it came: bytes, and messages when they are wanted. */
    class Reader {
        static async open(url) {
            const reader = new Reader();
            reader.raw = await Raw.open(url);
            suite.after(() => reader.raw.cut());
            reader.socket = reader.raw.socket;
            reader.messages = [];
            reader.bytes = 0;
            reader.socket.removeAllListeners('message');
            reader.socket.on('message', message => {
                reader.bytes += message.length;
                reader.hear(message);
            });
            reader.raw.send(y.step1());
            const isStep2 = message => message[0] === y.SYNC && message[1] === y.STEP2;
            await until(() => reader.messages.some(isStep2), 'a step 2', 20_000); // a large one comes in pieces
            return reader;
        }
        hear(message) {
            this.messages.push(message);
        }
        /** The document as what it heard makes it. */
        document() {
            const doc = new Y.Doc();
            for (const message of this.messages) {
                const got = y.decode(message);
                if (got.type === y.SYNC && got.sub !== y.STEP1) Y.applyUpdate(doc, got.bytes);
            }
            return doc;
        }
    }

    await suite.test('a hundred stuck readers cost a hundred good ones nothing, and get what they missed when they read again, not more', async () => {
        // Folding the log is work for the other threads, which share the cores of a small machine.
        const server = await serve({ outbox_size: '256k', dead_seconds: 3600, compact_count: 1_000_000, compact_size: '1G' });
        const name = `${server.yjs}/busy`;
        const doc = new Y.Doc();
        doc.getText('base').insert(0, 'b'.repeat(900_000));
        const writer = await Raw.open(name);
        suite.after(() => writer.cut());
        writer.socket.removeAllListeners('message');
        writer.send(y.update(Y.encodeStateAsUpdate(doc)));
        const listeners = [];
        let lines = 0;
        const write = size => {
            let made;
            doc.once('update', update => (made = update));
            // A text of its own each: Yjs would join them, slower and slower.
            doc.getText(`line-${lines++}`).insert(0, 'm'.repeat(size));
            const message = y.update(made);
            writer.send(message);
            return message.length;
        };

        // Each good reader notes how long after its writing an update has come.
        let sent = [];
        let latencies = [];
        for (let i = 0; i < 100; i++) {
            const reader = await Reader.open(name);
            let nth = 0;
            reader.hear = () => latencies.push(performance.now() - sent[nth++]);
            reader.restart = () => (nth = 0);
            listeners.push(reader);
        }
        const writeFor = async ms => {
            sent = [];
            latencies = [];
            listeners.forEach(reader => reader.restart());
            let size = 0;
            const rss = [];
            for (const end = performance.now() + ms; performance.now() < end; ) {
                sent.push(performance.now());
                size += write(1000);
                if (sent.length % 10 === 0) rss.push(server.residentSize());
                await sleep(20);
            }
            await until(() => latencies.length === 100 * sent.length, () => `${latencies.length} of ${100 * sent.length} came`, 20_000);
            // Of each second its own, and of those the middle: one that somebody else on this machine
            // has spoilt shall not decide.
            const seconds = [];
            for (let i = 0; i + 5000 <= latencies.length; i += 5000) seconds.push(percentile(latencies.slice(i, i + 5000), 0.99));
            return { size, p99: percentile(seconds, 0.5), p50: percentile(latencies, 0.5), rss };
        };
        const stuck = [];
        for (let i = 0; i < 100; i++) {
            const reader = await Reader.open(name);
            reader.socket.pause();
            stuck.push(reader);
        }
        let missed = 0;
        // Until all of them are behind: what the kernel takes for them is not ours to say.
        for (let i = 0; i < 200 && await metric(server, 'outbox_full_total') < 100; i++) {
            sent = [];
            listeners.forEach(reader => reader.restart());
            missed += write(50_000);
            await sleep(20);
        }
        assert.ok(await metric(server, 'outbox_full_total') >= 100, 'all of them are behind');
        const buffered = missed;
        missed += (await writeFor(3000)).size; // what has grown is joined, and memory has found its size
        const beside = await writeFor(full ? 60_000 : 4000);
        missed += beside.size;
        const half = beside.rss.length >> 1;
        const first = Math.max(...beside.rss.slice(0, half)), second = Math.max(...beside.rss.slice(half));
        suite.note(`resident ${(first >> 20)} MiB, then ${(second >> 20)} MiB; ${(missed / 1024).toFixed()} KiB were missed, ${(buffered / 1024).toFixed()} of them until all were behind`);
        assert.ok(second <= first + (4 << 20) * patience, `resident memory grew from ${first} to ${second}`);
        assert.ok(await metric(server, 'outbox_bytes') <= 100 * (256 << 10), 'no more than their budget');

        const before = stuck.map(reader => reader.bytes);
        for (const reader of stuck) reader.socket.resume();
        const goal = Buffer.from(Y.encodeStateVector(doc));
        const behind = new Map(stuck.map((reader, i) => [reader, before[i]]));
        await until(() => {
            for (const [reader, size] of behind)
                if (reader.bytes - size >= missed * 0.9 && goal.equals(Y.encodeStateVector(reader.document()))) behind.delete(reader);
            return behind.size === 0;
        }, () => `${behind.size} of the stuck have not caught up: ${[...behind].slice(0, 3).map(([reader, size]) => `${reader.bytes - size} of ${missed} bytes, ${disagreement([doc, reader.document()])}`)}`, 30_000);
        for (const reader of [stuck[0], stuck[99]]) assert.equal(disagreement([doc, reader.document()]), null);
        // What they missed, once; and at most the part of the history in which they fell behind.
        const got = stuck.map((reader, i) => reader.bytes - before[i]);
        suite.note(`bytes to one that read again: ${Math.min(...got)} to ${Math.max(...got)}, missed were ${missed}`);
        assert.ok(Math.max(...got) <= missed * 1.02 + 60_000, `${Math.max(...got)} bytes came, ${missed} were missed`);
        listeners.forEach(reader => assert.equal(reader.raw.closing, null));

        // The same document with the good ones alone: that is what there is to compare with.
        stuck.forEach(reader => reader.raw.cut());
        await writeFor(1000);
        const alone = await writeFor(full ? 20_000 : 4000);
        suite.note(`p99 of the good ones: ${alone.p99.toFixed(1)} ms alone, ${beside.p99.toFixed(1)} ms beside the stuck; p50 ${alone.p50.toFixed(1)}, ${beside.p50.toFixed(1)}`);
        assert.ok(beside.p99 <= alone.p99 * 1.2 + 2 * patience, `p99 ${alone.p99} alone, ${beside.p99} beside the stuck`);
    }, { seconds: full ? 300 : 90 });
};

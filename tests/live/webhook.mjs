// webhook.mjs - what happens to documents, posted to a server of ours: signed, in order, tried again,
// and kept in a file when nobody takes it.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { commandLine, freePort, removeDirectory, runToEnd, start, temporaryDirectory, until } from './harness.mjs';
import { TRaw, updateOf, writing } from './traw.mjs';

const SECRET = 'a-secret-that-is-long-enough';

/** An HTTP server that keeps what is posted; `answer(post, nth)` is a status, or null: none. */
async function listen(suite, answer = () => 204) {
    const posts = [], sockets = new Set();
    const server = http.createServer((request, response) => {
        const parts = [];
        request.on('data', part => parts.push(part));
        request.on('end', () => {
            const body = Buffer.concat(parts).toString();
            const post = { method: request.method, headers: request.headers, body, json: JSON.parse(body) };
            const status = answer(post, posts.push(post) - 1);
            if (status !== null) response.writeHead(status).end();
        });
    });
    server.on('connection', socket => sockets.add(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    suite.after(() => {
        for (const socket of sockets) socket.destroy();
        server.close();
    });
    return { posts, url: `http://127.0.0.1:${server.address().port}/hook?of=docs`, events: () => posts.map(p => `${p.json.event} ${p.json.document}`) };
}

function options(url, more = {}) {
    const file = path.join(temporaryDirectory('webhook'), 'secret');
    fs.writeFileSync(file, `${SECRET}\n`);
    return { admin: '127.0.0.1:0', webhook_url: url, webhook_secret_file: file, ...more };
}

export default async suite => {
    const { cores } = suite.options;
    const open = async server => {
        const raw = await TRaw.open(server.teleportal);
        suite.after(() => raw.cut());
        return raw;
    };
    const metric = async (server, name) => Number(new RegExp(`^teleportald_webhook_${name}_total (\\d+)$`, 'm').exec((await server.manage('GET', '/metrics')).body)[1]);
    const deadLetters = data => {
        const file = path.join(data, 'webhook-dead-letters.jsonl');
        return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n').map(line => JSON.parse(line)) : [];
    };

    await suite.test('creation, size and deletion are posted, in order, signed with time and body', async () => {
        const hook = await listen(suite);
        const server = await start({ cores, config: options(hook.url, { document_size_warning: '1k', document_size_limit: '2k' }) });
        suite.after(() => server.stop());
        const raw = await open(server);
        await raw.ask(updateOf('näme', writing('x'.repeat(1500))));
        await raw.ask(updateOf('näme', writing('x'.repeat(1500))));
        assert.equal((await server.manage('DELETE', `/v1/docs/${encodeURIComponent('näme')}`)).status, 200);
        await until(() => hook.posts.length === 4, () => `four posts: ${hook.events()}`);
        assert.deepEqual(hook.events().map(e => e.split(' ')[0]).sort(), ['document.created', 'document.deleted', 'document.size-limit', 'document.size-warning']);
        assert.equal(hook.posts[3].json.event, 'document.deleted');
        for (const { method, headers, body, json } of hook.posts) {
            assert.equal(method, 'POST');
            assert.equal(headers['content-type'], 'application/json');
            assert.match(headers['user-agent'], /^teleportald\/\d/);
            const { 'x-teleportald-timestamp': time, 'x-teleportald-signature': signature, 'x-teleportald-delivery': id } = headers;
            assert.ok(Math.abs(Number(time) - Date.now()) < 60_000);
            assert.equal(signature, `sha256=${crypto.createHmac('sha256', SECRET).update(`${time}.${body}`).digest('hex')}`);
            assert.deepEqual(Object.keys(json), ['id', 'event', 'time', 'node', 'room', 'document', 'sizeBytes']);
            assert.equal(json.id, id);
            assert.equal(json.document, 'näme');
            assert.equal(json.room, '');
            assert.ok(Number.isInteger(json.sizeBytes));
        }
        assert.equal(new Set(hook.posts.map(p => p.json.id)).size, 4);
        assert.equal(await metric(server, 'delivered'), 4);
    });

    await suite.test('only what is asked for is posted; opening and closing may be', async () => {
        const hook = await listen(suite);
        const server = await start({ cores, config: options(hook.url, { webhook_events: 'loaded, unloaded', session_grace_seconds: 0 }) });
        suite.after(() => server.stop());
        const raw = await open(server);
        await raw.ask(updateOf('d', writing('x')));
        raw.cut();
        await until(() => hook.posts.length === 1, 'unloaded');
        const again = await open(server);
        await again.ask(updateOf('d', writing('y')));
        await until(() => hook.posts.length === 2, 'loaded');
        assert.deepEqual(hook.events(), ['document.unloaded d', 'document.loaded d']);
    });

    await suite.test('what fails is tried again with growing pauses, under one id, before what comes after it', async () => {
        const times = [];
        const hook = await listen(suite, (post, nth) => (times.push(Date.now()), [503, 429, 500][nth] ?? 200));
        const server = await start({ cores, config: options(hook.url) });
        suite.after(() => server.stop());
        const raw = await open(server);
        await raw.ask(updateOf('first', writing('x')));
        await raw.ask(updateOf('second', writing('x')));
        await until(() => hook.posts.length === 5, () => `five posts: ${hook.events()}`);
        assert.deepEqual(hook.events().map(e => e.split(' ')[1]), ['first', 'first', 'first', 'first', 'second']);
        assert.equal(new Set(hook.posts.slice(0, 4).map(p => p.json.id)).size, 1);
        assert.ok(times[1] - times[0] >= 240 && times[2] - times[1] >= 490 && times[3] - times[2] >= 990, `${times}`);
        assert.deepEqual([await metric(server, 'delivered'), await metric(server, 'retried'), await metric(server, 'dead')], [2, 3, 0]);
        assert.equal((server.stderr.match(/webhook fails/g) ?? []).length, 1, 'said once');
        await until(() => server.stderr.includes('webhook delivers again'), 'the line that says so');
    });

    await suite.test('what is refused for good goes to the dead letters, and the next one is posted', async () => {
        const hook = await listen(suite, post => (post.json.document === 'bad' ? 410 : 200));
        const server = await start({ cores, config: options(hook.url) });
        suite.after(() => server.stop());
        const raw = await open(server);
        for (const name of ['bad', 'good']) await raw.ask(updateOf(name, writing('x')));
        await until(() => hook.posts.length === 2, 'both');
        await until(async () => (await metric(server, 'delivered')) === 1, 'the good one');
        const dead = deadLetters(server.data);
        assert.deepEqual(dead.map(d => `${d.event} ${d.document}`), ['document.created bad']);
        assert.deepEqual(dead[0], hook.posts[0].json);
        assert.match(server.stderr, /webhook given up event=created id=\S+ reason="?status 410/);
    });

    await suite.test('a hook that does not answer holds up no client and no stop; what is left is in the file', async () => {
        const hook = await listen(suite, () => null);
        const server = await start({ cores, config: options(hook.url) });
        const raw = await open(server);
        const began = Date.now();
        for (let i = 0; i < 60; i++) assert.deepEqual((await raw.ask(updateOf(`d${i}`, writing('x')))).words, ['ack']);
        assert.ok(Date.now() - began < 3000, `${Date.now() - began} ms`);
        await until(() => hook.posts.length === 1, 'the first post');
        raw.cut();
        await server.stop({ keepData: true });
        assert.ok(Date.now() - began < 15_000);
        assert.deepEqual(deadLetters(server.data).map(d => d.document).sort(), Array.from({ length: 60 }, (_, i) => `d${i}`).sort());
        removeDirectory(server.data);
    });

    await suite.test('more than the rings hold is dropped and counted, and nothing else suffers', async () => {
        const hook = await listen(suite, () => null);
        const server = await start({ cores: 1, config: options(hook.url, { webhook_events: 'unloaded', session_grace_seconds: 0 }) });
        const raws = [];
        for (let i = 0; i < 3; i++) {
            raws.push(await open(server));
            for (let n = 0; n < 500; n++) raws[i].say(updateOf(`d${i}.${n}`, writing('x')));
        }
        for (const raw of raws) await raw.settle(30_000);
        const first = await open(server);
        await first.ask(updateOf('first', writing('x')));
        first.cut();
        await until(() => hook.posts.length === 1, 'the post that hangs');
        for (const raw of raws) raw.cut();
        await until(async () => (await metric(server, 'dropped')) > 0, 'a drop');
        assert.ok((await metric(server, 'dropped')) <= 1500 - 1024);
        server.checkAlive();
        await server.stop();
    });

    await suite.test('a webhook that cannot work stops the start in one sentence', async () => {
        const good = options('http://127.0.0.1:1/');
        const short = path.join(temporaryDirectory('webhook'), 'short');
        fs.writeFileSync(short, 'short');
        for (const [config, words] of [
            [{ webhook_url: 'ftp://x' }, /webhook_url must begin with http/],
            [{ webhook_secret_file: '' }, /needs webhook_secret_file/],
            [{ webhook_secret_file: `${short}-none` }, /cannot be read/],
            [{ webhook_secret_file: short }, /is no secret/],
            [{ webhook_events: 'created, exploded' }, /webhook_events takes/],
        ]) {
            const { code, stderr } = await runToEnd(commandLine({ port: await freePort(), data: temporaryDirectory(), config: { ...good, ...config } }));
            assert.ok(code === 1 || code === 2, `exit ${code}: ${stderr}`);
            assert.match(stderr.trim().split('\n').at(-1), words);
        }
    });
};

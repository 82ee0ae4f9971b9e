// sse.mjs - Teleportal over HTTP: GET and POST /sse, POST /message. Spec 01 section 5 and 9.

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import { disagreement, edits } from './edits.mjs';
import { request, sleep, start, until } from './harness.mjs';
import { bytes, tcp } from './raw.mjs';
import { Events, SseConnection, arrayOf, frameOf, framesOf, post } from './sse-client.mjs';
import { TeleportalConnection, decode, encode, envelope, messageId, openEnvelope } from './teleportal-client.mjs';
import { TRaw, announce, syncStep1, updateOf, word, writing } from './traw.mjs';
import { YClient } from './yclient.mjs';

export default async suite => {
    const { cores } = suite.options;
    const random = suite.random;
    const server = await start({ cores, config: { cors_origins: 'http://app.example' } });
    let names = 0;
    const fresh = label => `${label}-${names++}`;

    const open = async (query = '', options) => {
        const events = await Events.open(`${server.http}/sse${query}`, options);
        suite.after(() => events.cut());
        return events;
    };
    const say = (id, messages, options = {}) =>
        post(`${server.http}/sse`, Buffer.isBuffer(messages) ? messages : arrayOf(messages.map(encode)), { ...options, headers: { 'x-teleportal-client-id': id, ...options.headers } });
    const once = async (messages, options) => {
        const answer = await post(`${server.http}/message`, arrayOf(messages.map(encode)), options);
        return { ...answer, frames: answer.status === 200 ? framesOf(answer.body).map(decode) : [] };
    };
    const read = async name => {
        const { frames } = await once([syncStep1(name)]);
        const doc = new Y.Doc();
        const structure = openEnvelope(frames[0].body);
        if (structure.length > 0) Y.applyUpdateV2(doc, structure);
        return doc;
    };
    const agreeing = (docs, ms = 30_000) => until(() => disagreement(docs) === null, () => disagreement(docs), ms);

    // ---- one stream ---------------------------------------------------------------------------------
    await suite.test('a stream begins with its id, and posts are answered in it', async () => {
        const events = await open();
        assert.equal(events.response.headers['content-type'], 'text/event-stream');
        assert.match(events.response.headers['cache-control'], /no-cache, no-store, no-transform/);
        const id = await events.clientId();
        assert.equal(events.response.headers['x-teleportal-client-id'], id);
        const { status, headers, body } = await say(id, [syncStep1(fresh('stream'))]);
        assert.equal(status, 200);
        assert.equal(body.toString(), '{"message":"ok"}');
        assert.equal(headers['x-teleportal-client-id'], id);
        const frames = [];
        while (frames.length < 3) frames.push(frameOf(await events.find(({ event }) => event === 'message')));
        assert.deepEqual(frames.map(word), ['sync-step-2', 'sync-step-1', 'ack']);
    });

    await suite.test('a ping comes every 5 s', async () => {
        const events = await open();
        const began = Date.now();
        assert.equal((await events.find(({ event }) => event === 'ping', 8000)).data, 'WUpTcGluZw==');
        assert.ok(Date.now() - began > 4000);
    });

    await suite.test('POST /message answers with all frames, and the connection goes on', async () => {
        const name = fresh('once');
        const { frames, headers } = await once([syncStep1(name), updateOf(name, writing('x'))]);
        assert.equal(headers['content-type'], 'application/octet-stream');
        assert.deepEqual(frames.map(word), ['sync-step-2', 'sync-step-1', 'ack', 'ack']);
        assert.equal((await read(name)).getText('text').toString(), 'x');
        assert.deepEqual((await once([{ type: 'ack', messageId: 'a' }])).frames, []);
        assert.deepEqual((await once([])).frames, []);
    });

    await suite.test('?documents= joins at once', async () => {
        const name = fresh('join');
        const events = await open(`?documents=${name}:plaintext`);
        await events.clientId();
        await sleep(100);
        const update = updateOf(name, writing('told'));
        await once([update]);
        const { id } = await events.find(({ event }) => event === 'message');
        assert.equal(id, messageId(encode(update)));
    });

    // ---- HTTP ---------------------------------------------------------------------------------------
    await suite.test('what is wrong with a request is said', async () => {
        const events = await open();
        const id = await events.clientId();
        const message = arrayOf([encode(syncStep1('x'))]);
        const status = async (path, body, options) => (await post(`${server.http}${path}`, body, options)).status;
        assert.equal(await status('/sse', message), 400);
        assert.equal(await status('/sse', bytes('0301'), { headers: { 'x-teleportal-client-id': id } }), 400);
        assert.equal(await status('/message', bytes('0301')), 400);
        assert.equal(await status('/message', message, { headers: { 'Content-Type': 'text/plain' } }), 415);
        assert.equal(await status('/message', Buffer.alloc((10 << 20) + (64 << 10) + 1)), 413);
        assert.equal(await status('/message', arrayOf(Array(1025).fill(encode(syncStep1('x'))))), 413);
        for (const method of ['PUT', 'DELETE', 'OPTIONS']) assert.equal((await request(`${server.http}/sse`, { method })).status, 405, method);
        assert.equal((await request(`${server.http}/message`)).status, 405);
        assert.equal((await request(`${server.http}/sse`, { method: 'HEAD' })).headers['content-type'], 'text/event-stream');
        assert.equal((await request(`${server.http}/sse?documents=a%00b`)).status, 400);
        assert.equal(await status(`/sse?client-id=${id}`, message), 200, 'the id may stand in the query');
        assert.equal(await status(`/teleportal/sse?client-id=${id}`, message), 200, 'the path may have a prefix');
    });

    await suite.test('requests in one packet, in chunks and byte by byte are answered in order', async () => {
        const body = arrayOf([encode(syncStep1(fresh('pipe')))]).toString('latin1');
        const head = more => `POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n${more}\r\n\r\n`;
        const whole = `${head(`Content-Length: ${body.length}`)}${body}`;
        const chunked = `${head('Transfer-Encoding: chunked')}5\r\n${body.slice(0, 5)}\r\n${(body.length - 5).toString(16)}\r\n${body.slice(5)}\r\n0\r\n\r\n`;
        const socket = await tcp(server.port);
        suite.after(() => socket.destroy());
        const count = () => socket.text.split('HTTP/1.1 200 OK').length - 1;
        socket.write(whole + chunked + whole + chunked, 'latin1');
        await until(() => count() === 4, () => socket.text);
        for (const byte of whole) {
            socket.write(byte, 'latin1');
            await sleep(1);
        }
        await until(() => count() === 5, 'the slow one');
        assert.ok(!socket.destroyed);
    });

    await suite.test('a page of a configured origin may, and is told so; another is not', async () => {
        const ask = origin => request(`${server.http}/sse`, { method: 'OPTIONS', headers: { Origin: origin, 'Access-Control-Request-Method': 'POST' } });
        const yes = await ask('http://app.example');
        assert.equal(yes.status, 204);
        assert.equal(yes.headers['access-control-allow-origin'], 'http://app.example');
        assert.match(yes.headers['access-control-allow-headers'], /x-teleportal-client-id/);
        const no = await ask('http://other.example');
        assert.equal(no.headers['access-control-allow-origin'], undefined);
        assert.equal(no.headers.vary, 'Origin');
        const events = await open('', { headers: { Origin: 'http://app.example' } });
        assert.equal(events.response.headers['access-control-allow-origin'], 'http://app.example');
    });

    await suite.test('a GET with Last-Event-ID is told to begin anew', async () => {
        assert.equal((await request(`${server.http}/sse`, { headers: { 'Last-Event-ID': 'ping' } })).status, 204);
    });

    // ---- whose a stream is --------------------------------------------------------------------------
    await suite.test('nobody posts into the stream of somebody else, or takes it over', async () => {
        const name = fresh('hijack');
        const victim = await open();
        const id = await victim.clientId();
        await say(id, [announce(name, 1)]);
        const spy = await TRaw.open(server.teleportal);
        suite.after(() => spy.cut());
        const { frames } = await spy.ask(announce(name, 2));
        const shown = frames.find(frame => frame.awarenessId === 1).clientId;
        assert.notEqual(shown, id, 'what others see is not what one posts with');
        for (const wrong of [shown, 'x', `${id}0`, id.replace(/.$/, c => (c === '0' ? '1' : '0')), id.toUpperCase()])
            assert.equal((await say(wrong, [updateOf(name, writing('forged'))])).status, 404, wrong);
        const thief = await open(`?client-id=${id}`, { headers: { 'x-teleportal-client-id': id } });
        assert.notEqual(await thief.clientId(), id);
        assert.equal((await say(id, [updateOf(name, writing('mine'))])).status, 200);
        assert.equal((await read(name)).getText('text').toString(), 'mine');
        await sleep(50);
        assert.deepEqual(thief.list, []);
        victim.cut();
        await until(async () => (await say(id, [syncStep1(name)])).status === 404, 'an id ends with its stream');
    });

    // ---- pace ---------------------------------------------------------------------------------------
    await suite.test('a body of 1000 updates is taken, with an ack for each', async () => {
        const name = fresh('many');
        const events = await open();
        const id = await events.clientId();
        const doc = new Y.Doc();
        const messages = Array.from({ length: 1000 }, (_, i) => updateOf(name, writing(`${i} `, doc)));
        assert.equal((await say(id, messages)).status, 200);
        const acks = events.list.filter(({ event }) => event === 'message').map(frameOf);
        assert.deepEqual(acks.map(ack => ack.messageId), messages.map(message => messageId(encode(message))));
        assert.equal(disagreement([doc, await read(name)]), null);
    });

    await suite.test('a refused message completes its POST, one that waits for its NACK ends in 504', async () => {
        const name = fresh('nack');
        const id = await (await open()).clientId();
        const garbage = updateOf(name, bytes('01030102030000'));
        assert.equal((await say(id, [garbage])).status, 200);
        assert.equal((await say(id, [syncStep1('')])).status, 200);
        const results = [];
        for (let i = 0; i < 3; i++) results.push((await say(id, [garbage])).status);
        assert.deepEqual(results, [200, 200, 200], 'the delays of 1, 2 and 4 s are shorter than 5 s');
        const late = await say(id, [garbage]);
        assert.equal(late.status, 504);
        assert.match(late.body.toString(), new RegExp(`ACK timeout for message ${messageId(encode(garbage))}`));
    });

    await suite.test('a client that does not read gets the state when it reads again', async () => {
        const name = fresh('slow');
        const events = await open();
        const id = await events.clientId();
        await say(id, [syncStep1(name)]);
        events.response.pause();
        const doc = new Y.Doc();
        for (let i = 0; i < 24; i++) assert.equal((await once([updateOf(name, writing(String.fromCharCode(97 + i).repeat(1 << 20), doc))])).status, 200);
        const copy = new Y.Doc();
        const apply = event => {
            if (event.event !== 'message') return;
            const frame = frameOf(event);
            if ((frame.kind === 'update' || frame.kind === 'sync-step-2') && openEnvelope(frame.body).length > 0) Y.applyUpdateV2(copy, openEnvelope(frame.body));
        };
        events.list.splice(0).forEach(apply);
        events.onEvent = apply;
        events.response.resume();
        await until(() => disagreement([doc, copy]) === null, 'the whole document', 20_000);
    });

    // ---- together -----------------------------------------------------------------------------------
    await suite.test('clients over HTTP, WebSocket and y-websocket edit one document and agree', async () => {
        const name = fresh('mixed');
        const overHttp = Array.from({ length: 4 }, () => new SseConnection(server.http));
        const overSocket = Array.from({ length: 2 }, () => new TeleportalConnection(server.teleportal));
        suite.after(() => [...overHttp, ...overSocket].forEach(connection => connection.destroy()));
        const documents = [...overHttp, ...overSocket].map(connection => connection.open(name));
        const others = Array.from({ length: 2 }, () => new YClient(server.yjs, name));
        suite.after(() => others.forEach(client => client.destroy()));
        await Promise.all(documents.map(document => document.synced()));
        const docs = [...documents, ...others].map(({ doc }) => doc);
        for (let round = 0; round < 60; round++) {
            edits(random.pick(docs), random, 2);
            if (round % 15 === 14) random.pick(overHttp).cut();
            await sleep(random.below(20));
        }
        await Promise.all(documents.map(document => document.synced(20_000)));
        await agreeing(docs);
        for (const { failure } of [...overHttp, ...overSocket]) assert.equal(failure, null);
        assert.equal(disagreement([docs[0], await read(name)]), null);
    });

    await suite.test('a thousand streams hear every update', async () => {
        const count = suite.options.full ? 5000 : 1000;
        const name = fresh('crowd');
        const before = server.residentSize();
        const crowd = [];
        while (crowd.length < count)
            crowd.push(...await Promise.all(Array.from({ length: 50 }, () => open(`?documents=${name}:plaintext`))));
        await Promise.all(crowd.map(events => events.clientId()));
        await sleep(200);
        const resident = server.residentSize() - before;
        const doc = new Y.Doc();
        const times = [];
        for (let i = 0; i < 10; i++) {
            const began = performance.now();
            await once([updateOf(name, writing(`${i} `, doc))]);
            await Promise.all(crowd.map(events => events.find(({ event }) => event === 'message', 20_000)));
            times.push(Math.round(performance.now() - began));
        }
        suite.note(`${count} streams: ${(resident / count / 1024).toFixed(1)} KiB each, all have an update after ${times.join(', ')} ms`);
    }, { seconds: 120 });

    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

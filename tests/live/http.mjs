// http.mjs - the pages, HTTP/1.1 itself, stopping, and what is said when the server cannot start.
// Spec 01 sections 5.1 and 5.7, spec 02 sections 15 and 16.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { commandLine, freePort, removeDirectory, request, runToEnd, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw, tcp } from './raw.mjs';
import { TRaw, syncStep1, updateOf, writing } from './traw.mjs';
import { STEP2, SYNC, is, step1 } from './yclient.mjs';

const STATUS_KEYS = ['nodeId', 'activeClients', 'activeSessions', 'pendingSessions', 'totalMessagesProcessed',
    'totalDocumentsOpened', 'messageTypeBreakdown', 'rateLimitExceededTotal', 'rateLimitBreakdown',
    'rateLimitTopOffenders', 'rateLimitRecentEvents', 'uptime', 'timestamp', 'totalDocumentSizeBytes',
    'documentsOverWarningThreshold', 'documentsOverLimit'];
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** The answers in `text`, as [{status, headers, body}]; heads of `methods` HEAD have no body. */
function answers(text, methods = []) {
    const out = [];
    for (let at = 0; ; ) {
        const end = text.indexOf('\r\n\r\n', at);
        if (end < 0) return out;
        const [line, ...lines] = text.slice(at, end).split('\r\n');
        const headers = Object.fromEntries(lines.map(l => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()]));
        const size = methods[out.length] === 'HEAD' ? 0 : Number(headers['content-length'] ?? 0);
        if (text.length < end + 4 + size) return out;
        out.push({ status: Number(line.split(' ')[1]), headers, body: text.slice(end + 4, end + 4 + size) });
        at = end + 4 + size;
    }
}

export default async suite => {
    const { cores } = suite.options;
    const server = await start({ cores });
    const get = (pathname, options) => request(`${server.http}${pathname}`, options);
    const speak = async (...parts) => {
        const socket = await tcp(server.port);
        suite.after(() => socket.destroy());
        for (const part of parts) socket.write(part, 'latin1');
        return socket;
    };
    /** Writes `text` on a connection of its own; its answer and whether the server ended it. */
    const say = async text => {
        const socket = await speak(text);
        await until(() => answers(socket.text).length > 0 || socket.destroyed, 'an answer');
        return answers(socket.text)[0];
    };

    // ---- pages ------------------------------------------------------------------------------------
    await suite.test('/ says what this is', async () => {
        const { status, headers, body } = await get('/');
        assert.equal(status, 200);
        assert.match(headers['content-type'], /^text\/html/);
        assert.match(body, /teleportald/);
    });

    await suite.test('/livez and /readyz answer 200 in a word', async () => {
        for (const pathname of ['/livez', '/readyz']) {
            const { status, body } = await get(pathname);
            assert.equal(status, 200);
            assert.match(body, /^\w+\n$/);
        }
    });

    await suite.test('/health is JSON with the keys of the reference', async () => {
        const { status, headers, body } = await get('/health');
        assert.equal(status, 200);
        assert.match(headers['content-type'], /^application\/json/);
        const health = JSON.parse(body);
        assert.deepEqual(Object.keys(health), ['status', 'timestamp', 'checks', 'uptime']);
        assert.equal(health.status, 'healthy');
        assert.match(health.timestamp, ISO);
        assert.ok(Math.abs(Date.parse(health.timestamp) - Date.now()) < 5000);
        assert.ok(Number.isInteger(health.uptime) && health.uptime < 60);
    });

    await suite.test('/status counts clients, sessions and messages under the keys of the reference', async () => {
        const before = JSON.parse((await get('/status')).body);
        assert.deepEqual(Object.keys(before), STATUS_KEYS);
        const raw = await TRaw.open(server.teleportal);
        suite.after(() => raw.cut());
        await raw.ask(syncStep1('counted'));
        await raw.ask(updateOf('counted', writing('x')));
        const ysocket = await Raw.open(`${server.yjs}/counted-too`);
        suite.after(() => ysocket.cut());
        ysocket.send(step1());
        await ysocket.find(is(SYNC, STEP2));
        const after = await until(async () => {
            const status = JSON.parse((await get('/status')).body);
            return status.activeClients - before.activeClients === 2 && status;
        }, 'two more clients');
        assert.equal(after.activeSessions - before.activeSessions, 2);
        assert.ok(after.totalDocumentsOpened - before.totalDocumentsOpened >= 2);
        assert.ok(after.messageTypeBreakdown.doc - (before.messageTypeBreakdown.doc ?? 0) >= 3);
        assert.ok(after.totalMessagesProcessed > before.totalMessagesProcessed);
        assert.match(after.timestamp, ISO);
        assert.equal(after.rateLimitExceededTotal, 0);
    });

    await suite.test('/metrics is what Prometheus understands', async () => {
        const { status, headers, body } = await get('/metrics');
        assert.equal(status, 200);
        assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
        for (const name of ['teleportal_clients_active', 'teleportal_sessions_active', 'teleportal_messages_total', 'teleportal_documents_opened_total'])
            assert.match(body, new RegExp(`^# TYPE ${name} `, 'm'));
        const checked = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
        if (checked.error) suite.note('promtool is not installed: the page was not checked by it');
        else {
            // These names are the reference server's, which dashboards know.
            const ours = (checked.stderr + checked.stdout).split('\n').filter(line => line !== '' && !line.startsWith('teleportal_rate_limit_'));
            assert.deepEqual(ours, []);
            assert.ok([0, 3].includes(checked.status), `promtool ended with ${checked.status}`); // 3: remarks of style
        }
    });

    await suite.test('/metrics and /status are not shown to everybody unless public_metrics is on', async () => {
        const shy = await start({ cores, config: { public_metrics: 'off' } });
        suite.after(() => shy.stop());
        for (const pathname of ['/metrics', '/status'])
            assert.ok([403, 404].includes((await request(`${shy.http}${pathname}`)).status), pathname);
        assert.equal((await request(`${shy.http}/health`)).status, 200);
    });

    await suite.test('what is not there is 404, also below what is there', async () => {
        for (const pathname of ['/nothing', '/health/x', '/metricsx', '/%2e%2e/etc/passwd', '/../../etc/passwd'])
            assert.equal((await get(pathname)).status, 404, pathname);
    });

    await suite.test('a query does not hide a page', async () => {
        assert.equal((await get('/health?verbose=1')).status, 200);
    });

    await suite.test('a WebSocket path asked for without upgrade is told so, and the connection goes on', async () => {
        for (const pathname of ['/yjs/room', '/teleportal']) {
            const { status } = await get(pathname);
            assert.ok([400, 404, 426].includes(status), `${pathname}: ${status}`);
        }
    });

    await suite.test('methods that a page has not are refused', async () => {
        for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
            const { status } = await get('/health', { method, body: method === 'OPTIONS' ? undefined : 'x' });
            assert.ok([404, 405, 501].includes(status), `${method}: ${status}`);
        }
    });

    // ---- HTTP/1.1 ---------------------------------------------------------------------------------
    await suite.test('HEAD is GET without the body', async () => {
        const { body } = await get('/health');
        const socket = await speak('HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
        await until(() => answers(socket.text, ['HEAD']).length === 2, 'two answers');
        const [head, full] = answers(socket.text, ['HEAD']);
        assert.equal(head.status, 200);
        assert.equal(head.headers['content-length'], full.headers['content-length']);
        assert.equal(head.headers['content-type'], full.headers['content-type']);
        assert.ok(full.body.length > 0 && body.length > 0);
    });

    await suite.test('a connection is kept for the next request', async () => {
        const socket = await speak();
        for (let i = 1; i <= 20; i++) {
            socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
            await until(() => answers(socket.text).length === i, `answer ${i}`);
        }
        assert.ok(!socket.destroyed);
    });

    await suite.test('many requests in one packet are answered in order', async () => {
        const paths = Array.from({ length: 40 }, (_, i) => ['/livez', '/nothing', '/health', '/metrics'][i % 4]);
        const socket = await speak(paths.map(p => `GET ${p} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''));
        await until(() => answers(socket.text).length === paths.length, () => `${answers(socket.text).length} answers`);
        assert.deepEqual(answers(socket.text).map(a => a.status), paths.map(p => (p === '/nothing' ? 404 : 200)));
    });

    await suite.test('a request that comes byte by byte is a request', async () => {
        const socket = await speak();
        socket.setNoDelay(true);
        for (const byte of 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n') {
            socket.write(byte);
            await sleep(1);
        }
        await until(() => answers(socket.text)[0]?.status === 200, 'an answer');
    });

    await suite.test('Connection: close and HTTP/1.0 end the connection after the answer', async () => {
        for (const text of ['GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 'GET /livez HTTP/1.0\r\n\r\n']) {
            const socket = await speak(text);
            await until(() => answers(socket.text).length === 1 && socket.closed, 'an answer and the end');
            assert.equal(answers(socket.text)[0].status, 200);
        }
    });

    for (const [what, text, statuses] of [
        ['garbage', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n', [400]],
        ['no version', 'GET /\r\n\r\n', [400, 505]],
        ['an unknown method', 'BREW / HTTP/1.1\r\nHost: x\r\n\r\n', [400, 404, 405, 501]],
        ['no Host', 'GET /livez HTTP/1.1\r\n\r\n', [400]],
        ['a blank before the colon', 'GET /livez HTTP/1.1\r\nHost : x\r\n\r\n', [400]],
        ['two lengths', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab', [400]],
        ['a negative length', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', [400]],
        ['length and chunks together', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', [400]],
        ['a huge length', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n', [400, 404, 413]],
        ['a head of 200 KiB', `GET / HTTP/1.1\r\nHost: x\r\n${'X-Long: '.concat('y'.repeat(1000), '\r\n').repeat(200)}\r\n`, [400, 413, 431]],
        ['a target of 100 KiB', `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, [400, 414, 431]],
    ])
        await suite.test(`a request with ${what} is refused, and others are served`, async () => {
            const answer = await say(text);
            assert.ok(answer, 'an answer came');
            assert.ok(statuses.includes(answer.status), `status ${answer.status}`);
            assert.equal((await get('/livez')).status, 200);
        });

    const upgrade = (extra = {}, method = 'GET', version = '1.1') => {
        const headers = { Host: 'x', Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...extra };
        return `${method} /yjs/room HTTP/${version}\r\n${Object.entries(headers).filter(([, v]) => v !== null).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`;
    };
    await suite.test('the upgrade is answered as RFC 6455 has it', async () => {
        const answer = await say(upgrade());
        assert.equal(answer.status, 101);
        assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
        assert.match(answer.headers.upgrade, /^websocket$/i);
        assert.match(answer.headers.connection, /upgrade/i);
        assert.equal(answer.headers['sec-websocket-extensions'], undefined);
    });
    for (const [what, text, statuses] of [
        ['version 12', upgrade({ 'Sec-WebSocket-Version': '12' }), [400, 426]],
        ['no key', upgrade({ 'Sec-WebSocket-Key': null }), [400]],
        ['a short key', upgrade({ 'Sec-WebSocket-Key': 'AAAA' }), [400]],
        ['POST', upgrade({}, 'POST'), [400, 404, 405]],
    ])
        await suite.test(`an upgrade with ${what} is refused`, async () => {
            assert.ok(statuses.includes((await say(text)).status));
        });

    await suite.test('a thousand connections that say nothing keep nobody out', async () => {
        const sockets = await Promise.all(Array.from({ length: 1000 }, () => tcp(server.port)));
        suite.after(() => sockets.forEach(socket => socket.destroy()));
        assert.equal((await get('/livez')).status, 200);
    });

    // ---- stopping ---------------------------------------------------------------------------------
    await suite.test('SIGTERM: not ready, close frames, everything stored, exit 0, within the drain time', async () => {
        const data = temporaryDirectory();
        suite.after(() => removeDirectory(data));
        const leaving = await start({ cores, data, config: { drain_seconds: 2 } });
        const raws = await Promise.all(Array.from({ length: 10 }, () => TRaw.open(leaving.teleportal)));
        for (const [i, raw] of raws.entries()) await raw.ask(updateOf(`drain-${i}`, writing(`text ${i}`)));
        const began = Date.now();
        const stopped = leaving.stop({ keepData: true });
        const codes = await Promise.all(raws.map(raw => raw.close(10_000)));
        await stopped;
        suite.note(`stopped after ${Date.now() - began} ms`);
        assert.ok(Date.now() - began < 8000);
        assert.deepEqual(codes.filter(({ code }) => ![1001, 1012].includes(code)), []);
        const again = await start({ cores, data });
        suite.after(() => again.stop());
        const raw = await TRaw.open(again.teleportal);
        suite.after(() => raw.cut());
        for (const i of raws.keys()) {
            const { frames } = await raw.ask(syncStep1(`drain-${i}`));
            assert.ok(frames[0].body.length > 4, `drain-${i} is there`);
        }
    });

    await suite.test('first it is not ready and serves, then those whose turn to go has not come are served on', async () => {
        const leaving = await start({ cores, config: { unready_seconds: 1, drain_seconds: 3 } });
        const crowd = await Promise.all(Array.from({ length: 1500 }, () => TRaw.open(leaving.teleportal)));
        suite.after(() => crowd.forEach(raw => raw.cut()));
        let gone = 0;
        for (const raw of crowd) raw.raw.socket.on('close', () => gone++);
        const stopped = leaving.stop();
        await until(async () => (await request(`${leaving.http}/readyz`)).status === 503, 'it says that it is not ready');
        const [author, reader] = await Promise.all([TRaw.open(leaving.teleportal), TRaw.open(leaving.teleportal)]);
        await Promise.all([author, reader].map(raw => raw.ask(syncStep1('last'))));
        assert.equal(gone, 0, 'nobody had to go yet');
        await until(() => gone > 100, 'the first go');
        if (gone < 1400) {
            await author.ask(updateOf('last', writing('still here')));
            assert.ok(gone < 1502, 'an acknowledgement, while others have gone');
        }
        const codes = await Promise.all([author, reader].map(raw => raw.close(10_000)));
        await stopped;
        assert.deepEqual(codes.filter(({ code }) => ![1001, 1012].includes(code)), []);
        assert.equal(gone, 1500);
    });

    await suite.test('without clients SIGTERM, SIGUSR2 and SIGINT end it at once', async () => {
        for (const signal of ['SIGTERM', 'SIGUSR2', 'SIGINT']) {
            const leaving = await start({ cores });
            const began = Date.now();
            await leaving.stop({ signal });
            assert.ok(Date.now() - began < 2000, `${signal} took ${Date.now() - began} ms`);
        }
    });

    await suite.test('a second SIGTERM ends the wait for clients', async () => {
        const leaving = await start({ cores, config: { drain_seconds: 60 } });
        const raws = await Promise.all(Array.from({ length: 5 }, () => TRaw.open(leaving.teleportal)));
        for (const [i, raw] of raws.entries()) await raw.ask(syncStep1(`slow-${i}`));
        leaving.signal('SIGTERM');
        await sleep(300);
        const began = Date.now();
        await leaving.stop();
        assert.ok(Date.now() - began < 3000, `took ${Date.now() - began} ms`);
        raws.forEach(raw => raw.cut());
    });

    // ---- clusters ---------------------------------------------------------------------------------
    await suite.test('/route says to which node a document belongs, and who is next', async () => {
        const nodes = 'a=10.0.0.1:1234, b=10.0.0.2:1234*2,c=[fd00::3]:443';
        const member = await start({ cores, config: { cluster_nodes: nodes, cors_origins: 'https://app.example' } });
        const ask = (query, options) => request(`${member.http}/route?${query}`, options);
        const { status, headers, body } = await ask('document=notes%2F1', { headers: { Origin: 'https://app.example' } });
        assert.equal(status, 200);
        assert.match(headers['content-type'], /^application\/json/);
        assert.equal(headers['access-control-allow-origin'], 'https://app.example');
        const order = JSON.parse(body).nodes;
        assert.deepEqual(order.map(({ node, address }) => `${node} ${address}`).sort(), ['a 10.0.0.1:1234', 'b 10.0.0.2:1234', 'c [fd00::3]:443']);
        assert.deepEqual(JSON.parse((await ask('document=notes%2F1')).body).nodes, order, 'twice the same');
        const owners = new Set();
        for (let i = 0; i < 40; i++) owners.add(JSON.parse((await ask(`document=d${i}&room=r`)).body).nodes[0].node);
        assert.equal(owners.size, 3);
        for (const query of ['', 'document=', 'document=%00', 'document=%ff', 'document=%4', `document=${'x'.repeat(1025)}`, 'document=a&room=%01'])
            assert.equal((await ask(query)).status, 400, query);
        await member.stop();
        assert.equal((await get('/route?document=a')).status, 404, 'a server that is alone');
    });

    // ---- not starting -----------------------------------------------------------------------------
    /** Must end by itself with a failure and one clear sentence that has `word` in it. */
    const refuses = async (args, word) => {
        const { code, signal, stderr } = await runToEnd(args);
        assert.equal(signal, null, stderr);
        assert.ok(code !== 0, 'a failure');
        assert.match(stderr, word);
        const lines = stderr.trim().split('\n');
        assert.ok(lines.length <= 2, `one sentence, not ${lines.length}:\n${stderr}`);
    };
    const arguments_ = async (options = {}) => {
        const data = options.data ?? temporaryDirectory();
        if (options.data === undefined) suite.after(() => removeDirectory(data));
        return commandLine({ port: await freePort(), cores, ...options, data });
    };
    const withFile = async text => {
        const dir = temporaryDirectory();
        suite.after(() => removeDirectory(dir));
        const file = path.join(dir, 'broken.conf');
        fs.writeFileSync(file, text);
        return ['--config', file, '--listen', `127.0.0.1:${await freePort()}`, '--data', path.join(dir, 'data')];
    };

    for (const [what, args, word] of [
        ['an unknown option on the command line', async () => [...(await arguments_()), '--colour', 'red'], /colour/],
        ['an option without its value', async () => [...(await arguments_()), '--cores'], /cores/],
        ['a value out of bounds', async () => [...(await arguments_()), '--cores', '0'], /cores/],
        ['a word for a number', async () => [...(await arguments_()), '--cores', 'many'], /many/],
        ['an unknown durability', async () => [...(await arguments_()), '--durability', 'perhaps'], /perhaps/],
        ['a broken address', async () => [...(await arguments_()), '--listen', 'nowhere'], /nowhere/],
        ['an unknown option in the file', () => withFile('colour = red\n'), /broken\.conf:1/],
        ['a bad value in the file', () => withFile('\n# comment\ncompact_count = lots\n'), /broken\.conf:3/],
        ['a line that is none', () => withFile('what is this\n'), /broken\.conf/],
        ['a file that is not there', async () => ['--config', path.join(temporaryDirectory(), 'absent.conf')], /absent\.conf/],
    ])
        await suite.test(`${what} is named in one sentence, and nothing starts`, async () => {
            await refuses(await args(), word);
        });

    await suite.test('a port that is taken is named', async () => {
        const taken = net.createServer().listen(0, '127.0.0.1');
        await new Promise(resolve => taken.on('listening', resolve));
        suite.after(() => taken.close());
        const { port } = taken.address();
        await refuses(await arguments_({ port }), new RegExp(String(port)));
    });

    await suite.test('a data directory that another server has open is named', async () => {
        const other = await start({ cores });
        suite.after(() => other.stop());
        await refuses(await arguments_({ data: other.data }), new RegExp(path.basename(other.data)));
        assert.equal((await request(`${other.http}/livez`)).status, 200);
    });

    await suite.test('a data directory that cannot be made is named', async () => {
        const dir = temporaryDirectory();
        suite.after(() => removeDirectory(dir));
        fs.writeFileSync(path.join(dir, 'file'), '');
        await refuses(await arguments_({ data: path.join(dir, 'file', 'data') }), /file.data/);
    });

    await suite.test('--help and --version answer and exit with 0', async () => {
        for (const flag of ['--help', '--version']) assert.equal((await runToEnd([flag])).code, 0);
    });

    await suite.test('the server has nothing to complain about and ends well', async () => {
        server.checkAlive();
        await server.stop();
    });
};

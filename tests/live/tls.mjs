// tls.mjs - the same clients over TLS: an address `tls://HOST:PORT` beside a plain one.
//
// The certificates are made anew by openssl, one with an ECDSA key and one with RSA.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { WebSocket } from 'ws';
import * as Y from 'yjs';
import { disagreement, edits } from './edits.mjs';
import { commandLine, freePort, patience, request, runToEnd, sleep, start, temporaryDirectory, until, within } from './harness.mjs';
import { TeleportalConnection } from './teleportal-client.mjs';
import { VERSIONS, YClient } from './yclient.mjs';

const KINDS = { ecdsa: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], rsa: ['rsa:2048'] };

/** {certificate, key}: paths. */
function certificate(kind) {
    const dir = temporaryDirectory('tls');
    const files = { certificate: path.join(dir, 'certificate.pem'), key: path.join(dir, 'key.pem') };
    execFileSync('openssl', ['req', '-x509', '-newkey', ...KINDS[kind], '-nodes', '-days', '2', '-subj', '/CN=localhost',
        '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', files.key, '-out', files.certificate],
        { stdio: 'ignore' });
    return files;
}

export default async suite => {
    const { cores } = suite.options;
    const files = certificate('ecdsa');
    const ca = fs.readFileSync(files.certificate);
    const options = kind => ({ tls_certificate: kind.certificate, tls_key: kind.key });
    const begin = async (kind = files, config = {}) => {
        const port = await freePort();
        const server = await start({ cores, config: { ...options(kind), ...config }, extra: ['--listen', `tls://127.0.0.1:${port}`] });
        return Object.assign(server, { tlsPort: port, https: `https://127.0.0.1:${port}`, wss: `wss://127.0.0.1:${port}` });
    };
    const server = await begin();

    class Trusting extends WebSocket {
        constructor(url, protocols) {
            super(url, protocols, { ca });
        }
    }
    let names = 0;
    const fresh = label => `${label}-${names++}`;
    const joinY = (name, options = {}) => {
        const client = new YClient(`${server.wss}/yjs`, name, { version: VERSIONS[names++ % 2], WebSocketPolyfill: Trusting, ...options });
        suite.after(() => client.destroy());
        return client;
    };
    const joinT = name => {
        const connection = new TeleportalConnection(`${server.wss}/teleportal`, { socketOptions: { ca } });
        suite.after(() => connection.destroy());
        return connection.open(name);
    };
    const joinPlain = name => {
        const client = new YClient(server.yjs, name);
        suite.after(() => client.destroy());
        return client;
    };
    const agreeing = clients => until(() => disagreement(clients.map(c => c.doc)) === null, () => disagreement(clients.map(c => c.doc)), 20_000);
    /** A TLS socket that collects text. */
    const speak = async (extra = {}) => {
        const socket = tls.connect({ host: '127.0.0.1', port: server.tlsPort, ca, ...extra });
        suite.after(() => socket.destroy());
        socket.text = '';
        socket.on('data', data => (socket.text += data.toString('latin1')));
        socket.on('error', error => (socket.failure = error));
        socket.over = once(socket, 'end');
        socket.over.catch(() => {});
        await once(socket, 'secureConnect');
        return socket;
    };
    const metric = async name => Number(new RegExp(`^${name} (\\d+)`, 'm').exec((await request(`${server.http}/metrics`)).body)?.[1]);

    await suite.test('clients of every kind edit one document, over TLS and without', async () => {
        const name = fresh('edit');
        const clients = [joinY(name), joinT(name), joinPlain(name), joinY(name), joinT(name)];
        await Promise.all(clients.map(client => client.synced()));
        const random = suite.random;
        for (let round = 0; round < 30; round++) {
            for (const client of clients) edits(client.doc, random, 1);
            if (round % 10 === 9) await sleep(20);
        }
        await agreeing(clients);
    });

    await suite.test('a document of several MB goes up and down whole', async () => {
        const name = fresh('large');
        const author = joinY(name);
        await author.synced();
        const text = Buffer.alloc(3 << 20, 'wide as a record, and wider. ').toString();
        author.doc.getText('t').insert(0, text);
        const [reader, other] = [joinT(name), joinY(name)];
        await until(() => reader.doc.getText('t').length === text.length && other.doc.getText('t').length === text.length, 'it came', 30_000);
        assert.equal(reader.doc.getText('t').toString(), text);
        await agreeing([author, reader, other]);
    });

    await suite.test('40 clients on 20 documents, whose connections move to the cores of these', async () => {
        const all = Array.from({ length: 20 }, () => fresh('move')).map(name => [joinY(name), joinT(name)]);
        await Promise.all(all.flat().map(client => client.synced(20_000)));
        for (const [a, b] of all) {
            a.doc.getMap('m').set('a', 1);
            b.doc.getMap('m').set('b', 2);
        }
        for (const pair of all) await agreeing(pair);
    });

    for (const [version, name] of [['TLSv1.3', 'TLS 1.3'], ['TLSv1.2', 'TLS 1.2']])
        await suite.test(`${name} is spoken, with a cipher of our choice, and HTTP/1.1 agreed on`, async () => {
            const socket = await speak({ minVersion: version, maxVersion: version, ALPNProtocols: ['h2', 'http/1.1'] });
            assert.equal(socket.getProtocol(), version);
            assert.match(socket.getCipher().standardName, /CHACHA20_POLY1305/);
            assert.equal(socket.alpnProtocol, 'http/1.1');
            socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
            await until(() => (socket.text.match(/HTTP\/1.1 200/g) ?? []).length === 2, 'two answers on one connection');
            await within(socket.over, 3000, 'the end that it asked for');
            assert.equal(socket.failure, undefined, 'the end was said, not only a lost connection');
        });

    await suite.test('a request of one byte a record is a request', async () => {
        const socket = await speak();
        for (const letter of 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n') {
            socket.write(letter);
            await sleep(1);
        }
        await until(() => /HTTP\/1.1 200/.test(socket.text), 'an answer');
    });

    await suite.test('a session is resumed', async () => {
        const first = await speak({ minVersion: 'TLSv1.3' });
        first.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
        const [session] = await within(once(first, 'session'), 3000, 'a ticket');
        assert.equal((await speak({ session, minVersion: 'TLSv1.3' })).isSessionReused(), true);
    });

    await suite.test('older versions and weak ciphers are refused, and the next client is served', async () => {
        const before = await metric('teleportald_net_tls_errors_total');
        const refused = extra => new Promise(resolve => {
            const socket = tls.connect({ host: '127.0.0.1', port: server.tlsPort, ca, ...extra });
            socket.on('secureConnect', () => resolve(null));
            socket.on('error', resolve);
        });
        assert.ok(await refused({ minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }), 'TLS 1.1');
        assert.ok(await refused({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA:AES128-SHA:@SECLEVEL=0' }), 'CBC');
        await speak();
        await until(async () => (await metric('teleportald_net_tls_errors_total')) >= before + 2, 'they are counted');
    });

    for (const [what, bytes] of [
        ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
        ['noise', Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7919) & 255))],
        ['a record that claims more than a record has', Buffer.from([22, 3, 3, 255, 255, ...Array(100).fill(1)])],
    ])
        await suite.test(`${what} on that port ends the connection, and no other`, async () => {
            const good = joinY(fresh('beside'));
            await good.synced();
            const socket = net.connect(server.tlsPort, '127.0.0.1');
            suite.after(() => socket.destroy());
            socket.on('error', () => {});
            socket.on('data', () => {});
            socket.write(bytes);
            await within(once(socket, 'close'), 4000, 'it is closed');
            server.checkAlive();
            assert.equal(good.connections, 1);
        });

    await suite.test('a record that somebody changed on the way ends the connection', async () => {
        const wire = net.connect(server.tlsPort, '127.0.0.1');
        suite.after(() => wire.destroy());
        await once(wire, 'connect');
        const socket = tls.connect({ socket: wire, ca, host: '127.0.0.1' });
        socket.on('error', () => {});
        wire.on('error', () => {});
        await once(socket, 'secureConnect');
        socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
        await within(once(socket, 'data'), 3000, 'an answer');
        wire.write(Buffer.from([23, 3, 3, 0, 40, ...Array(40).fill(7)])); // past the TLS layer
        await within(once(wire, 'close'), 4000, 'it is closed');
        server.checkAlive();
    });

    await suite.test('what 20 readers that stop reading have missed is not encrypted in advance', async () => {
        const name = fresh('slow');
        const author = joinY(name);
        const slow = Array.from({ length: 20 }, () => joinY(name));
        await Promise.all([author, ...slow].map(client => client.synced()));
        for (const client of slow) client.provider.ws._socket.pause();
        const before = server.residentSize();
        for (let i = 0; i < 60; i++) {
            author.doc.getMap('m').set('k', `${i}`.repeat(200_000));
            await sleep(5);
        }
        const grown = server.residentSize() - before;
        // 22 MB were written: for each of them that were 440. A sanitizer keeps freed memory.
        assert.ok(patience > 1 || grown < 160 << 20, `${grown >> 20} MiB`);
        for (const client of slow) client.provider.ws._socket.resume();
        await agreeing([author, ...slow]);
    });

    await suite.test('an event stream comes over TLS', async () => {
        const response = await new Promise((resolve, reject) =>
            https.get(`${server.https}/sse`, { ca, headers: { Accept: 'text/event-stream' } }, resolve).on('error', reject));
        suite.after(() => response.destroy());
        assert.equal(response.statusCode, 200);
        const [first] = await within(once(response.setEncoding('latin1'), 'data'), 3000, 'an event');
        assert.match(first, /^event:client-id\n/);
    });

    await suite.test('a server that stops says so to its clients, then ends TLS in order', async () => {
        const other = await begin(certificate('rsa'));
        const socket = new WebSocket(`${other.wss}/yjs/last`, { rejectUnauthorized: false });
        await once(socket, 'open');
        const closed = once(socket, 'close');
        await other.stop();
        const [code] = await closed;
        assert.ok([1001, 1012].includes(code), `${code}`);
    });

    // ---- what cannot be served --------------------------------------------------------------------
    const rsa = certificate('rsa');
    for (const [what, config, words] of [
        ['without certificate', {}, /certificate; name its files with --tls-certificate FILE and --tls-key FILE/],
        ['with a certificate that is not there', options({ ...files, certificate: '/nowhere/at/all.pem' }), /certificate file cannot be read.*\/nowhere\/at\/all\.pem/],
        ['with a key that is no key', options({ ...files, key: files.certificate }), /key file holds no PEM key/],
        ['with the key of another certificate', options({ ...files, key: rsa.key }), /not that of the certificate/],
    ])
        await suite.test(`${what} it does not start, and says why in a sentence`, async () => {
            const port = await freePort();
            const data = temporaryDirectory();
            const { code, stderr } = await runToEnd(commandLine({ port, data, config, extra: ['--listen', `tls://127.0.0.1:${await freePort()}`] }));
            assert.notEqual(code, 0);
            assert.match(stderr, words);
            assert.equal(stderr.trim().split('\n').filter(line => /TLS|tls:/.test(line)).length, 1, stderr);
        });

    await suite.test('the server has nothing to complain about and ends well', () => server.stop());
};

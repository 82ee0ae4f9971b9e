// admin.mjs - the management listener: what it shows, to whom, and what it does.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { commandLine, freePort, request, runToEnd, start, temporaryDirectory, until } from './harness.mjs';
import { upgrade } from './raw.mjs';
import { Key, keyFile } from './tokens.mjs';
import { TRaw, syncStep1 } from './traw.mjs';

const TOKEN = 'correct-horse-battery-staple';
const bearer = token => ({ headers: { authorization: `Bearer ${token}` } });

/** A token file that `write` replaces, and the config that names it. */
function tokenFile(text = `${TOKEN}\n`) {
    const file = path.join(temporaryDirectory('admin'), 'token');
    const write = next => fs.writeFileSync(file, next);
    write(text);
    return { file, write, config: { admin: '127.0.0.1:0', admin_token_file: file } };
}

export default async suite => {
    const { cores } = suite.options;
    const server = await start({ cores, config: { admin: '127.0.0.1:0', public_metrics: 'off' } });

    await suite.test('metrics, status and health are on the management listener; the public one keeps the first two to itself', async () => {
        for (const page of ['/livez', '/readyz', '/health', '/metrics', '/status'])
            assert.equal((await server.manage('GET', page)).status, 200, page);
        for (const [page, status] of [['/livez', 200], ['/readyz', 200], ['/health', 200], ['/metrics', 404], ['/status', 404], ['/v1/docs', 404]])
            assert.equal((await request(`${server.http}${page}`)).status, status, page);
        assert.match((await server.manage('GET', '/metrics')).body, /^teleportal_clients_active 0$/m);
    });

    await suite.test('what is not there is 404, a wrong method 405 that names the right one, a WebSocket is turned away', async () => {
        assert.equal((await server.manage('GET', '/v1/nothing')).status, 404);
        const wrong = await server.manage('GET', '/v1/auth/recheck');
        assert.deepEqual([wrong.status, wrong.headers.allow], [405, 'POST']);
        assert.equal(typeof wrong.json.error, 'string');
        assert.equal(await upgrade(`${server.admin.replace('http', 'ws')}/teleportal`), 404);
    });

    await suite.test('without a token no page of another site is heard, whatever it calls this machine', async () => {
        for (const headers of [{ host: 'evil.example' }, { host: 'localhost.evil.example' }, { origin: 'http://localhost' }]) {
            assert.equal((await server.manage('GET', '/status', { headers })).status, 403, JSON.stringify(headers));
            assert.equal((await server.manage('POST', '/v1/auth/recheck', { headers })).status, 403);
        }
        for (const host of ['localhost', 'localhost:9180', '127.0.0.1', '[::1]:1'])
            assert.equal((await server.manage('GET', '/status', { headers: { host } })).status, 200, host);
    });

    await suite.test('with a token file everything but health wants the token', async () => {
        const tokens = tokenFile();
        const one = await start({ cores, config: tokens.config });
        suite.after(() => one.stop());
        for (const page of ['/livez', '/readyz', '/health'])
            assert.equal((await one.manage('GET', page)).status, 200, page);
        for (const page of ['/metrics', '/status', '/v1/docs', '/v1/auth/recheck']) {
            const refused = await one.manage('GET', page);
            assert.deepEqual([refused.status, refused.headers['www-authenticate']], [401, 'Bearer'], page);
            for (const wrong of [TOKEN.slice(1), `${TOKEN}x`, ''])
                assert.equal((await one.manage('GET', page, bearer(wrong))).status, 401, `${page} ${wrong}`);
        }
        for (const page of ['/metrics', '/status'])
            assert.equal((await one.manage('GET', page, bearer(TOKEN))).status, 200, page);
        assert.equal((await one.manage('POST', '/v1/auth/recheck', bearer(TOKEN))).status, 200);
        assert.equal((await one.manage('GET', '/status', { headers: { authorization: `bearer ${TOKEN}`, host: 'any.example' } })).status, 200);
    });

    await suite.test('SIGHUP reads the token again, and keeps the old one when the file is no token', async () => {
        const tokens = tokenFile();
        const one = await start({ cores, config: tokens.config });
        suite.after(() => one.stop());
        const status = async token => (await one.manage('GET', '/status', bearer(token))).status;
        tokens.write('another-token-of-some-length\n');
        one.signal('SIGHUP');
        await until(async () => (await status('another-token-of-some-length')) === 200, 'the new token');
        assert.equal(await status(TOKEN), 401);
        tokens.write('short\n');
        one.signal('SIGHUP');
        await until(() => one.stderr.includes('keys not reloaded'), 'the line that says so');
        assert.equal(await status('another-token-of-some-length'), 200);
    });

    await suite.test('a recheck closes who came with a key that is gone, on every core, and says how many', async () => {
        const old = new Key('ES256', 'old'), next = new Key('EdDSA', 'next');
        const changing = keyFile([old, next], tokenFile().config);
        const one = await start({ cores, config: changing.config });
        suite.after(() => one.stop());
        const recheck = async () => (await one.manage('POST', '/v1/auth/recheck', bearer(TOKEN))).json;
        const enter = async (signer, document) => {
            const raw = await TRaw.open(`${one.teleportal}?token=${signer.token()}`);
            suite.after(() => raw.cut());
            await raw.ask(syncStep1(document)); // now it is on the core of its document
            return raw;
        };
        const gone = [];
        for (let i = 0; i < 6; i++) gone.push(await enter(old, `d${i}`));
        const stays = await enter(next, 'd0');
        assert.deepEqual(await recheck(), { closed: 0 });
        changing.write([next]);
        one.signal('SIGHUP');
        await until(async () => (await upgrade(`${one.teleportal}?token=${old.token()}`)) === 401, 'the old key to go');
        assert.deepEqual(await recheck(), { closed: 6 });
        for (const raw of gone) assert.equal((await raw.close()).code, 4401);
        assert.deepEqual((await stays.ask(syncStep1('d0'))).words, ['sync-step-2', 'sync-step-1', 'ack']);
        assert.deepEqual(await recheck(), { closed: 0 });
    });

    await suite.test('where clients need tokens, management by API needs one, too', async () => {
        const one = await start({ cores, config: keyFile([new Key('HS256')], { admin: '127.0.0.1:0' }).config });
        suite.after(() => one.stop());
        const answer = await one.manage('POST', '/v1/auth/recheck');
        assert.equal(answer.status, 403);
        assert.match(answer.json.error, /admin_token_file/);
        assert.equal((await one.manage('GET', '/status')).status, 200, 'looking is harmless');
    });

    await suite.test('a management address that is taken, or open to others without a token, stops the start in one sentence', async () => {
        const taken = server.admin.slice('http://'.length);
        const short = tokenFile('too-short').config;
        for (const [config, words] of [
            [{ admin: taken }, new RegExp(`${taken} for management.*--admin`)],
            [{ admin: '0.0.0.0:0' }, /0\.0\.0\.0:0.*admin_token_file/],
            [{ admin: '127.evil.example:0' }, /admin_token_file/],
            [{ admin: 'nowhere' }, /nowhere.*HOST:PORT or off/],
            [short, /is no token/],
            [{ ...short, admin_token_file: `${short.admin_token_file}-none` }, /cannot be read/],
        ]) {
            const { code, stderr } = await runToEnd(commandLine({ port: await freePort(), data: temporaryDirectory(), config }));
            assert.ok(code === 1 || code === 2, `exit ${code}: ${stderr}`);
            assert.match(stderr.trim().split('\n').at(-1), words);
        }
    });

    await suite.test('clients that fill a core do not keep the operator out', async () => {
        const one = await start({ cores: 1, config: { admin: '127.0.0.1:0', max_connections: 2 } });
        suite.after(() => one.stop());
        for (let i = 0; i < 2; i++) {
            const raw = await TRaw.open(one.teleportal);
            suite.after(() => raw.cut());
        }
        assert.equal((await request(`${one.http}/livez`)).status, 503);
        assert.equal((await one.manage('GET', '/livez')).status, 200);
    });

    await suite.test('the server under all of this is alive, and ends in order', async () => {
        server.checkAlive();
        await server.stop();
    });
};

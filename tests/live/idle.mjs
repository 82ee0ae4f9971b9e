// idle.mjs - what a client costs that says nothing, and whether closed documents cost anything.
//
// The clients are idle_client.c, compiled here. Resident memory is read from the kernel when the
// server has been quiet for a moment. The first thousand connections fill pools and caches and are
// not counted. Budgets: 2 KiB for an idle synced connection, 3 KiB more for its document when it is
// the only one in it. A sanitizer build has other sizes: it runs the same steps without the budgets.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { here, patience, removeDirectory, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw } from './raw.mjs';
import { SYNC, STEP2, is, step1 } from './yclient.mjs';

const KIB = 1024;

class Clients {
    constructor(tool, port) {
        this.child = spawn(tool, [String(port)], { stdio: ['pipe', 'pipe', 'inherit'] });
        this.lines = readline.createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    }

    async ask(command) {
        this.child.stdin.write(`${command}\n`);
        const { value } = await this.lines.next();
        if (!value || value.startsWith('failed')) throw new Error(`${command}: ${value}`);
        return value;
    }

    open(count, documents, name) {
        return this.ask(`open ${count} ${documents} ${name}`);
    }

    end() {
        this.child.kill('SIGKILL');
    }
}

/** Resident bytes once they have stopped moving. */
async function settled(server) {
    let last = 0;
    for (let same = 0, tries = 0; same < 3 && tries < 40; tries++) {
        await sleep(150);
        const now = server.residentSize();
        same = Math.abs(now - last) <= 64 * KIB ? same + 1 : 0;
        last = now;
    }
    return last;
}

export default async suite => {
    const { cores, full } = suite.options;
    const budgets = patience === 1;
    const bin = temporaryDirectory('bin');
    const tool = path.join(bin, 'idle_client');
    execFileSync(process.env.CC || 'gcc', ['-O2', '-o', tool, path.join(here, 'idle_client.c')]);

    const answers = async server => {
        const raw = await Raw.open(`${server.yjs}/still-serving`);
        raw.send(step1());
        await raw.find(is(SYNC, STEP2));
        raw.cut();
    };

    await suite.test('9 000 idle synced connections cost at most 2 KiB each beyond the first thousand', async () => {
        const server = await start({ cores });
        const clients = new Clients(tool, server.port);
        suite.after(() => server.stop());
        suite.after(() => clients.end());
        await clients.open(1000, 10, 'shared');
        const first = await settled(server);
        const began = Date.now();
        await clients.open(8000, 10, 'shared');
        const took = (Date.now() - began) / 1000;
        const last = await settled(server);
        const each = (last - first) / 8000;
        suite.note(`${(first / KIB / KIB).toFixed(1)} MiB at 1 000, ${(last / KIB / KIB).toFixed(1)} MiB at 9 000: ${each.toFixed(0)} bytes a connection; opened at ${(8000 / took).toFixed(0)}/s`);
        assert.equal(await clients.ask('count'), 'count 9000');
        await answers(server);
        if (budgets) assert.ok(each <= 2 * KIB, `${each.toFixed(0)} bytes a connection`);
        // Two rounds of keepalives later they are all still there, and cost no more.
        await sleep(full ? 32_000 : 16_000);
        assert.equal(await clients.ask('count'), 'count 9000');
        const later = await settled(server);
        if (budgets) assert.ok((later - first) / 8000 <= 2 * KIB, `${((later - first) / 8000).toFixed(0)} bytes a connection after keepalives`);
    }, { seconds: 120 });

    await suite.test('an open idle document costs at most 3 KiB more than its connection', async () => {
        const server = await start({ cores });
        const clients = new Clients(tool, server.port);
        suite.after(() => server.stop());
        suite.after(() => clients.end());
        await clients.open(1000, 1000, 'warm');
        const first = await settled(server);
        await clients.open(4000, 4000, 'own');
        const last = await settled(server);
        const each = (last - first) / 4000;
        suite.note(`${each.toFixed(0)} bytes a connection with a document of its own`);
        if (budgets) assert.ok(each <= 5 * KIB, `${each.toFixed(0)} bytes a connection with its document`);
    }, { seconds: 60 });

    const turns = full ? 50_000 : 25_000;
    await suite.test(`2 x ${turns} documents opened and closed in turn leave nothing behind`, async () => {
        const server = await start({ cores, config: { session_grace_seconds: 0 } });
        const clients = new Clients(tool, server.port);
        suite.after(() => server.stop());
        suite.after(() => clients.end());
        await clients.ask('cycle 2000 warm');
        await sleep(500);
        const before = await settled(server);
        const sizes = [];
        for (const name of ['first', 'second']) {
            const began = Date.now();
            await clients.ask(`cycle ${turns} ${name}`);
            suite.note(`${(turns / ((Date.now() - began) / 1000)).toFixed(0)} documents a second`);
            await sleep(500);
            sizes.push((await settled(server)) - before);
        }
        suite.note(`grown by ${sizes.map(size => `${(size / KIB / KIB).toFixed(1)} MiB`).join(', then ')}`);
        await answers(server);
        if (budgets) {
            assert.ok(sizes[0] <= 16 * KIB * KIB, 'after the first half');
            assert.ok(sizes[1] - sizes[0] <= 4 * KIB * KIB, 'and no more after the second');
        }
    }, { seconds: 200 });

    await suite.test('when all clients go at once the server notices and serves on', async () => {
        const server = await start({ cores });
        const clients = new Clients(tool, server.port);
        suite.after(() => server.stop());
        await clients.open(3000, 30, 'crowd');
        clients.end();
        await until(() => answers(server).then(() => true), 'an answer');
        const again = new Clients(tool, server.port);
        suite.after(() => again.end());
        await again.open(3000, 30, 'crowd');
        server.checkAlive();
    });

    removeDirectory(bin);
};

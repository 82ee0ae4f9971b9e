// allocations.mjs - typing allocates nothing: no thread that serves clients asks the heap for memory
// in the steady state, however many documents and clients there are (allocations.c counts).
//
// Not under a sanitizer, which has a heap of its own.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as Y from 'yjs';
import { binary, here, patience, sleep, start, temporaryDirectory, until } from './harness.mjs';
import { Raw } from './raw.mjs';
import * as y from './yclient.mjs';

const CALLERS = 32; // bytes before the first
const CALLER_SIZE = 16 + 8 * 8;

export default async suite => {
    const { cores, full } = suite.options;
    if (/asan|tsan/.test(binary)) {
        suite.note('not with a sanitizer');
        return;
    }
    const bin = temporaryDirectory('bin');
    const library = path.join(bin, 'allocations.so');
    execFileSync(process.env.CC?.split(' ').at(-1) || 'gcc', ['-O1', '-shared', '-fPIC', '-o', library, path.join(here, 'allocations.c')]);

    const serve = async () => {
        const file = path.join(bin, `counts-${Math.random()}`);
        fs.writeFileSync(file, Buffer.alloc(1 << 16));
        const server = await start({ cores, durability: 'memory', env: { LD_PRELOAD: library, ALLOCATIONS: file },
            config: { compact_count: 1_000_000, compact_size: '1G' } });
        suite.after(() => server.stop());
        const read = () => fs.readFileSync(file);
        return {
            server,
            count: () => Number(read().readBigUInt64LE(0)),
            record() {
                const fd = fs.openSync(file, 'r+');
                fs.writeSync(fd, Buffer.from([1]), 0, 1, 16);
                fs.closeSync(fd);
            },
            /** Who it was, for the failure's text. */
            callers() {
                const counts = read();
                const lines = [];
                for (let i = 0; i < Number(counts.readBigUInt64LE(24)); i++) {
                    const at = CALLERS + i * CALLER_SIZE;
                    const names = Array.from({ length: 5 }, (_, n) => counts.readBigUInt64LE(at + 16 + 8 * n)).filter(address => address > 0n)
                        .map(address => execFileSync('addr2line', ['-fe', binary, `0x${address.toString(16)}`]).toString().split('\n')[0]);
                    lines.push([Number(counts.readBigUInt64LE(at)), `${counts.readBigUInt64LE(at)} x ${counts.readBigUInt64LE(at + 8)} bytes: ${names.join(' < ')}`]);
                }
                return lines.sort((a, b) => b[0] - a[0]).map(([, line]) => line).join('\n');
            },
        };
    };

    for (const [documents, clients, rounds, pause] of [[1, 100, full ? 2000 : 200, 2], [full ? 1000 : 100, 2, full ? 20 : 8, 1]])
        await suite.test(`typing in ${documents} documents of ${clients} clients each allocates nothing per message`, async () => {
            const { server, count, record, callers } = await serve();
            const rooms = [];
            let heard = 0;
            for (let i = 0; i < documents; i++) {
                const raws = await Promise.all(Array.from({ length: clients }, () => Raw.open(`${server.yjs}/typed-${i}`)));
                for (const raw of raws) {
                    suite.after(() => raw.cut());
                    raw.socket.removeAllListeners('message');
                    raw.socket.on('message', () => heard++);
                    raw.send(y.step1());
                }
                rooms.push({ raws, doc: new Y.Doc() });
            }
            await until(() => heard >= documents * clients * 2, 'everybody is synced', 20_000);
            const type = async count => {
                const goal = heard + count * documents * (clients - 1);
                for (let i = 0; i < count; i++) {
                    for (const [at, { raws, doc }] of rooms.entries()) {
                        let made;
                        doc.once('update', update => (made = update));
                        const text = doc.getText('text');
                        text.insert(text.length, 'a');
                        raws[0].send(y.update(made));
                        if (at % 50 === 49) await sleep(pause);
                    }
                    await sleep(pause);
                }
                await until(() => heard >= goal, () => `${goal - heard} messages are missing`, 60_000);
            };
            await type(rounds); // pools and tables grow to what it takes, ... 
            await sleep(2500); // ... and at rest documents give back what they held of it
            const before = count();
            record();
            await type(rounds);
            const made = count() - before;
            const messages = rounds * documents;
            suite.note(`${made} allocations for ${messages} messages to ${clients - 1} peers each`);
            // Whatever is in use at once for the first time is asked for: not what a message needs.
            assert.ok(made <= messages / 10, `${made} allocations for ${messages} messages:\n${callers()}`);
        }, { seconds: full ? 300 : 60 * patience });
};

// faults-control.mjs - the handle on faults.c: a disk, a clock and threads that fail when told to.
//
//     const faults = new Faults();
//     const server = await start({ data: faults.data, env: faults.env });
//     faults.rule(0, { ops: 'write sync', kinds: 'wal', error: 'EIO' });
//     ...
//     faults.clear();

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { binary, here, removeDirectory, temporaryDirectory } from './harness.mjs';

const OPS = { open: 1, write: 2, sync: 4, allocate: 8, read: 16, rename: 32 };
const KINDS = { wal: 1, table: 2, manifest: 4, log: 8, other: 16, directory: 32, any: 63 };
const mask = (words, names) => words.split(' ').reduce((all, word) => all | (names[word] ?? NaN), 0);
// Where the words of `struct control` and of a rule lie, in 8 bytes each.
const CLOCK = 0, FREE = 1, HANG = 2, NAME = 3, HUNG = 5, WATCHDOGS = 6, RULES = 8, RULE_WORDS = 8, HITS = 6, RULE_COUNT = 8;

let library = null;
/** The compiled library, and before it the sanitizer's, which wants to be first. */
function preload() {
    if (library === null) {
        library = path.join(temporaryDirectory('faults'), 'faults.so');
        execFileSync(process.env.CC || 'gcc', ['-O1', '-shared', '-fPIC', '-o', library, path.join(here, 'faults.c'), '-ldl']);
    }
    const needs = execFileSync('ldd', [binary], { encoding: 'utf8' });
    return [...needs.matchAll(/=> (\S*lib[at]san\S*)/g)].map(([, file]) => file).concat(library).join(' ');
}

export class Faults {
    constructor() {
        this.data = temporaryDirectory('faults-data');
        this.file = path.join(temporaryDirectory('faults-control'), 'control');
        fs.writeFileSync(this.file, Buffer.alloc(4096));
        this.fd = fs.openSync(this.file, 'r+');
        this.set(FREE, -1);
        this.env = { LD_PRELOAD: preload(), FAULTS_CONTROL: this.file, FAULTS_DIRECTORY: this.data };
    }

    set(word, value) {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(value));
        fs.writeSync(this.fd, bytes, 0, 8, word * 8);
    }

    get(word) {
        const bytes = Buffer.alloc(8);
        fs.readSync(this.fd, bytes, 0, 8, word * 8);
        return Number(bytes.readBigInt64LE());
    }

    /** What fails: calls of `ops` on files of `kinds`, with `error` (its name; none: they only wait
     * `delay` ms), after `after` calls have passed or writes have got `room` more bytes. */
    rule(nth, { ops, kinds = 'any', error, room = -1, after = 0, delay = 0 }) {
        const first = RULES + nth * RULE_WORDS;
        const words = [mask(kinds, KINDS), error ? os.constants.errno[error] ?? { EDQUOT: 122, EROFS: 30 }[error] : 0, room, after === 0 ? 0 : after + 1, delay, 0];
        words.forEach((value, i) => this.set(first + 1 + i, value));
        this.set(first, mask(ops, OPS)); // last: from here on it stands
    }

    hits(nth = 0) {
        return this.get(RULES + nth * RULE_WORDS + HITS);
    }

    clear() {
        for (let nth = 0; nth < RULE_COUNT; nth++) this.set(RULES + nth * RULE_WORDS, 0);
    }

    /** The wall clock is off by so much from now on. */
    clock(ms) {
        this.set(CLOCK, BigInt(ms) * 1000000n);
    }

    /** Bytes that the disk says are free; null: the truth. */
    free(size) {
        this.set(FREE, size ?? -1);
    }

    /** Threads whose name begins so stand still until `release`. */
    hang(name) {
        const bytes = Buffer.alloc(16);
        bytes.write(name);
        fs.writeSync(this.fd, bytes, 0, 16, NAME * 8);
        this.set(HUNG, 0);
        this.set(HANG, 1);
    }

    get hung() {
        return this.get(HUNG);
    }

    /** How often systemd's watchdog was answered. */
    get watchdogs() {
        return this.get(WATCHDOGS);
    }

    release() {
        this.set(HANG, 0);
    }

    /** For suite.after. */
    end() {
        this.clear();
        this.release();
        fs.closeSync(this.fd);
        removeDirectory(this.data);
    }
}

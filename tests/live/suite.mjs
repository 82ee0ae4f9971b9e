// suite.mjs - the little that a live suite needs of a test runner.
//
// A suite is a module with one default export, `async suite => {...}`, that calls
// `await suite.test('a sentence', async () => {...})` one after another: live tests measure and
// share two cores, so they never overlap. `suite.options` holds {cores, full, seed, only}.

import { patience } from './harness.mjs';

/** A small seeded generator (mulberry32): a failure is repeated with --seed. */
export class Random {
    constructor(seed) {
        this.state = seed >>> 0;
    }
    next() {
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let t = this.state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }
    /** An integer in [0, n). */
    below(n) {
        return Math.floor(this.next() * n);
    }
    pick(list) {
        return list[this.below(list.length)];
    }
    bytes(n) {
        const out = new Uint8Array(n);
        for (let i = 0; i < n; i++) out[i] = this.below(256);
        return out;
    }
}

export class Suite {
    constructor(name, options) {
        this.name = name;
        this.options = options;
        this.passed = 0;
        this.failed = 0;
        this.cleanups = [];
    }

    get random() {
        return (this.generator ??= new Random(this.options.seed));
    }

    /** Runs after the current test, last registered first, also when it failed. */
    after(cleanup) {
        this.cleanups.push(cleanup);
    }

    note(text) {
        console.log(`#   ${text}`);
    }

    async test(sentence, body, { seconds = 60 } = {}) {
        const { only, skip } = this.options;
        if ((only && !sentence.includes(only)) || (skip && sentence.includes(skip))) return;
        const began = Date.now();
        let failure = null;
        let timer;
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error(`took longer than ${seconds * patience} s`)), seconds * 1000 * patience);
        });
        try {
            await Promise.race([body(), late]);
        } catch (error) {
            failure = error;
        }
        clearTimeout(timer);
        for (const cleanup of this.cleanups.splice(0).reverse()) {
            try {
                await cleanup();
            } catch (error) {
                failure ??= error;
            }
        }
        const took = `${Date.now() - began} ms`;
        if (failure) {
            this.failed++;
            console.log(`not ok - ${this.name}: ${sentence} (${took})`);
            console.log(String(failure.stack || failure).split('\n').slice(0, 40).map(line => `    ${line}`).join('\n'));
        } else {
            this.passed++;
            console.log(`ok - ${this.name}: ${sentence} (${took})`);
        }
    }
}

// harness.mjs - starts and stops the servers under test, and says what a server may never say.
//
//     const server = await start({ cores: 2 });      // ready when this resolves
//     server.yjs, server.teleportal, server.http      // where its doors are
//     await server.stop();                            // SIGTERM; throws unless it ended well
//
// The daemon comes from $TELEPORTALD (default build/release/teleportald, seen from the repository
// root), so a sanitizer build is tested by naming it. Every server gets a free port, a data
// directory of its own under the system's temporary folder, and is ended by its process id.
//
// TEST_SERVER=reference starts the server that y-websocket 2.1.0 brings along instead. It exists
// to check the tests: what fails against both is the test's own mistake.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, '../..');
export const isReference = process.env.TEST_SERVER === 'reference';
export const binary = path.resolve(root, process.env.TELEPORTALD || 'build/release/teleportald');
// Sanitizers make everything several times slower: what waits multiplies by this.
export const patience = Number(process.env.TEST_PATIENCE || (/asan|tsan|debug|valgrind/.test(binary) ? 4 : 1));

const READY_MS = 10_000;
const STOP_MS = 20_000;
const FORBIDDEN = /ERROR: (Address|Thread|Undefined\w*)Sanitizer|WARNING: ThreadSanitizer|runtime error|LeakSanitizer|\bbug:|assertion|panic/i;

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Polls `check` until it is truthy. `what` is what the failure says it waited for. */
export async function until(check, what, ms = 10_000) {
    const end = Date.now() + ms * patience;
    for (let pause = 2; ; pause = Math.min(pause * 1.5, 100)) {
        const value = await check();
        if (value) return value;
        if (Date.now() > end) {
            const detail = typeof what === 'function' ? what() : what;
            throw new Error(`waited ${ms * patience} ms in vain: ${detail}`);
        }
        await sleep(pause);
    }
}

/** The promise's value, or an error after `ms`. */
export async function within(promise, ms, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not within ${ms * patience} ms: ${what}`)), ms * patience);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

export async function freePort() {
    const probe = net.createServer();
    probe.listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address();
    probe.close();
    await once(probe, 'close');
    return port;
}

const temporary = new Set();
export function temporaryDirectory(label = 'data') {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), `teleportald-live-${label}-`));
    temporary.add(dir);
    return dir;
}

export function removeDirectory(dir) {
    temporary.delete(dir);
    fs.rmSync(dir, { recursive: true, force: true });
}

const running = new Set();
/** For the runner: nothing outlives the tests, whatever threw. Uses the ids we were given. */
export function endEverything() {
    for (const server of running) {
        try {
            process.kill(server.pid, 'SIGKILL');
        } catch {}
    }
    for (const dir of temporary) fs.rmSync(dir, { recursive: true, force: true });
}
process.on('exit', endEverything);

/** One HTTP request on a connection of its own. Resolves to {status, headers, body}. */
export function request(url, { method = 'GET', headers = {}, body, timeout = 5000 } = {}) {
    return new Promise((resolve, reject) => {
        const req = http.request(url, { method, headers, agent: false, timeout: timeout * patience }, res => {
            const parts = [];
            res.on('data', part => parts.push(part));
            res.on('error', reject);
            res.on('end', () =>
                resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts).toString() }));
        });
        req.on('error', reject);
        req.on('timeout', () => req.destroy(new Error(`no answer from ${url}`)));
        req.end(body);
    });
}

class Server {
    constructor(child, { port, data, ownsData }) {
        Object.assign(this, { child, pid: child.pid, port, data, ownsData });
        this.address = `127.0.0.1:${port}`;
        this.http = `http://${this.address}`;
        this.yjs = isReference ? `ws://${this.address}` : `ws://${this.address}/yjs`;
        this.teleportal = `ws://${this.address}/teleportal`;
        this.stderr = '';
        this.exit = null;
        this.ended = once(child, 'exit').then(([code, signal]) => {
            running.delete(this);
            this.exit = { code, signal };
            return this.exit;
        });
        child.stderr.setEncoding('utf8');
        child.stderr.on('data', text => {
            this.stderr += text;
            if (this.stderr.length > 4 << 20) this.stderr = this.stderr.slice(-(2 << 20));
            if (process.env.TEST_VERBOSE) process.stderr.write(text);
        });
        child.stdout.on('data', () => {});
        running.add(this);
    }

    /** Throws if the server said something that only a broken server says. */
    checkWords() {
        const bad = this.stderr.split('\n').find(line => FORBIDDEN.test(line));
        if (bad) throw new Error(`the server said: ${bad}\n${this.stderr.slice(-6000)}`);
    }

    /** Throws unless the server is alive and has said nothing forbidden. */
    checkAlive() {
        this.checkWords();
        if (this.exit) throw new Error(`the server is gone: ${JSON.stringify(this.exit)}\n${this.stderr.slice(-6000)}`);
    }

    signal(name) {
        process.kill(this.pid, name);
    }

    /** Ends the server in order. Throws unless it exits with 0 in time and said nothing forbidden. */
    async stop({ signal = 'SIGTERM', keepData = false, within: ms = STOP_MS } = {}) {
        if (!this.exit) this.signal(signal);
        try {
            await within(this.ended, ms, `exit after ${signal}`);
        } catch (late) {
            this.signal('SIGKILL');
            await this.ended;
            throw new Error(`${late.message}\n${this.stderr.slice(-3000)}`);
        } finally {
            if (this.ownsData && !keepData) removeDirectory(this.data);
        }
        this.checkWords();
        if (!isReference && this.exit.code !== 0)
            throw new Error(`exit ${JSON.stringify(this.exit)}\n${this.stderr.slice(-6000)}`);
    }

    /** One management request: {status, headers, json, body}. */
    async manage(method, pathname, options = {}) {
        const answer = await request(`${this.admin}${pathname}`, { method, ...options });
        const isJson = /^application\/json/.test(answer.headers['content-type'] ?? '');
        return { ...answer, json: isJson && answer.body !== '' ? JSON.parse(answer.body) : null };
    }

    /** kill -9. The data directory stays. */
    async crash() {
        if (!this.exit) this.signal('SIGKILL');
        await this.ended;
        this.checkWords();
    }

    /** Resident memory in bytes. */
    residentSize() {
        const rollup = fs.readFileSync(`/proc/${this.pid}/smaps_rollup`, 'utf8');
        return Number(/^Rss:\s+(\d+) kB/m.exec(rollup)[1]) * 1024;
    }
}

/** The command line for `options`, and the file it needs. Exported for tests of bad command lines.
 * Rate limits are off unless a test asks for them: most of these clients are faster than people.
 * So is the management listener, whose port only one server can have: `admin = 127.0.0.1:0`. */
export function commandLine({ port, data, cores = 1, durability = 'os', config = {}, logLevel = 'info', extra = [] }) {
    const settings = { admin: 'off', public_metrics: 'on', drain_seconds: 1, rate_limits: 'off', ...config };
    const file = path.join(temporaryDirectory('config'), 'teleportald.conf');
    fs.writeFileSync(file, Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`).join(''));
    return ['--config', file, '--listen', `127.0.0.1:${port}`, '--data', data, '--cores', String(cores),
        '--durability', durability, '--log-level', logLevel, ...extra];
}

/**
 * Starts a server and waits until it is ready.
 * cores, durability, config {name: value}, data (kept) or a fresh directory, port or a free one.
 */
export async function start(options = {}) {
    const port = options.port ?? (await freePort());
    const data = options.data ?? temporaryDirectory();
    const about = { port, data, ownsData: options.data === undefined };

    const child = isReference
        ? spawn(process.execPath, [path.join(here, 'node_modules/y-websocket-2/bin/server.cjs')],
            { env: { ...process.env, HOST: '127.0.0.1', PORT: String(port) }, stdio: ['ignore', 'pipe', 'pipe'] })
        : spawn(binary, commandLine({ ...options, port, data }), {
            cwd: root,
            stdio: ['ignore', 'pipe', 'pipe'],
            env: { ASAN_OPTIONS: 'detect_leaks=1', UBSAN_OPTIONS: 'print_stacktrace=1', ...process.env, ...options.env },
        });
    child.on('error', () => {});
    if (child.pid === undefined) throw new Error(`cannot start ${binary}`);
    const server = new Server(child, about);

    const end = Date.now() + READY_MS * patience;
    for (;;) {
        if (server.exit) throw new Error(`did not start: ${JSON.stringify(server.exit)}\n${server.stderr}`);
        if (Date.now() > end) throw new Error(`not ready in time\n${server.stderr}`);
        try {
            const answer = await request(`${server.http}${isReference ? '/' : '/readyz'}`, { timeout: 1000 });
            if (answer.status === 200) break;
        } catch {}
        await sleep(5);
    }
    if (!isReference && !server.stderr.includes(server.address))
        await until(() => server.stderr.includes(server.address), `a line on stderr that names ${server.address}`, 1000);
    server.admin = /managed at (http:\S+)/.exec(server.stderr)?.[1] ?? null;
    return server;
}

/** Runs the daemon until it ends by itself: for start-up errors. Resolves to {code, stderr}. */
export async function runToEnd(args, { ms = 10_000 } = {}) {
    const child = spawn(binary, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let stderr = '';
    child.stdout.on('data', () => {});
    child.stderr.on('data', text => (stderr += text));
    const timer = setTimeout(() => child.kill('SIGKILL'), ms * patience);
    const [code, signal] = await once(child, 'exit');
    clearTimeout(timer);
    if (FORBIDDEN.test(stderr)) throw new Error(stderr);
    return { code, signal, stderr };
}

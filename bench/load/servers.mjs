// servers.mjs - starts what is measured, each on a free port, with a scratch directory, on the
// cores it is given; and the generator beside it.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, '../..');
const build = path.join(root, process.env.LOAD_BUILD || 'build/release');
const peers = path.join(here, 'peers/node_modules');
const canPin = os.cpus().length > 1;

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

export async function freePort() {
    const probe = net.createServer();
    probe.listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address();
    probe.close();
    await once(probe, 'close');
    return port;
}

const children = new Set();
const directories = new Set();
export function scratch() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'teleportald-load-'));
    directories.add(dir);
    return dir;
}
process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    for (const dir of directories) fs.rmSync(dir, { recursive: true, force: true });
});
for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => process.exit(130));

// taskset replaces itself by the command, so the child's id is the server's.
function pinned(cpus, command, args, options) {
    const child =
        cpus === null || !canPin
            ? spawn(command, args, options)
            : spawn('taskset', ['-c', cpus, command, ...args], options);
    children.add(child);
    child.ended = once(child, 'exit').then(([code, signal]) => {
        children.delete(child);
        return { code, signal };
    });
    return child;
}

async function answers(port, child) {
    for (let i = 0; i < 400; i++) {
        const socket = net.connect(port, '127.0.0.1');
        const up = await Promise.race([
            once(socket, 'connect').then(() => true, () => false),
            child.ended.then(() => 'ended'),
        ]);
        socket.destroy();
        if (up === 'ended') throw new Error('a server ended at its start');
        if (up) return;
        await sleep(25);
    }
    throw new Error('a server did not listen');
}

// kind -> how it is started, and what the generator must know of it.
const kinds = {
    teleportald: {
        command: ({ port, data, cores, options }) => [
            path.join(build, 'teleportald'),
            [`--listen=127.0.0.1:${port}`, `--data=${data}`, `--cores=${cores}`, '--public-metrics=on', '--admin=off',
                '--rate-limits=off', '--drain-seconds=0', ...options],
        ],
        args: dialect => ['--metrics', ...(dialect === 'teleportal'
            ? ['--dialect', 'teleportal', '--path', '/teleportal']
            : ['--path', '/yjs/'])],
    },
    'teleportald-tls': {
        command: what => {
            const [command, args] = kinds.teleportald.command(what);
            const [certificate, key] = ['certificate.pem', 'key.pem'].map(name => path.join(what.data, name));
            fs.mkdirSync(what.data, { recursive: true });
            execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                '-days', '2', '-subj', '/CN=localhost', '-keyout', key, '-out', certificate], { stdio: 'ignore' });
            args[0] = `--listen=tls://127.0.0.1:${what.port}`;
            return [command, [...args, `--tls-certificate=${certificate}`, `--tls-key=${key}`]];
        },
        args: dialect => ['--tls', ...kinds.teleportald.args(dialect).filter(arg => arg !== '--metrics')],
    },
    floor: {
        command: ({ port, answer }) => [path.join(build, 'floor'), [String(port), ...(answer ? [String(answer)] : [])]],
        args: () => ['--stateless'],
    },
    'y-websocket': {
        command: () => [process.execPath, [path.join(peers, 'y-websocket/bin/server.cjs')]],
        environment: ({ port, data, stored }) => ({
            HOST: '127.0.0.1', PORT: String(port), ...(stored ? { YPERSISTENCE: data } : {}),
        }),
        args: () => [],
    },
    hocuspocus: {
        command: ({ port }) => [process.execPath, [path.join(here, 'peers/hocuspocus.mjs'), String(port)]],
        args: () => ['--dialect', 'hocuspocus'],
    },
};

/** Resolves when the server takes connections. `cpus` as for taskset, null for all. */
export async function start(kind, { cpus = '0', cores = 1, data = scratch(), answer, stored, options = [] } = {}) {
    const port = await freePort();
    const how = kinds[kind];
    const what = { port, data, cores, answer, stored, options };
    const [command, args] = how.command(what);
    const child = pinned(cpus, command, args, {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, NODE_ENV: 'production', ...how.environment?.(what) },
    });
    let said = '';
    child.stderr.on('data', text => (said = (said + text).slice(-4000)));
    await answers(port, child).catch(error => {
        throw new Error(`${kind}: ${error.message}\n${said}`);
    });
    return {
        kind, port, data, pid: child.pid,
        said: () => said,
        async stop() {
            child.kill('SIGTERM');
            const late = setTimeout(() => child.kill('SIGKILL'), 20000);
            const exit = await child.ended;
            clearTimeout(late);
            return exit;
        },
        args: dialect => ['--server', `127.0.0.1:${port}`, '--pid', String(child.pid), '--label', kind,
            ...how.args(dialect)],
    };
}

/** Runs the generator; resolves to its figures, or rejects with the reason why there are none. */
export async function load(args, { cpus = '1', seconds = 80 } = {}) {
    const child = pinned(cpus, path.join(build, 'load'), ['--json', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '', said = '';
    child.stdout.on('data', text => (out += text));
    child.stderr.on('data', text => (said += text));
    const late = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    const closed = once(child, 'close');
    const { code, signal } = await child.ended;
    await closed;
    clearTimeout(late);
    if (code !== 0) throw new Error(said.trim().split('\n')[0] || `the generator ended by ${signal ?? code}`);
    return JSON.parse(out);
}

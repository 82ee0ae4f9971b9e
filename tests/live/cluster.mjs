// cluster.mjs - brokers and nodes for suites about more than one machine.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freePort, patience, start, temporaryDirectory, until } from './harness.mjs';

/** A Redis server of Debian's on a port of its own; nothing on disk. */
export class Redis {
    static async start(port) {
        const redis = new Redis();
        redis.port = port ?? (await freePort());
        redis.child = spawn('redis-server', ['--port', String(redis.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
            { stdio: ['ignore', 'pipe', 'pipe'] });
        redis.child.on('error', error => (redis.failure = error));
        redis.child.stdout.on('data', () => {});
        redis.child.stderr.on('data', () => {});
        redis.ended = once(redis.child, 'exit');
        process.on('exit', () => redis.child.kill('SIGKILL'));
        await until(async () => {
            if (redis.failure) throw redis.failure;
            return redis.command('PING').then(answer => answer.startsWith('+PONG'), () => false);
        }, 'Redis answers');
        return redis;
    }

    get location() {
        return `redis://127.0.0.1:${this.port}`;
    }

    /** The raw answer to one command. */
    command(...words) {
        return new Promise((resolve, reject) => {
            const socket = net.connect(this.port, '127.0.0.1');
            let text = '';
            socket.setTimeout(2000 * patience, () => socket.destroy(new Error('no answer')));
            socket.on('error', reject);
            socket.on('data', part => {
                text += part;
                const [, size] = /^\$(\d+)\r\n/.exec(text) ?? [];
                if (size === undefined ? text.includes('\r\n') : text.length >= Number(size) + String(size).length + 5) {
                    socket.destroy();
                    resolve(text);
                }
            });
            socket.write(`*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`);
        });
    }

    /** How many PUBLISH commands it has seen. */
    async publishes() {
        const [, calls] = /cmdstat_publish:calls=(\d+)/.exec(await this.command('INFO', 'commandstats')) ?? [];
        return Number(calls ?? 0);
    }

    signal(name) {
        process.kill(this.child.pid, name);
    }

    async stop() {
        if (this.child.exitCode === null && this.child.signalCode === null) this.signal('SIGKILL');
        await this.ended;
    }
}

/** A NATS server of Debian's. */
export class Nats {
    static async start(port) {
        const nats = new Nats();
        nats.port = port ?? (await freePort());
        nats.child = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(nats.port)], { stdio: ['ignore', 'pipe', 'pipe'] });
        nats.child.on('error', error => (nats.failure = error));
        nats.child.stdout.on('data', () => {});
        nats.child.stderr.on('data', () => {});
        nats.ended = once(nats.child, 'exit');
        process.on('exit', () => nats.child.kill('SIGKILL'));
        await until(() => new Promise((resolve, reject) => {
            if (nats.failure) return reject(nats.failure);
            const socket = net.connect(nats.port, '127.0.0.1');
            socket.on('error', () => resolve(false));
            socket.on('data', data => (socket.destroy(), resolve(data.toString().startsWith('INFO'))));
        }), 'NATS answers');
        return nats;
    }

    get location() {
        return `nats://127.0.0.1:${this.port}`;
    }

    signal(name) {
        process.kill(this.child.pid, name);
    }

    async stop() {
        if (this.child.exitCode === null && this.child.signalCode === null) this.signal('SIGKILL');
        await this.ended;
    }
}

/** No broker: a group on the loopback interface, and a key. */
export class Multicast {
    static async start() {
        const group = new Multicast();
        group.port = await freePort();
        group.key = path.join(temporaryDirectory('key'), 'key');
        fs.writeFileSync(group.key, 'what only these nodes know\n');
        return group;
    }

    get location() {
        return `multicast://239.7.8.9:${this.port}?if=127.0.0.1&ttl=0&key_file=${this.key}`;
    }

    async stop() {}
}

/** The value of a metric, or 0. */
export async function metric(server, name) {
    const page = await (await fetch(`${server.http}/metrics`)).text();
    const [, value] = new RegExp(`^${name} (\\S+)$`, 'm').exec(page) ?? [];
    return Number(value ?? 0);
}

/** A node of the cluster behind `broker`, which has contact when this resolves. */
export async function startNode(broker, id, options = {}) {
    const server = await start({ ...options, config: { bridge: broker.location, node_id: id, ...options.config } });
    server.id = id;
    if (options.contact !== false) await connected(server, options.cores ?? 1);
    return server;
}

export const connected = (server, cores) =>
    until(async () => (await metric(server, 'teleportald_bridge_connected')) === cores, `${server.id} has contact`);

// smoke.mjs - the load generator itself under test: every workload in small against our server, with
// all checks; and wrong servers, which it must find out. Ends with `N passed, N failed`.

import { page } from './report.mjs';
import { load, start } from './servers.mjs';

let passed = 0, failed = 0;
async function test(sentence, body) {
    try {
        await body();
        passed++;
        console.log(`ok - ${sentence}`);
    } catch (error) {
        failed++;
        console.log(`not ok - ${sentence}\n    ${error.message}`);
    }
}
const is = (what, truth) => {
    if (!truth) throw new Error(what);
};
const limits = { cpus: null, seconds: 30 };

const server = await start('teleportald', { cpus: null });
const run = (dialect, ...args) => load([...server.args(dialect), '--timeout', '20', ...args], limits);
const lines = [];
for (const dialect of ['ywebsocket', 'teleportal']) {
    const workload = (sentence, args, check) =>
        test(`${dialect}: ${sentence}`, async () => {
            const result = await run(dialect, ...args.split(' '));
            lines.push({ run: '', time: '', commit: '', machine: {}, row: sentence, ...result });
            check(result);
        });
    await workload('everybody gets what one types', '--subscribers 20 --updates 100 typing', r => is('100 updates for 20', r.deliveries === 2000));
    await workload('everybody gets what three type in each of five documents', '--documents 5 --writers 3 --subscribers 4 --updates 60 typing',
        r => is('60 updates in 5 documents for 6', r.deliveries === 1800));
    await workload('popular documents have more of everything', '--documents 20 --subscribers 4 --zipf 1 --updates 20 typing', r => is('deliveries', r.deliveries > 0));
    await workload('what is offered at a rate is delivered at that rate', '--documents 5 --subscribers 10 --rate 2000 --seconds 1 typing',
        r => is(`${r.deliveries_per_s} of 2000 a second`, r.deliveries_per_s > 1000 && r.deliveries_per_s < 2200));
    await workload('cursors move', '--subscribers 20 --updates 100 cursors', r => is('deliveries', r.deliveries + r.overtaken === 2000));
    await workload('large pastes arrive', '--subscribers 5 --updates 5 paste', r => is('deliveries', r.deliveries === 25));
    await workload('readers that stopped catch up', '--subscribers 10 --stuck 5 --rate 2000 --seconds 1 slow', r => is('stuck', r.stuck === 5));
    await workload('clients connect and leave', '--clients 200 connect', r => is('a rate', r.syncs_per_s > 0));
    await workload('all connect at once', '--clients 200 --documents 20 storm', r => is('a rate', r.syncs_per_s > 0));
    await workload('a stored document is opened again and again', '--document-size 300k --structs 1000 --clients 20 sync', r => is('its bytes', r.bytes_per_s > 0));
    await workload('all open one large document at once', '--document-size 2m --clients 10 join', r => is('its bytes', r.bytes_per_s > 0));
    await workload('all come back and get what they missed', '--clients 100 --documents 10 reconnect', r => is('a rate', r.syncs_per_s > 0));
    await workload('connections are held', '--clients 200 --seconds 0.2 idle', r => is('held', r.rss > 0));
}
await test('teleportal: many documents share a connection', async () => {
    const result = await run('teleportal', '--documents', '100', '--multiplex', '50', '--subscribers', '3', '--zipf', '0', '--updates', '10', 'typing');
    is('deliveries', result.deliveries === 3000);
    is('acknowledged', result.ack_p99_us > 0);
});
await test('documents are filled, and opened after a restart', async () => {
    const cold = ['--prefix', 'cold', '--documents', '4', '--clients', '4', '--document-size', '100k'];
    await run('teleportal', ...cold, 'fill');
    await server.stop();
    const again = await start('teleportald', { cpus: null, data: server.data });
    const result = await load([...again.args('ywebsocket'), ...cold, '--filled', '--cold', 'sync'], limits);
    is('opened', result.syncs_per_s > 0);
    await again.stop();
});

await test('over TLS everybody gets what one types, a large document comes whole, and all come back', async () => {
    const tls = await start('teleportald-tls', { cpus: null });
    const over = (...args) => load([...tls.args('teleportal'), '--timeout', '20', ...args], limits);
    is('deliveries', (await over('--subscribers', '20', '--updates', '100', 'typing')).deliveries === 2000);
    is('its bytes', (await over('--document-size', '2m', '--clients', '10', 'join')).bytes_per_s > 0);
    is('a rate', (await over('--clients', '50', '--documents', '10', 'reconnect')).syncs_per_s > 0);
    await tls.stop();
});

// What a check is worth shows against servers that fail it.
const floor = await start('floor', { cpus: null });
const refuses = (sentence, args, reason) =>
    test(sentence, async () => {
        const why = await load([...floor.args().filter(arg => arg !== '--stateless'), ...args, '--timeout', '3'], limits).then(
            () => 'it printed figures',
            error => error.message,
        );
        is(why, reason.test(why));
    });
await refuses('a server that forgets has no figure', ['--subscribers', '5', '--updates', '20', 'typing'], /state is not what was written/);
await refuses('a server that keeps nothing has no figure of documents to open', ['--document-size', '1000', '--clients', '3', 'sync'], /not filled|not what was written|did not take/);
await refuses('a document that is not there is not synced', ['--document-size', '1000', '--clients', '3', '--filled', 'sync'], /not what was written/);
await test('the bare transfer sends what it was told to', async () => {
    const bare = await start('floor', { cpus: null, answer: 1 << 20 });
    const result = await load([...bare.args(), '--document-size', '1m', '--clients', '20', 'join'], limits);
    is('a megabyte each', result.bytes_per_s * result.seconds > 20e6);
    await bare.stop();
});
await floor.stop();
await test('a run becomes a page without a script or an address', async () => {
    const html = page(lines);
    is('a curve', html.includes('<polyline'));
    is('a bar', html.includes('<rect'));
    is('nothing from elsewhere', !/<script|https?:|src=/.test(html));
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);

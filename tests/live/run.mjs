// run.mjs - runs live suites against the real server.
//
//     node tests/live/run.mjs                          every suite, with one core and with two
//     node tests/live/run.mjs ywebsocket --cores 2     one suite, one count
//         --only TEXT   tests whose sentence has TEXT      --skip TEXT   those that have not
//         --seed N      repeats a run's random choices     --full        the long forms
//
// TELEPORTALD=path names the daemon, TEST_SERVER=reference starts the y-websocket 2.1.0 server for
// the suites that make sense there, TEST_VERBOSE=1 shows what the server says.
//
// Each suite ends with the line `N passed, N failed`; the exit status is 0 when none failed.

import { endEverything } from './harness.mjs';
import { Suite } from './suite.mjs';

// In the order of what is worth knowing first.
const SUITES = ['http', 'ywebsocket', 'teleportal', 'mixed', 'sse', 'rpc', 'files', 'transcripts', 'auth', 'tls', 'admin', 'documents', 'webhook', 'hostile', 'abuse', 'allocations', 'crash', 'balancer', 'idle', 'bridge', 'faults'];

const options = { cores: null, only: null, skip: null, full: false, seed: (Date.now() ^ (process.pid << 8)) >>> 0 };
const chosen = [];
const args = process.argv.slice(2);
while (args.length > 0) {
    const arg = args.shift();
    if (arg === '--full') options.full = true;
    else if (arg === '--cores') options.cores = Number(args.shift());
    else if (arg === '--seed') options.seed = Number(args.shift());
    else if (arg === '--only') options.only = args.shift();
    else if (arg === '--skip') options.skip = args.shift();
    else if (SUITES.includes(arg) || arg === 'browser') chosen.push(arg);
    else {
        console.error(`no suite or option called ${arg}; suites: ${SUITES.join(' ')} browser`);
        process.exit(2);
    }
}

process.on('unhandledRejection', error => {
    console.log(`not ok - something failed outside of every test: ${error?.stack || error}`);
    endEverything();
    process.exit(1);
});
for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => process.exit(130));

let failed = 0;
for (const name of chosen.length > 0 ? chosen : SUITES) {
    const { default: define } = await import(`./${name}.mjs`);
    for (const cores of options.cores ? [options.cores] : [1, 2]) {
        console.log(`# ${name}, cores = ${cores}, seed = ${options.seed}`);
        const began = Date.now();
        const suite = new Suite(name, { ...options, cores });
        await define(suite).catch(error => suite.test('runs to its end', () => Promise.reject(error)));
        failed += suite.failed;
        console.log(`# ${name} took ${((Date.now() - began) / 1000).toFixed(1)} s`);
        console.log(`${suite.passed} passed, ${suite.failed} failed`);
    }
}
process.exit(failed > 0 ? 1 : 0);

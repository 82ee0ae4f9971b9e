// The operations of crdt_bench, done by other libraries on the same traces: npm yjs 13, the yjs 14
// pre-release, and ywasm (Rust), which has no operations on updates and goes through a document.
//
//   node bench/micro/crdt-peers.mjs [--ours build/bench/crdt.jsonl] [--json FILE] [--limit SECONDS]
//
// Prints a table beside our figures. Each operation runs in a process of its own and may take --limit
// seconds; what does not end is printed as such. The best run counts. Exit status 0 says that it ran.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gunzipSync } from 'node:zlib'

const RUN_MS = 400
const BATCH = 500

const { values: options } = parseArgs({
  options: {
    ours: { type: 'string', default: 'build/bench/crdt.jsonl' },
    json: { type: 'string' },
    limit: { type: 'string', default: '15' },
    run: { type: 'string' } // a child's job, as JSON
  }
})

// ---- one operation of one library -----------------------------------------------------------------

const loadTrace = (name, encoding) => {
  const data = gunzipSync(readFileSync(`tests/vectors/yjs/${name}-updates-v${encoding}.bin.gz`))
  const updates = []
  for (let at = 0; at < data.length;) {
    let size = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = data[at++]
      size += (byte & 127) * shift
      if (byte < 128) break
    }
    updates.push(new Uint8Array(data.buffer, data.byteOffset + at, size))
    at += size
  }
  return updates
}

const batches = (updates, merge) => {
  const out = []
  for (let at = 0; at < updates.length; at += BATCH) out.push(merge(updates.slice(at, at + BATCH)))
  return out
}
const sizeOf = result => (Array.isArray(result) ? result.reduce((sum, part) => sum + part.length, 0) : result.length)

const yjsOperations = (Y, encoding) => {
  const [merge, diff, sv, convert] = encoding === 1
    ? [Y.mergeUpdates, Y.diffUpdate, Y.encodeStateVectorFromUpdate, Y.convertUpdateFormatV1ToV2]
    : [Y.mergeUpdatesV2, Y.diffUpdateV2, Y.encodeStateVectorFromUpdateV2, Y.convertUpdateFormatV2ToV1]
  // The state comes by way of batches: merging at once is what may never end.
  const state = ({ updates }) => merge(batches(updates, merge))
  const half = merged => Y.encodeStateVector(new Map([...Y.decodeStateVector(sv(merged))].map(([client, clock]) => [client, Math.floor(clock / 2)])))
  return {
    'merge at once': { prepare: trace => trace.updates, run: updates => merge(updates) },
    'merge in batches of 500': { prepare: trace => trace.updates, run: updates => batches(updates, merge) },
    'diff at half of the state': { prepare: trace => { const merged = state(trace); return [merged, half(merged)] }, run: ([merged, known]) => diff(merged, known) },
    'diff from nothing': { prepare: state, run: merged => diff(merged, new Uint8Array([0])) },
    'state vector of the state': { prepare: state, run: merged => sv(merged) },
    'convert the state': { prepare: state, run: merged => convert(merged) }
  }
}

const libraries = {
  'yjs 13': { load: () => import('yjs'), operations: yjsOperations },
  'yjs 14': { load: () => import('@y/y'), operations: yjsOperations },
  ywasm: {
    load: () => import('ywasm'),
    operations: (Y, encoding) => ({
      'merge at once': {
        prepare: trace => trace.updates,
        run: updates => {
          const doc = new Y.YDoc()
          for (const update of updates) encoding === 1 ? Y.applyUpdate(doc, update) : Y.applyUpdateV2(doc, update)
          const out = encoding === 1 ? Y.encodeStateAsUpdate(doc) : Y.encodeStateAsUpdateV2(doc)
          doc.free()
          return out
        }
      }
    })
  }
}

if (options.run !== undefined) {
  const { who, trace, encoding, op } = JSON.parse(options.run)
  const operation = libraries[who].operations(await libraries[who].load(), encoding)[op]
  if (operation === undefined) throw new Error(`${who} has no ${op}`)
  const input = operation.prepare({ updates: loadTrace(trace, encoding) })
  const rssBefore = process.memoryUsage().rss
  let best = Infinity
  let out
  for (let spent = 0, count = 0; count < 2 || (spent < RUN_MS && count < 50); count++) {
    const start = process.hrtime.bigint()
    out = operation.run(input)
    const took = Number(process.hrtime.bigint() - start)
    best = Math.min(best, took)
    spent += took / 1e6
    if (took > 5e9) break // once is enough of that
  }
  const peak = Math.max(0, process.resourceUsage().maxRSS - Math.floor(rssBefore / 1024))
  process.stdout.write(JSON.stringify({ ns: best, out_bytes: sizeOf(out), peak_kib: peak }))
  process.exit(0)
}

// ---- all of them, beside ours ---------------------------------------------------------------------

const ours = readFileSync(options.ours, 'utf8').trim().split('\n').map(line => JSON.parse(line))
const self = fileURLToPath(import.meta.url)
const limit = Number(options.limit)

const ask = job => {
  const child = spawnSync(process.execPath, [self, '--run', JSON.stringify(job)], { timeout: limit * 1000, killSignal: 'SIGKILL', encoding: 'utf8', maxBuffer: 1 << 24 })
  if (child.error?.code === 'ETIMEDOUT') return { unfinished: true }
  if (child.status !== 0) throw new Error(`${JSON.stringify(job)}: ${child.stderr.trim().split('\n').slice(0, 6).join('\n')}`)
  return JSON.parse(child.stdout)
}

const plan = {
  'yjs 13': ['merge at once', 'merge in batches of 500', 'diff at half of the state', 'diff from nothing', 'state vector of the state', 'convert the state'],
  'yjs 14': ['merge at once', 'merge in batches of 500'],
  ywasm: ['merge at once']
}
const notes = { ywasm: 'applied to a document, encoded again' }
const lines = []
const cell = (text, width) => String(text).padStart(width)

console.log(`${'trace'.padEnd(12)} ${'operation'.padEnd(27)} ${'who'.padEnd(11)} ${cell('ms', 10)} ${cell('ns/update', 10)} ${cell('MB/s', 8)} ${cell('peak MiB', 9)} ${cell('times ours', 11)}`)
for (const row of ours) {
  const asked = Object.keys(plan).filter(who => plan[who].includes(row.op))
  if (asked.length === 0) continue
  const print = (who, got, times, note = '') => console.log(`${(row.trace + ' V' + row.encoding).padEnd(12)} ${row.op.padEnd(27)} ${who.padEnd(11)} ` +
    (got.unfinished ? `${cell(`> ${limit} s, not finished`, 30)} ${cell('', 9)}` : `${cell((got.ns / 1e6).toFixed(3), 10)} ${cell((got.ns / row.updates).toFixed(1), 10)} ${cell((row.in_bytes * 1000 / got.ns).toFixed(0), 8)} ${cell(got.peak_kib === undefined ? '' : (got.peak_kib / 1024).toFixed(1), 9)}`) +
    ` ${cell(times, 11)} ${note}`)
  print('teleportald', row, '')
  for (const who of asked) {
    const got = ask({ who, trace: row.trace, encoding: row.encoding, op: row.op })
    const note = notes[who] ?? (!got.unfinished && got.out_bytes !== row.out_bytes ? `${got.out_bytes} bytes, ours ${row.out_bytes}` : '')
    print(who, got, got.unfinished ? `> ${(limit * 1e9 / row.ns).toFixed(0)}` : (got.ns / row.ns).toFixed(1), note)
    lines.push(JSON.stringify({ bench: 'crdt', who, trace: row.trace, encoding: row.encoding, op: row.op, updates: row.updates, in_bytes: row.in_bytes, limit_s: limit, ...got,
      ...(got.unfinished ? {} : { ns_per_update: +(got.ns / row.updates).toFixed(2), mb_per_s: +(row.in_bytes * 1000 / got.ns).toFixed(1) }) }))
  }
}
if (options.json !== undefined) writeFileSync(options.json, lines.join('\n') + '\n')

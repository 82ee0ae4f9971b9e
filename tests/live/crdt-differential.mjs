// Runs random editing sessions through `yupdate batch` and through npm yjs, and compares.
//
//   node tests/live/crdt-differential.mjs [--cases 3000] [--seed N] [--yupdate build/release/yupdate]
//
// A case is one session: a few clients edit text, formats, embeds, arrays, maps, XML, nested types and
// subdocuments, delete, undo, go offline and meet again. Its updates, whole, shuffled, doubled and with
// holes, are merged, cut, converted, compacted and damaged, in both encodings. Bytes must be those of yjs
// where spec 04 section 9 says so; after compaction, documents loaded from both must be equal. A failure
// prints the seed of its case: run that with --cases 1.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import * as Y from 'yjs'

const { values: options } = parseArgs({
  options: {
    cases: { type: 'string', default: '3000' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
    yupdate: { type: 'string', default: 'build/release/yupdate' }
  }
})

// ---- chance ---------------------------------------------------------------------------------------

/** mulberry32: 32 bits of state, good enough, the same everywhere. */
const chance = seed => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = n => Math.floor(next() * n)
  return {
    next,
    below,
    one: list => list[below(list.length)],
    happens: probability => next() < probability,
    shuffled: list => {
      const out = [...list]
      for (let i = out.length - 1; i > 0; i--) {
        const j = below(i + 1)
        ;[out[i], out[j]] = [out[j], out[i]]
      }
      return out
    }
  }
}

// ---- a session ------------------------------------------------------------------------------------

const WORDS = ['a', 'hello', ' ', 'ß', '漢字', '😀', '👩‍👩‍👧', '\n', 'x😀y', '\u0000', 'é', 'the quick brown fox']
const KEYS = ['k', 'key', '1', '0', 'ключ', 'a b', 'style']

const anyValue = (random, depth = 2) => {
  const scalars = [0, -0, 1, -1, 63, 64, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, 0.5, 1.1, 1e21, 1e-7, -3.25, NaN,
    Infinity, null, true, false, '', 'text', '😀', 'é"\\\n', new Uint8Array([1, 2, 255]), 123456789012345678n]
  if (depth === 0 || random.happens(0.7)) return random.one(scalars)
  if (random.happens(0.5)) return Array.from({ length: random.below(4) }, () => anyValue(random, depth - 1))
  return Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.one(KEYS), anyValue(random, depth - 1)]))
}

// Arrays of yjs 13 take no bigint at their top level.
const element = random => {
  const value = anyValue(random)
  return typeof value === 'bigint' ? [value] : value
}

// Embeds and formats are JSON in V1: what JSON cannot say would differ between the encodings.
const jsonValue = (random, depth = 2) => {
  const scalars = [0, 1, -1, 2 ** 31, 2 ** 40, 0.5, 1.1, 1e21, 5e-324, 1.5e-7, null, true, false, '', 'bold', '😀', '"\\\n\u0001']
  if (depth === 0 || random.happens(0.7)) return random.one(scalars)
  if (random.happens(0.5)) return Array.from({ length: random.below(4) }, () => jsonValue(random, depth - 1))
  return Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.one(KEYS), jsonValue(random, depth - 1)]))
}

const newType = (random, session) => {
  switch (random.below(session.subdocs ? 5 : 4)) {
    case 0: return new Y.Map([[random.one(KEYS), anyValue(random)]])
    case 1: return Y.Array.from([element(random), element(random)])
    case 2: return new Y.Text(random.one(WORDS))
    case 3: return new Y.XmlElement(random.one(['p', 'div', 'ü']))
    default: return new Y.Doc({ guid: `doc-${random.below(1e6)}`, ...(random.happens(0.3) ? { gc: false } : {}),
      ...(random.happens(0.3) ? { meta: jsonValue(random) } : {}), ...(random.happens(0.2) ? { autoLoad: true } : {}) })
  }
}

const editText = (random, text) => {
  const length = text.length
  const at = random.below(length + 1)
  const span = Math.min(length - at, 1 + random.below(8))
  switch (random.below(6)) {
    case 0: case 1: text.insert(at, random.one(WORDS)); break
    case 2: text.insert(at, random.one(WORDS), { [random.one(['bold', 'i', 'link'])]: jsonValue(random) }); break
    case 3: if (span > 0) text.delete(at, span); break
    case 4: if (span > 0) text.format(at, span, { [random.one(['bold', 'i', 'link'])]: random.happens(0.4) ? null : jsonValue(random) }); break
    case 5: text.insertEmbed(at, { image: jsonValue(random) }, random.happens(0.5) ? { width: 3 } : undefined); break
  }
}

const editArray = (random, session, array) => {
  const at = random.below(array.length + 1)
  const span = Math.min(array.length - at, 1 + random.below(4))
  if (random.happens(0.3)) { if (span > 0) array.delete(at, span) } else if (random.happens(0.3)) array.insert(at, [newType(random, session)])
  else array.insert(at, Array.from({ length: 1 + random.below(4) }, () => element(random)))
}

const editMap = (random, session, map) => {
  const key = random.one(KEYS)
  if (random.happens(0.25)) map.delete(key)
  else map.set(key, random.happens(0.25) ? newType(random, session) : anyValue(random))
}

const editXml = (random, session, xml) => {
  const at = random.below(xml.length + 1)
  if (xml.length > at && random.happens(0.25)) xml.delete(at, 1)
  else if (xml instanceof Y.XmlElement && random.happens(0.4)) xml.setAttribute(random.one(['id', 'class', 'ü']), random.one(WORDS))
  else if (random.happens(0.5)) xml.insert(at, [new Y.XmlElement(random.one(['p', 'b']))])
  else xml.insert(at, [new Y.XmlText(random.one(WORDS))])
}

/** Some type of the document: a root, or what a walk down from it ends at. */
const pickType = (random, doc, kinds) => {
  let type = { t: () => doc.getText('t'), a: () => doc.getArray('a'), m: () => doc.getMap('m'), x: () => doc.getXmlFragment('x') }[random.one(kinds)]()
  while (random.happens(0.6)) {
    const children = type instanceof Y.Map ? [...type.values()] : type instanceof Y.Text ? [] : type.toArray()
    const inner = children.filter(child => child instanceof Y.AbstractType)
    if (inner.length === 0) break
    type = random.one(inner)
  }
  return type
}

const edit = (random, session, client) => {
  const type = pickType(random, client.doc, session.kinds)
  if (client.undo && random.happens(0.15)) return random.happens(0.6) ? client.undo.undo() : client.undo.redo()
  client.doc.transact(() => {
    for (let i = 1 + (random.happens(0.3) ? random.below(4) : 0); i > 0; i--) {
      if (type instanceof Y.Text) editText(random, type)
      else if (type instanceof Y.Array) editArray(random, session, type)
      else if (type instanceof Y.Map) editMap(random, session, type)
      else editXml(random, session, type)
    }
  }, client)
}

const runSession = seed => {
  const random = chance(seed)
  const session = {
    kinds: random.one([['t'], ['a', 'm'], ['x'], ['t', 'a', 'm', 'x'], ['t', 'm']]),
    subdocs: random.happens(0.2)
  }
  const updates = [] // { v1, v2 } in the order in which they were made
  const clients = Array.from({ length: 1 + random.below(4) }, (_, i) => {
    const doc = new Y.Doc({ gc: random.happens(0.7) })
    doc.clientID = random.happens(0.5) ? 1 + i * 130 + random.below(100) : random.below(2 ** 32 - 10) + i
    const client = { doc, seen: 0 }
    let v1
    doc.on('update', (update, origin) => { if (origin !== 'remote') v1 = update })
    doc.on('updateV2', (update, origin) => { if (origin !== 'remote') updates.push({ v1, v2: update, from: client }) })
    if (random.happens(0.4)) {
      client.undo = new Y.UndoManager([doc.getText('t'), doc.getArray('a'), doc.getMap('m'), doc.getXmlFragment('x')],
        { captureTimeout: 0, trackedOrigins: new Set([client]) })
    }
    return client
  })
  for (let steps = 3 + random.below(18); steps > 0; steps--) {
    const client = random.one(clients)
    edit(random, session, client)
    if (random.happens(0.4)) { // someone comes online
      const other = random.one(clients)
      for (; other.seen < updates.length; other.seen++) Y.applyUpdate(other.doc, updates[other.seen].v1, 'remote')
    }
  }
  const states = random.happens(0.5) ? clients.map(({ doc }) => ({ v1: Y.encodeStateAsUpdate(doc), v2: Y.encodeStateAsUpdateV2(doc) })) : []
  const documents = clients.map(({ doc }) => doc)
  return { random, updates, states, documents }
}

// ---- what documents say ---------------------------------------------------------------------------

// yjs itself does not agree on split surrogate pairs: every half counts as U+FFFD (spec 04 section 9).
const plain = text => text.replace(/[\ud800-\udfff]/g, '\ufffd')

const dump = value => {
  if (value instanceof Y.Doc) return { $doc: value.guid }
  if (value instanceof Y.XmlText || value instanceof Y.Text) {
    const runs = [] // runs of equal attributes, one entry a unit: two documents may cut them differently
    for (const { insert, attributes } of value.toDelta()) {
      const units = typeof insert === 'string' ? plain(insert).split('') : [dump(insert)]
      for (const unit of units) runs.push([unit, dump(attributes ?? {})])
    }
    return { $text: runs }
  }
  if (value instanceof Y.XmlElement) return { $el: value.nodeName, attributes: dump(value.getAttributes()), children: value.toArray().map(dump) }
  if (value instanceof Y.XmlFragment) return { $frag: value.toArray().map(dump) }
  if (value instanceof Y.Map) return { $map: [...value.entries()].map(([key, entry]) => [key, dump(entry)]).sort((a, b) => (a[0] < b[0] ? -1 : 1)) }
  if (value instanceof Y.Array) return value.toArray().map(dump)
  if (typeof value === 'string') return plain(value)
  if (typeof value === 'bigint') return { $big: String(value) }
  if (value === undefined || (typeof value === 'number' && !Number.isFinite(value))) return { $odd: String(value) }
  if (value instanceof Uint8Array) return { $bytes: [...value] }
  if (Array.isArray(value)) return value.map(dump)
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, dump(entry)]))
  return value
}

const deletedCount = ranges => ranges.reduce((sum, range) => sum + range.len, 0)

/** How many ids an update says are deleted. What a map's key was overwritten with may delete more when it is loaded. */
const saidDeleted = (update, encoding) => {
  const { structs, ds } = encoding === 1 ? Y.decodeUpdate(update) : Y.decodeUpdateV2(update)
  const ids = new Set()
  for (const [client, ranges] of ds.clients) for (const { clock, len } of ranges) for (let i = 0; i < len; i++) ids.add(`${client} ${clock + i}`)
  for (const struct of structs) {
    if (!(struct instanceof Y.GC) && !(struct.content instanceof Y.ContentDeleted)) continue
    for (let i = 0; i < struct.length; i++) ids.add(`${struct.id.client} ${struct.id.clock + i}`)
  }
  return ids.size
}

const loaded = (updates, encoding, gc) => {
  const doc = new Y.Doc({ gc })
  for (const update of updates) encoding === 1 ? Y.applyUpdate(doc, update) : Y.applyUpdateV2(doc, update)
  const pending = doc.store.pendingStructs !== null || doc.store.pendingDs !== null
  const roots = { t: doc.getText('t'), a: doc.getArray('a'), m: doc.getMap('m'), x: doc.getXmlFragment('x') }
  return {
    pending,
    content: JSON.stringify(Object.fromEntries(Object.entries(roots).map(([name, type]) => [name, dump(type)]))),
    snapshot: base64(Y.encodeSnapshot(Y.snapshot(doc))),
    deleted: deletedCount([...Y.snapshot(doc).ds.clients.values()].flat()),
    state: Y.encodeStateAsUpdate(doc),
    sv: base64(Y.encodeStateVector(doc))
  }
}

// ---- the other side -------------------------------------------------------------------------------

const base64 = bytes => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
const bytes = text => new Uint8Array(Buffer.from(text, 'base64'))

const child = spawn(options.yupdate, ['batch'], { stdio: ['pipe', 'pipe', 'inherit'] })
const waiting = [] // { id, take }: answers come in order
let jobCount = 0

const fail = (seed, what, detail = '') => {
  console.error(`FAILED in the case of seed ${seed}: ${what}\n${detail}`)
  console.error(`run it alone: node tests/live/crdt-differential.mjs --cases 1 --seed ${seed}`)
  process.exit(1)
}

const ask = (job, take) => {
  const id = ++jobCount
  waiting.push({ id, take })
  child.stdin.write(JSON.stringify({ id, ...job }) + '\n')
}

/** A line that is no job: it has no id that could come back. */
const askNonsense = line => {
  waiting.push({ id: null, take: answer => { if (answer.ok || !answer.error) fail('any', `${line} is taken for a job`) } })
  child.stdin.write(line + '\n')
}

createInterface({ input: child.stdout, crlfDelay: Infinity }).on('line', line => {
  const answer = JSON.parse(line)
  const due = waiting.shift()
  if (due === undefined || answer.id !== due.id) fail('any', `answer ${answer.id} where ${due?.id} is due`)
  due.take(answer)
})
child.on('close', (code, signal) => {
  if (code !== 0 || waiting.length > 0) fail('any', `yupdate ended with ${code ?? signal}, ${waiting.length} answers missing`)
})

// ---- comparing ------------------------------------------------------------------------------------

const yjs = {
  1: { merge: Y.mergeUpdates, diff: Y.diffUpdate, sv: Y.encodeStateVectorFromUpdate, convert: Y.convertUpdateFormatV1ToV2, decode: Y.decodeUpdate, empty: new Uint8Array([0, 0]), apply: Y.applyUpdate },
  2: { merge: Y.mergeUpdatesV2, diff: Y.diffUpdateV2, sv: Y.encodeStateVectorFromUpdateV2, convert: Y.convertUpdateFormatV2ToV1, decode: Y.decodeUpdateV2, empty: new Uint8Array([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), apply: Y.applyUpdateV2 }
}
const counts = { cases: 0, equal: 0, ties: 0, documents: 0, damaged: 0, accepted: 0 }

/** An Item and a GC that start at the same id: yjs's own result depends on the sort (section 7.2 d). */
const hasTie = (updates, encoding) => {
  const kinds = new Map()
  for (const update of updates) {
    for (const struct of yjs[encoding].decode(update).structs) {
      const id = `${struct.id.client}:${struct.id.clock}`
      const kind = struct instanceof Y.GC ? 'gc' : 'item'
      if ((kinds.get(id) ?? kind) !== kind) return true
      kinds.set(id, kind)
    }
  }
  return false
}

const expectSame = (seed, what, encoding, got, want) => {
  const a = loaded([got], encoding, true)
  const b = loaded([want], encoding, true)
  counts.documents++
  if (a.content !== b.content || a.sv !== b.sv) fail(seed, `${what} V${encoding}: documents differ`, `got  ${a.content} ${a.sv}\nwant ${b.content} ${b.sv}`)
}

const checkBytes = (seed, what, encoding, job, field, want, inputs = []) => {
  ask(job, answer => {
    if (!answer.ok) fail(seed, `${what} V${encoding}: ${answer.error}`, JSON.stringify(job))
    if (answer[field] === base64(want)) counts.equal++
    else if (field === 'update' && inputs.length > 0 && hasTie(inputs, encoding)) {
      counts.ties++
      expectSame(seed, what, encoding, bytes(answer[field]), want)
    } else fail(seed, `${what} V${encoding}: bytes differ`, `job  ${JSON.stringify(job)}\ngot  ${answer[field]}\nwant ${base64(want)}`)
  })
}

const checkMerge = (seed, what, encoding, updates) => {
  const want = updates.length === 1 ? yjs[encoding].merge([updates[0], yjs[encoding].empty]) : updates.length === 0 ? yjs[encoding].empty : yjs[encoding].merge(updates)
  checkBytes(seed, what, encoding, { op: 'merge', v: encoding, updates: updates.map(base64) }, 'update', want, updates)
  return want
}

/** A compacted update is the same document. One of which parts are missing may show some of what it has sooner than
 * before (what became GC waits for nothing); with the rest, it is the same document. */
const checkCompaction = (seed, encoding, update, whole) => {
  const alone = loaded([update], encoding, true)
  const rest = alone.pending ? [whole] : []
  const before = alone.pending ? loaded([update, whole], encoding, true) : alone
  ask({ op: 'gc', v: encoding, updates: [base64(update)] }, answer => {
    if (!answer.ok) fail(seed, `gc V${encoding}: ${answer.error}`)
    for (const gc of [true, false]) {
      const after = loaded([bytes(answer.update), ...rest], encoding, gc)
      // A value whose overwriting was not yet said to delete it is joined with what overwrote it (spec 04 section 10.1,
      // step 9): the key has the same value, and the deletion comes with the one who has it.
      if (rest.length > 0 || before.deleted !== saidDeleted(update, encoding)) {
        const doc = new Y.Doc({ gc })
        for (const state of [after.state, before.state]) Y.applyUpdate(doc, state)
        after.snapshot = base64(Y.encodeSnapshot(Y.snapshot(doc)))
      }
      counts.documents++
      for (const name of ['content', 'sv', 'snapshot', 'pending']) {
        if (before[name] !== after[name]) fail(seed, `gc V${encoding}: ${name} differs (gc: ${gc})`, `update ${base64(update)}\ncompact ${answer.update}\nrest ${rest.map(base64)}\nbefore ${before[name]}\nafter  ${after[name]}`)
      }
    }
  })
}

/** What we let in must not make yjs throw: it would poison the document for everyone. The normal form counts. */
const checkDamaged = (seed, random, encoding, update) => {
  const damaged = Uint8Array.from(update)
  for (let i = 1 + random.below(3); i > 0; i--) damaged[random.below(damaged.length)] = random.happens(0.5) ? random.below(256) : random.below(8)
  let structs = 0
  counts.damaged++
  ask({ op: 'validate', v: encoding, updates: [base64(damaged)] }, answer => { structs = answer.ok ? answer.structs : 0 })
  ask({ op: 'merge', v: encoding, updates: [base64(damaged)] }, answer => {
    if (!answer.ok || structs > 5000) return // a run of a million empty structs takes yjs a while
    counts.accepted++
    try {
      yjs[encoding].apply(new Y.Doc(), bytes(answer.update))
    } catch (error) {
      fail(seed, `V${encoding}: accepted, but yjs throws ${error}`, `${base64(damaged)}\n${answer.update}`)
    }
  })
}

const partOf = (random, list) => list.filter(() => random.happens(0.6))

const checkEncoding = (seed, session, encoding) => {
  const { random } = session
  const v = encoding
  const updates = session.updates.map(u => u[`v${v}`])
  const states = session.states.map(u => u[`v${v}`])
  const tied = hasTie([...updates, ...states], v)

  const whole = checkMerge(seed, 'merge in order', v, updates)
  const partial = checkMerge(seed, 'merge of a part, shuffled', v, random.shuffled(partOf(random, updates)))
  checkMerge(seed, 'merge with doubles and states', v, random.shuffled([...updates, ...partOf(random, updates), ...states]))
  if (updates.length > 0) checkMerge(seed, 'merge of one', v, [random.one(updates)])

  for (const update of [whole, partial]) {
    const sv = Y.encodeStateVector(random.one(session.documents))
    const cut = new Map([...Y.decodeStateVector(sv)].map(([client, clock]) => [client, random.below(clock + 1)]))
    for (const known of [sv, Y.encodeStateVector(cut)]) {
      checkBytes(seed, 'diff', v, { op: 'diff', v, updates: [base64(update)], sv: base64(known) }, 'update', yjs[v].diff(update, known))
    }
    checkBytes(seed, 'state vector', v, { op: 'state-vector', v, updates: [base64(update)] }, 'sv', yjs[v].sv(update))
    // a value that V1 cannot say stops yjs too
    let converted
    try { converted = yjs[v].convert(update) } catch { converted = undefined }
    if (converted !== undefined) checkBytes(seed, 'convert', v, { op: 'convert', v, updates: [base64(update)] }, 'update', converted)
  }
  if (!tied) checkCompaction(seed, v, random.happens(0.7) ? whole : partial, whole)
  const doc = random.one(session.documents)
  const state = v === 1 ? Y.encodeStateAsUpdate(doc) : Y.encodeStateAsUpdateV2(doc)
  checkBytes(seed, 'snapshot', v, { op: 'snapshot', v, updates: [base64(state)] }, 'snapshot', v === 1 ? Y.encodeSnapshot(Y.snapshot(doc)) : Y.encodeSnapshotV2(Y.snapshot(doc)))
  for (let i = 0; i < 2; i++) checkDamaged(seed, random, v, random.one([whole, partial, ...updates]))
}

/** Lines that are no jobs are answered as such, and the next job is done all the same. */
const checkNonsense = () => {
  for (const line of ['{', '[]', '17', '"x"', 'null', '{}', '{"op":"merge"}', '{"op":"melt","updates":[]}', '{"op":"merge","updates":["!"]}',
    '{"op":"merge","updates":[1]}', '{"op":"merge","v":3,"updates":[]}', '{"op":"diff","updates":[],"sv":"gA=="}', '{"op":"merge","updates":["AA=="]}',
    '{"op":"merge","v":2,"updates":["AA=="]}', '{"op":"convert","to":"v1","updates":[]}', '\u0000', '\udcff', '['.repeat(100000)]) {
    askNonsense(line)
    ask({ op: 'validate', updates: [] }, answer => { if (!answer.ok || !answer.empty) fail('any', `after ${line}: ${answer.error}`) })
  }
}

// ---- the run --------------------------------------------------------------------------------------

const started = performance.now()
const firstSeed = Number(options.seed)
const caseCount = Number(options.cases)
console.log(`${caseCount} cases from seed ${firstSeed}`)
// yjs complains about types that it reads before they are part of a document; that is its own business
console.warn = () => {}
checkNonsense()
for (let i = 0; i < caseCount; i++) {
  const seed = firstSeed + i
  const session = runSession(seed)
  checkEncoding(seed, session, 1)
  checkEncoding(seed, session, 2)
  counts.cases++
  // let answers in, and do not run ahead of them
  do await new Promise(resolve => setImmediate(resolve)); while (waiting.length > 500)
}
child.stdin.end()
await new Promise(resolve => child.on('close', resolve))
const seconds = ((performance.now() - started) / 1000).toFixed(1)
console.log(`${counts.cases} cases in ${seconds} s: ${counts.equal} byte-equal answers, ${counts.ties} ties equal as documents, ` +
  `${counts.documents} documents compared, ${counts.accepted} of ${counts.damaged} damaged updates accepted and loaded by yjs`)
if (counts.equal === 0 || counts.documents === 0) fail(firstSeed, 'nothing was compared')
console.log(`${counts.cases} passed, 0 failed`)

// Makes the first corpus of the update, JSON and any fuzz targets from tests/vectors. Run from the
// repository root; what libFuzzer found later lies beside, and stays.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const SIZE_MAX = 600 // bytes of an input: small inputs mutate better
const COUNT_MAX = 70 // inputs of a target

const load = name => JSON.parse(readFileSync(`tests/vectors/${name}.json`))
const bytes = text => Buffer.from(text, 'base64')
const varuint = n => {
  const out = []
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128)
  return Buffer.from([...out, n])
}
const framed = data => Buffer.concat([varuint(data.length), data])
const flag = encoding => Buffer.from([encoding - 1])

const corpora = new Map()
const add = (target, ...parts) => {
  const input = Buffer.concat(parts)
  if (input.length > SIZE_MAX) return
  if (!corpora.has(target)) corpora.set(target, [])
  corpora.get(target).push(input)
}
const addUpdate = (encoding, update) => {
  for (const target of ['validate', 'convert', 'compact', 'inspect']) add(target, flag(encoding), update)
  if (encoding === 1) add('piece', Buffer.from([30]), update)
  add('diff', flag(encoding), framed(Buffer.from([0])), update)
}

for (const c of load('yjs/decode').cases) {
  addUpdate(1, bytes(c.v1))
  addUpdate(2, bytes(c.v2))
}
for (const c of load('yjs/malformed').cases.filter(c => !/^(prefix|mut-)/.test(c.id))) {
  for (const target of ['validate', 'convert', 'compact', 'inspect', 'merge']) {
    const update = bytes(c.u)
    add(target, flag(c.fmt === 'v1' ? 1 : 2), target === 'merge' ? framed(update) : update)
  }
}
for (const family of ['map', 'nested', 'nogc', 'richtext', 'subdocs', 'text', 'undo', 'xml']) {
  for (const c of load(`yjs/merge-${family}`).cases) {
    for (const encoding of [1, 2]) {
      const arrival = c.orders.find(o => o.name === 'arrival')[`m${encoding}`]
      addUpdate(encoding, bytes(arrival))
      const updates = c[`u${encoding}`].slice(0, 8).map(u => framed(bytes(u)))
      add('merge', flag(encoding), ...updates)
      add('merge', flag(encoding), ...updates.reverse())
      for (const d of c.diffs) add('diff', flag(encoding), framed(bytes(d.sv)), bytes(arrival))
    }
  }
}
for (const c of load('yjs/slice').overlap)
  for (const encoding of [1, 2]) add('merge', flag(encoding), ...c[`u${encoding}`].map(u => framed(bytes(u))))
for (const [, any] of load('yjs/primitives').any) add('any', bytes(any))
for (const [text, any] of load('json/javascript').texts) {
  add('json', bytes(text))
  add('any', bytes(any))
}
for (const v of load('wire/sse-documents-query').vectors) {
  add('sse', Buffer.from([64]), Buffer.from(v.query))
  add('sse', Buffer.from([2]), Buffer.from(v.query))
}
const arrays = load('wire/message-arrays')
for (const v of [...arrays.invalid, ...arrays.vectors]) add('sse', Buffer.from([65]), Buffer.from(v.hex, 'hex'))

for (const [target, inputs] of corpora) {
  const folder = `tests/fuzz/corpus/${target}`
  mkdirSync(folder, { recursive: true })
  const step = Math.max(1, inputs.length / COUNT_MAX) // evenly over all sources
  for (let at = 0; at < inputs.length; at += step) {
    const input = inputs[Math.floor(at)]
    writeFileSync(`${folder}/seed-${createHash('sha1').update(input).digest('hex').slice(0, 12)}`, input)
  }
}

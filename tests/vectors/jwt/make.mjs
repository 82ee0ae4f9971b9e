// Makes algorithms.json: one key and one token for every algorithm, signed by Node's own crypto.
//
//     node tests/vectors/jwt/make.mjs > tests/vectors/jwt/algorithms.json
//
// The private keys are thrown away, so every run makes another file.

import crypto from 'node:crypto';

const encode = value => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const claims = {
    userId: 'nick', room: 'docs', iss: 'teleportal', aud: 'teleportal', iat: 1800000000, exp: 1800003600,
    documentAccess: [{ pattern: 'org/*', permissions: ['read', 'write'] }],
};

function sign(alg, key, input) {
    const data = Buffer.from(input);
    switch (alg) {
    case 'HS256': case 'HS384': case 'HS512': return crypto.createHmac(`sha${alg.slice(2)}`, key).update(data).digest();
    case 'RS256': return crypto.sign('sha256', data, key);
    case 'PS256': return crypto.sign('sha256', data, { key, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    case 'ES256': return crypto.sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' });
    case 'EdDSA': return crypto.sign(null, data, key);
    }
}

function token(alg, key, kid) {
    const input = `${encode({ alg, ...(kid && { kid }) })}.${encode(claims)}`;
    return `${input}.${sign(alg, key, input).toString('base64url')}`;
}

const keys = [], tokens = [];
function add(name, alg, jwk, key) {
    const kid = name;
    keys.push({ ...jwk, kid, alg, use: 'sig' });
    tokens.push({ name, alg, token: token(alg, key, kid), withoutKid: token(alg, key) });
}

for (const bits of [256, 384, 512]) {
    const secret = crypto.randomBytes(bits / 8);
    add(`hs${bits}`, `HS${bits}`, { kty: 'oct', k: secret.toString('base64url') }, secret);
}
for (const [name, alg, bits] of [['rs256', 'RS256', 2048], ['rs256-4096', 'RS256', 4096], ['ps256', 'PS256', 2048]]) {
    const pair = crypto.generateKeyPairSync('rsa', { modulusLength: bits });
    add(name, alg, pair.publicKey.export({ format: 'jwk' }), pair.privateKey);
}
for (const name of ['es256', 'es256-other']) {
    const pair = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
    add(name, 'ES256', pair.publicKey.export({ format: 'jwk' }), pair.privateKey);
}
{
    const pair = crypto.generateKeyPairSync('ed25519');
    add('eddsa', 'EdDSA', pair.publicKey.export({ format: 'jwk' }), pair.privateKey);
}

// A token that names a shared-secret algorithm and uses what everybody knows of a public key.
const confused = [];
for (const [name, alg] of [['rs256', 'HS256'], ['es256', 'HS256'], ['eddsa', 'HS256'], ['rs256', 'HS512']]) {
    const jwk = keys.find(key => key.kid === name);
    const known = crypto.createPublicKey({ key: jwk, format: 'jwk' });
    for (const [form, secret] of [
        ['pem', known.export({ type: 'spki', format: 'pem' })],
        ['der', known.export({ type: 'spki', format: 'der' })],
        ['number', Buffer.from(jwk.n ?? jwk.x, 'base64url')],
    ])
        confused.push({ name: `${alg} with ${name} as ${form}`, token: token(alg, secret, name), withoutKid: token(alg, secret) });
}

console.log(JSON.stringify({ about: 'One key and one token per algorithm; make.mjs made them.', now: 1800000000, jwks: { keys }, tokens, confused }, null, 1));

// tokens.mjs - keys and tokens as an application's server makes them, with Node's own crypto.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { temporaryDirectory } from './harness.mjs';

const encode = value => Buffer.from(JSON.stringify(value)).toString('base64url');
const nowSeconds = () => Date.now() / 1000;

/** A key that signs tokens of one algorithm. `jwk` is what a server may know of it. */
export class Key {
    constructor(alg, kid = alg.toLowerCase()) {
        Object.assign(this, { alg, kid });
        if (alg.startsWith('HS')) {
            this.secret = crypto.randomBytes(64);
            this.jwk = { kty: 'oct', k: this.secret.toString('base64url'), alg, kid };
            return;
        }
        const pair =
            alg === 'ES256' ? crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' })
            : alg === 'EdDSA' ? crypto.generateKeyPairSync('ed25519')
            : crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
        this.private = pair.privateKey;
        this.public = pair.publicKey;
        this.jwk = { ...pair.publicKey.export({ format: 'jwk' }), alg, kid, use: 'sig' };
    }

    sign(input) {
        const data = Buffer.from(input);
        switch (this.alg) {
            case 'HS256': case 'HS384': case 'HS512':
                return crypto.createHmac(`sha${this.alg.slice(2)}`, this.secret).update(data).digest();
            case 'RS256': return crypto.sign('sha256', data, this.private);
            case 'PS256':
                return crypto.sign('sha256', data, { key: this.private, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
            case 'ES256': return crypto.sign('sha256', data, { key: this.private, dsaEncoding: 'ieee-p1363' });
            case 'EdDSA': return crypto.sign(null, data, this.private);
        }
    }

    /** claims: {user, room, access: {pattern: 'read write'}, expiresIn} and any claim by its name. */
    token({ user = 'nick', room = 'docs', access = { '*': 'admin' }, expiresIn = 3600, ...claims } = {}, header = {}) {
        const documentAccess = access && Object.entries(access).map(([pattern, list]) => ({ pattern, permissions: list.split(' ').filter(Boolean) }));
        const payload = {
            userId: user, room, ...(documentAccess && { documentAccess }), iss: 'teleportal', aud: 'teleportal',
            iat: Math.floor(nowSeconds()), ...(expiresIn !== null && { exp: nowSeconds() + expiresIn }), ...claims,
        };
        const input = `${encode({ alg: this.alg, kid: this.kid, ...header })}.${encode(payload)}`;
        return `${input}.${this.sign(input).toString('base64url')}`;
    }
}

/** Options for start(): auth by these keys, in a JWKS file that `write(keys)` replaces. */
export function keyFile(keys, config = {}) {
    const file = path.join(temporaryDirectory('keys'), 'jwks.json');
    const write = list => fs.writeFileSync(file, JSON.stringify({ keys: list.map(key => key.jwk) }));
    write(keys);
    return { file, write, config: { auth: 'jwt', jwks_file: file, ...config } };
}

export const withToken = (url, token) => `${url}?token=${encodeURIComponent(token)}`;
